"""Options of a training: one frozen object, which keywords, flags, keys of studies, names of series and checkpoints are
made of."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.options import check_options, option, options_of
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.engines import ENGINES
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.population.optimizer_state import START
from zoosparse_ext.population.optimizers import Adam, Optimizer, optimizer_texts, require_optimizer
from zoosparse_ext.population.schedules import SCHEDULES, Constant, schedule
from zoosparse_ext.words import Texts, changed, number_text

ORDERS = ("per-model", "shared")


@dataclass(frozen=True)
class Training:
    """How networks are trained: everything that decides the result, beside the networks and the data.

    Whatever takes a `Training` takes its options as keywords as well, alone or to change some of them.

    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(100)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 5))
    >>> training = zs.Training(epochs=2, optimizer=zs.Adam(lr=3e-3))
    >>> history = zs.train(population, data, training)
    >>> twins = zs.magnitude_prune(population, 0.8, data=data, training=training, seed=1)
    >>> training.but(epochs=5)
    Training(epochs=5, optimizer=Adam(lr=0.003, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0))

    Args:
        epochs: passes over the training images; 0 trains nothing.
        batch_size: images per step; the last batch of an epoch may be smaller.
        optimizer: hyperparameters are numbers, or one per model.
        lr_schedule: ``"constant"``, ``"step"``, ``"cosine"``, ``"onecycle"``, or an object from `schedules`.
        loss: ``"cross_entropy"``, or ``"mse"``, the mean square distance of the scores to the one-hot vector of the
            label. Evaluations are cross-entropies in any case.
        augment: random crops and flips of the training images, see `Augment`.
        order: ``"per-model"`` (each model its own shuffle) or ``"shared"``.
        drop_last: leave out the last batch of an epoch where it is smaller than the others.
        seed: second half of the key of all random numbers; the first is each model's own seed.
        optimizer_state: ``"new"``, or ``"source"`` to continue with the moments that the population has kept, and with
            the images of the epochs that would have come next. With a constant learning rate and an equal `seed`,
            3 + 2 epochs are then 5, bit for bit.

    Raises:
        InputError: an option of another kind or out of its range.
    """

    epochs: int = option(help="Passes over the training images.", low=0)
    batch_size: int = option(10, "Images per step.", low=1)
    optimizer: Optimizer = option(Adam(lr=1e-3), "The optimizer and its hyperparameters.")
    lr_schedule: str | Constant = option(
        "constant", f"Schedule of the learning rate: {', '.join(SCHEDULES)}.", choices=SCHEDULES
    )
    loss: str = option(
        "cross_entropy", "Loss: cross_entropy, or mse to one-hot labels.", choices=ops.train.LOSSES
    )
    augment: Augment | None = option(None, "Random crops and flips of the training images.")
    order: str = option(
        "per-model", "Order of the images: per-model (each its own shuffle) or shared.", choices=ORDERS
    )
    drop_last: bool = option(
        False, "Leave out the last batch of an epoch where it is smaller than the others."
    )
    seed: int = option(0, "Seed for shuffling and noise; each model adds its own.")
    optimizer_state: str = option(
        "new",
        "State of the optimizer: new, or source to continue with the moments that the zoo's models keep.",
        choices=START,
    )

    def __post_init__(self) -> None:
        check_options(self)
        require_optimizer(self.optimizer)
        schedule(self.lr_schedule)
        if self.augment is not None:
            require_kind("augment", self.augment, Augment, "zs.Augment(…), or None")

    def __repr__(self) -> str:
        """The options that are not at their defaults."""
        said = [(item.name, getattr(self, item.name), item.default) for item in fields(self)]
        return (
            f"Training({', '.join(f'{name}={value!r}' for name, value, usual in said if value is not usual)})"
        )

    def but(self, **changes: Any) -> Training:
        """The same training with some options changed.

        Raises:
            InputError: no such option, or a value that it cannot have.
        """
        _refuse_unknown("Training.but", changes, TRAINING)
        return replace(self, **changes)

    def record(self) -> dict[str, Any]:
        """Its options as plain values, for JSON: what `Population.trained_by` and the provenance of a zoo hold.

        >>> Training(epochs=2, lr_schedule="cosine").record()["optimizer"]["lr"]
        0.001
        """
        plain = {item.name: getattr(self, item.name) for item in fields(self)}
        optimizer = {name: _plain(value) for name, value in self.optimizer.describe().items()}
        chosen = schedule(self.lr_schedule)
        parameters = asdict(chosen) if is_dataclass(chosen) else {}
        augment = None if self.augment is None else asdict(self.augment)
        return {
            **plain,
            "optimizer": {"name": optimizer.pop("optimizer"), **optimizer},
            "lr_schedule": {"name": type(chosen).__name__, **parameters},
            "augment": augment,
        }

    def at_rows(self, start: int, stop: int) -> Training:
        """The training of some of the models."""
        return replace(self, optimizer=self.optimizer.at_rows(start, stop))

    def texts(self) -> Texts:
        """Its options in short words, by name.

        >>> texts = Training(epochs=25, optimizer=Adam(lr=1e-4)).texts()
        >>> texts["epochs"], texts["lr"], texts["crop"]
        ('25 epochs', 'lr 0.0001', 'no crop')
        """
        augment = self.augment if self.augment is not None else Augment()
        factors = schedule(self.lr_schedule)
        kind = next((name for name, cls in SCHEDULES.items() if type(factors) is cls), type(factors).__name__)
        texts = {
            "epochs": f"{self.epochs} epoch" + "s" * (self.epochs != 1),
            **optimizer_texts(self.optimizer),
            "batch_size": f"batch {self.batch_size}",
            "lr_schedule": " ".join([f"{kind} lr", *changed(factors)]),
            "loss": self.loss.replace("_", " "),
            "crop": f"crop {augment.crop}" if augment.crop else "no crop",
            "flip": "flip" if augment.flip else "no flip",
            "order": f"{self.order.replace('-', ' ')} order",
            "seed": f"seed {number_text(self.seed)}",
            "optimizer_state": "moments of the source" if self.optimizer_state == "source" else "new moments",
        }
        others = [item for item in options_of(Training) if item.name not in {*texts, "optimizer", "augment"}]
        return {**texts, **{item.name: item.words(getattr(self, item.name)) for item in others}}

    def key(self, splits: tuple[str, ...]) -> list[object]:
        """What identifies the training in a checkpoint, beside tensors: in the order of the first version, then what
        came later and is not at its default.

        Args:
            splits: that are evaluated.
        """
        first = [self.epochs, self.batch_size, self.optimizer.kind, self.order, self.seed, splits]
        first += [str(self.lr_schedule), self.loss, repr(self.augment)]
        named = {"epochs", "batch_size", "optimizer", "order", "seed", "lr_schedule", "loss", "augment"}
        elsewhere = {"drop_last", "optimizer_state"}  # in the number of images, and in the moments
        later = [item for item in fields(self) if item.name not in named | elsewhere]
        values = [(item.name, getattr(self, item.name), item.default) for item in later]
        return [*first, *(f"{name} {value}" for name, value, usual in values if value != usual)]


@dataclass(frozen=True)
class Execution:
    """How a training is computed: nothing that decides its result.

    Args:
        engine: ``"auto"``, ``"native"`` or ``"reference"``.
        device: where to compute, ``"cpu"`` or ``"cuda"``; None: where the weights are. The population stays where it
            is. Where the memory of a GPU ends, fewer models at a time are trained, and the log says so.
        checkpoint: a file that keeps the state after every epoch. If it exists, training resumes from it bit for bit;
            an interrupted call can be repeated as it was. It stays until the caller removes it.
        progress: called with a `Progress` after every chunk of models.
    """

    engine: str = "auto"
    device: torch.device | str | None = None
    checkpoint: str | Path | None = None
    progress: Callable[[Progress], None] | None = None

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"engine must be 'auto', 'native' or 'reference', got {self.engine!r}")


def _plain(value: Any) -> Any:
    """A hyperparameter as JSON has it: a number, or a list with one for each model."""
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


TRAINING = tuple(item.name for item in fields(Training))
EXECUTION = tuple(item.name for item in fields(Execution))
Function = TypeVar("Function", bound=Callable[..., Any])


def gathered(
    name: str, training: Training | None, keywords: Mapping[str, Any], **usual: Any
) -> tuple[Training, Execution]:
    """The options of a call: an object, keywords that change it, and what is usual where neither says anything.

    >>> gathered("train", None, {"epochs": 3, "engine": "native"}, epochs=25)[0].epochs
    3

    Args:
        name: of the function that is called, for errors.
        usual: its own defaults, for a call without an object.

    Raises:
        InputError: an option that is out of its range; no epochs.
        TypeError: a keyword that is none of theirs, as Python has it.
    """
    _refuse_unknown(name, keywords, (*TRAINING, *EXECUTION))
    given = {key: value for key, value in keywords.items() if key in TRAINING}
    if given.get("optimizer", MISSING) is None:
        del given["optimizer"]
    if training is not None:
        require_kind("training", training, Training, "zs.Training(epochs=…)")
        chosen = replace(training, **given)
    elif "epochs" not in {**usual, **given}:
        raise InputError(f"{name}: epochs are missing; pass epochs=…, or training=zs.Training(epochs=…)")
    else:
        chosen = Training(**{**usual, **given})
    return chosen, Execution(**{key: keywords[key] for key in EXECUTION if key in keywords})


def shows_training(*others: type, **usual: Any) -> Callable[[Function], Function]:
    """Give a function whose `**options` are gathered a signature that names them, with its own defaults.

    Args:
        others: further classes of options that are keywords of it.
    """

    def decorate(function: Function) -> Function:
        signature = inspect.signature(function)
        own = [item for item in signature.parameters.values() if item.kind is not item.VAR_KEYWORD]
        named = [
            inspect.Parameter(
                item.name,
                inspect.Parameter.KEYWORD_ONLY,
                annotation=item.type,
                default=usual.get(
                    item.name, inspect.Parameter.empty if item.default is MISSING else item.default
                ),
            )
            for cls in (*others, Training, Execution)
            for item in fields(cls)
        ]
        function.__signature__ = signature.replace(parameters=[*own, *named])  # type: ignore[attr-defined]
        return function

    return decorate


def _refuse_unknown(name: str, keywords: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in keywords:
        if key not in known:
            close = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise TypeError(f"{name}() got an unexpected keyword argument {key!r}{hint}")
