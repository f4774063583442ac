"""What a study will do, and what that takes: networks, time, memory and disk of every stage, before any of it runs.

Time comes from training a few of the study's own networks for a moment on this machine; memory and disk from counting
what is kept. The analysis and the report are not counted.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch

from zoosparse_ext.data import Dataset
from zoosparse_ext.population.evaluate import evaluate
from zoosparse_ext.population.learning import Learned
from zoosparse_ext.population.optimizers import Optimizer
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.train import train
from zoosparse_ext.sparsify.methods import LearnedMethod
from zoosparse_ext.study.config import StudyConfig
from zoosparse_ext.study.grid import ModelGroup, model_groups
from zoosparse_ext.study.inheritance import SourceOptimizer
from zoosparse_ext.study.sections import make_optimizer
from zoosparse_ext.study.twin_stages import planned_zoo, twin_stages

_MODELS = 64  # that are timed together, as many as train in one call,
_PARAMETERS = 2**22  # unless they have more than so many in all
_RULE = 1.5e8  # parameters × images that one thread trains in a second, or so
_SECONDS = 0.5  # that timing one kind of work on all architectures should take at least
_IMAGES = 64  # to begin with
_FLOAT = 4  # bytes


@dataclass(frozen=True)
class Stage:
    """One population of a study.

    Args:
        population: its name in the zoo.
        networks: how many.
        epochs: of training or fine-tuning.
        seconds: from its first step to its last.
        memory: bytes at the peak, everything that this process holds included.
        disk: bytes that it adds to the zoo; at most, where it is not known how sparse its twins will be.
        resume: bytes of the file that keeps its epochs while it is not done.
    """

    population: str
    networks: int
    epochs: int
    seconds: float
    memory: int
    disk: int
    resume: int


@dataclass(frozen=True)
class _Work:
    """What a stage does with every model: twins of one kind, by one kind of training."""

    population: str
    twins: int  # per model
    epochs: int
    batch_size: int
    optimizer: Optimizer | None  # None: that of the model
    learned: LearnedMethod | None = None
    masks: bool = True
    density: float = 1.0  # share of the weights that stays, as far as it is known before
    kept: int = 0  # earlier epochs at which the networks are kept
    rewound: bool = False  # to an earlier epoch of the models
    state: bool = False  # the optimizer's is kept as well


def plan_study(
    config: StudyConfig, data: Dataset, done: Collection[str] = (), seconds: float | None = None
) -> list[Stage]:
    """The stages of a study in order, measured on this machine in a few seconds.

    Args:
        done: populations that are there already, and cost nothing more.
        seconds: that timing one kind of work should take at least. Default: half a second.

    Raises:
        InputError: images that do not fit the architecture; variants that make the same twins.
    """
    groups = model_groups(config.zoo, data)
    evaluated = {"original": sum(map(len, data.splits.values())) - len(data.train)}
    speeds = _Speeds(groups, data, seconds)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    stages = []
    for work in _works(config, groups):
        parameters = sum(len(group.models) * group.architecture.n_parameters for group in groups) * work.twins
        networks = sum(len(group.models) for group in groups) * work.twins
        kept = _kept(work, parameters, networks * len(data.test))
        if work.population not in done:
            images = evaluated.get(work.population, len(data.test))
            moments = (4 if work.learned is not None else 2) * _FLOAT * parameters
            earlier = work.kept * kept
            rewound = 2 * _FLOAT * parameters // work.twins if work.rewound else 0  # as read, and masked
            pruned = round((1 - work.density) * _FLOAT * parameters)  # zeros, which the store leaves out
            stages.append(
                Stage(
                    work.population,
                    networks,
                    work.epochs,
                    seconds=sum(_seconds(work, group, speeds, len(data.train), images) for group in groups),
                    # The state is copied once more when the file of the epoch is written.
                    memory=held + 2 * (kept + moments) + earlier + rewound,
                    disk=kept - pruned + earlier + (moments if work.state else 0),
                    resume=kept + moments + earlier,
                )
            )
        if work.population == "original":  # what the others start from; what they made stays on disk
            held += kept
    return stages


def rough_seconds(config: StudyConfig, data: Dataset, done: Collection[str] = ()) -> float:
    """What a study takes by a rule of thumb, in no time: to decide whether measuring is worth it."""
    groups = model_groups(config.zoo, data)
    return sum(
        work.twins
        * work.epochs
        * len(data.train)
        * sum(len(group.models) * group.architecture.n_parameters for group in groups)
        for work in _works(config, groups)
        if work.population not in done
    ) / (_RULE * torch.get_num_threads())


def _seconds(work: _Work, group: ModelGroup, speeds: _Speeds, images: int, evaluated: int) -> float:
    """What the networks of a group take, from the first step to the last."""
    trained = 1 if work.learned is not None else work.twins  # one training gives the twins of all ratios
    training = work.epochs * images * speeds.training(group, work) if work.epochs else 0.0
    evaluation = (work.epochs + 1) * evaluated * speeds.evaluation(group)
    return len(group.models) * (trained * training + work.twins * evaluation)


def _works(config: StudyConfig, groups: list[ModelGroup]) -> list[_Work]:
    """What `run_study` does, in its order."""
    stages = twin_stages(config, planned_zoo(config, groups))
    keeps_state = any(stage.training["optimizer_state"] == "source" for stage in stages)
    original = _Work(
        "original",
        twins=1,
        epochs=config.zoo.epochs,
        batch_size=config.zoo.batch_size,
        optimizer=None,
        masks=False,
        kept=len(config.kept_epochs),
        state=keeps_state,
    )
    return [
        original,
        *(
            _Work(
                stage.population,
                max(1, len(stage.ratios)),
                stage.epochs,
                stage.training["batch_size"],
                None if isinstance(stage.optimizer, SourceOptimizer) else stage.optimizer,
                learned=stage.learned,
                density=1 - sum(stage.ratios) / max(1, len(stage.ratios)),
                kept=len(stage.keep),
                rewound=stage.pruning.rewind_to is not None and stage.pruning.rewind == "weights",
            )
            for stage in stages
        ),
    ]


def _kept(work: _Work, parameters: int, predictions: int) -> int:
    """Bytes of weights, masks, log σ² and predictions."""
    matrices = 2 if work.learned is not None else 1
    return matrices * _FLOAT * parameters + (parameters // 8 if work.masks else 0) + predictions


class _Speeds:
    """Seconds per network and image of every architecture, measured when first asked for."""

    def __init__(self, groups: list[ModelGroup], data: Dataset, seconds: float | None = None) -> None:
        self.data = data
        self.patience = 4 * (seconds or _SECONDS)  # with a first run
        self.seconds = (seconds or _SECONDS) / len({group.architecture.name for group in groups})
        self.known: dict[tuple[object, ...], float] = {}

    def evaluation(self, group: ModelGroup) -> float:
        population = _sample(group)
        key = (group.architecture.name, "evaluate")
        return self._measured(key, len(population), lambda images: evaluate(population, images.train))

    def training(self, group: ModelGroup, work: _Work) -> float:
        population = _sample(group)
        kind = group.optimizer.kind if work.optimizer is None else work.optimizer.kind
        learned = None
        if work.learned is not None:
            start = work.learned.start.items()
            learned = Learned(
                work.learned, {name: torch.full_like(population.weights, at) for name, at in start}
            )

        def run(images: Dataset) -> None:
            train(
                population,
                images,
                epochs=1,
                batch_size=work.batch_size,
                optimizer=make_optimizer(kind, 1e-3),
                splits=(),
                learned=learned,
            )

        key = (group.architecture.name, work.batch_size, kind, type(work.learned))
        return self._measured(key, len(population), run)

    def _measured(self, key: tuple[object, ...], networks: int, run: Callable[[Dataset], object]) -> float:
        """Seconds per network and image: on ever more images, until it takes long enough.

        The first run warms up and is repeated, unless it is so slow that this does not matter.
        """
        if key not in self.known:
            for attempt, count in enumerate(_counts(len(self.data.train))):
                images = self.data.limit(count)
                started = time.perf_counter()
                run(images)
                seconds = time.perf_counter() - started
                self.known[key] = seconds / (networks * count)
                if seconds > (self.seconds if attempt else self.patience):
                    break
        return self.known[key]


def _counts(images: int) -> Iterator[int]:
    """Images of one run after another, up to all there are; the first number comes twice.

    >>> list(_counts(1000))
    [64, 64, 256, 1000]
    """
    count = min(_IMAGES, images)
    yield count
    yield count
    while count < images:
        count = min(4 * count, images)
        yield count


def _sample(group: ModelGroup) -> Population:
    models = group.models.head(max(1, min(_MODELS, _PARAMETERS // group.architecture.n_parameters)))
    return Population.initialise(group.architecture, models.seed.tolist(), models.init.tolist(), models)
