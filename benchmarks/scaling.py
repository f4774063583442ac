"""A stage of a study on Ray with one worker and with two, against the same chunks one after the other in this process.

The job: 128 models of CNN-s on digits for 2 epochs in chunks of 16, the same bits in every run. Workers have one core
each, and the local run one thread. Two workers that lose nothing take half the time of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from conftest import Contender
from torch import Tensor

import zoosparse_ext as zs
from zoosparse_ext.study.chunks import Chunk, cut
from zoosparse_ext.study.config import make_config
from zoosparse_ext.study.grid import model_groups
from zoosparse_ext.study.runner import LocalRunner, Runner
from zoosparse_ext.study.work import Training

MODELS, EPOCHS, CHUNK = 128, 2, 16


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """One cluster for all workers; what they may use of it is counted, not enforced."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'zoosparse-ext[ray]'")
    ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def chunks(data: zs.Dataset) -> list[Chunk]:
    groups = model_groups(
        make_config({"zoo": {"seeds": MODELS, "epochs": EPOCHS}}, origin="benchmark").zoo, data
    )
    return cut("original", [Training({"epochs": EPOCHS}, group) for group in groups], CHUNK)


def test_scaling(race: Callable[..., None], cluster: None) -> None:
    from zoosparse_ext.study.ray_runner import RayRunner

    data = zs.load_dataset("digits")
    work = chunks(data)

    def run(runner: Runner) -> Tensor:
        return torch.cat([population.weights for population in runner.run(work, data)])

    with RayRunner(workers=1, cores=1) as one, RayRunner(workers=2, cores=1) as two:
        race(
            {
                "Ray, 2 workers": Contender(lambda: run(two)),
                "Ray, 1 worker": Contender(lambda: run(one)),
                "this process, 1 thread": Contender(lambda: run(LocalRunner(CHUNK))),
            },
            rounds=5,
        )
