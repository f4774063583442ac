"""Devices by name, and going on with fewer models where memory ends."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch

import zoosparse_ext as zs
from tests.population.tiny import batch_normed, chain, population
from zoosparse_ext.errors import InputError
from zoosparse_ext.population import evaluate as evaluation
from zoosparse_ext.population.devices import by_rows, device_of
from zoosparse_ext.population.plan import Plan

ENDED = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has no more."


def test_devices_by_name() -> None:
    like = torch.empty(0, device="meta")
    assert device_of(None, like).type == "meta" and device_of("cpu", like).type == "cpu"
    assert device_of(torch.device("cpu"), like).type == "cpu"
    with pytest.raises(InputError, match="device 'gpu': there is no such device; write 'cpu' or 'cuda'"):
        device_of("gpu", like)
    with pytest.raises(InputError, match=r"device 'cuda:99': torch .* sees .* CUDA devices on this machine"):
        device_of("cuda:99", like)
    with pytest.raises(InputError, match="device 'vulkan' cannot be used here"):
        device_of("vulkan", like)


def test_a_population_stays_where_it_is_if_it_cannot_move() -> None:
    moved = population(chain)
    with pytest.raises(InputError, match="device 'cuda:99'"):
        moved.to("cuda:99")
    assert moved.to("cpu") is moved and moved.weights.device.type == "cpu"


def test_a_plan_names_its_device_at_once() -> None:
    with pytest.raises(InputError, match="there is no such device"):
        population(chain).compile(device="gpu")
    assert population(chain).compile(device="cpu").where == torch.device("cpu")


@pytest.mark.parametrize(
    ("n", "room", "widths"), [(0, 9, [0]), (5, 9, [5]), (9, 4, [3, 3, 3]), (3, 1, [1, 1, 1])]
)
def test_half_as_many_rows_where_memory_ends(
    n: int, room: int, widths: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    def run(rows: slice) -> range:
        if rows.stop - rows.start > room:
            raise torch.OutOfMemoryError(ENDED)
        return range(rows.start, rows.stop)

    with caplog.at_level(logging.WARNING, logger="zoosparse_ext"):
        parts = by_rows(n, run)
    assert [len(part) for part in parts] == widths
    assert [row for part in parts for row in part] == list(range(n))
    assert ("CUDA out of memory: going on with" in caplog.text) == (n > room)


def test_memory_for_not_even_one_model() -> None:
    def run(rows: slice) -> None:
        raise torch.OutOfMemoryError(ENDED)

    with pytest.raises(
        InputError, match="one model is too much for the memory of the device: CUDA out of memory"
    ):
        by_rows(4, run)


@pytest.mark.parametrize("engine", ["native", "reference"])
def test_evaluation_in_parts_is_that_of_the_whole(
    data: zs.Dataset, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    models = population(chain, n=5)
    if engine == "reference":
        monkeypatch.setattr(Plan, "why_not_native", lambda plan, images: "a test says so")
    expected, whole = zs.evaluate(models, data), evaluation.by_rows

    def by_two(n: int, run: object, most: int | None = None) -> object:
        return whole(n, run, 2)  # type: ignore[arg-type]

    monkeypatch.setattr(evaluation, "by_rows", by_two)
    result = zs.evaluate(models, data)
    assert torch.equal(result.predictions, expected.predictions)
    torch.testing.assert_close(result.loss, expected.loss)


WITHOUT_DATA: dict[str, Callable[[zs.Population, zs.Dataset], object]] = {
    "train": lambda ours, data: zs.train(ours, data, epochs=1),
    "evaluate": lambda ours, data: zs.evaluate(ours, data),
    "recalibrate": lambda ours, data: zs.evaluate(ours, data, recalibrate=data.train),
    "recalibrate alone": lambda ours, data: zs.recalibrate(ours, data.train),
    "prune": lambda ours, data: zs.magnitude_prune(ours, 0.5),
    "variational dropout": lambda ours, data: zs.variational_dropout(ours, data, epochs=1),
    "ensemble": lambda ours, data: zs.Ensemble(ours).evaluate(data),
    "move": lambda ours, data: ours.to("cpu"),
    "modules": lambda ours, data: ours.to_modules(),
}


@pytest.mark.parametrize("work", WITHOUT_DATA)
def test_weights_without_data(work: str, data: zs.Dataset) -> None:
    ours = population(batch_normed)
    ours = zs.Population(ours.weights.to("meta"), ours.architecture, ours.models)
    with pytest.raises(InputError, match="weights are on the meta device, which holds no data"):
        WITHOUT_DATA[work](ours, data)


def test_images_without_data(data: zs.Dataset) -> None:
    ours, images = population(chain), data.test.normalized()
    with pytest.raises(
        InputError, match="images are on the meta device, which holds no data; the weights are on cpu"
    ):
        ours(images.to("meta"))
    there = zs.Population(ours.weights.to("meta"), ours.architecture)
    assert there(images.to("meta")).shape == ours(images).shape
