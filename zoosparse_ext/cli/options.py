"""Options that several commands share, said once."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from zoosparse_ext.data import Dataset, load_dataset
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.optimizers import OPTIMIZERS, Optimizer
from zoosparse_ext.study.inheritance import SourceOptimizer, inherited
from zoosparse_ext.study.sections import make_optimizer
from zoosparse_ext.study.zoo_data import data_of_zoo
from zoosparse_ext.zoo import Zoo

_DATA = "digits, idx:DIR (MNIST family), npz:FILE or torchvision:NAME."
NewData = Annotated[str, typer.Option("--data", help=_DATA)]
DataSpec = Annotated[
    str | None,
    typer.Option("--data", help=f"What the zoo was trained on, if it was moved or is not known: {_DATA}"),
]
ZooPath = Annotated[Path, typer.Argument(metavar="ZOO", help="Folder of the zoo.", show_default=False)]
OptimizerName = Annotated[str, typer.Option("--optimizer", help=", ".join(OPTIMIZERS))]
_OWN = "Default: that of each model."
TwinOptimizer = Annotated[
    str | None,
    typer.Option("--optimizer", help=f"{', '.join(OPTIMIZERS)}. {_OWN}", show_default=False),
]
TwinLearningRate = Annotated[
    float | None, typer.Option("--lr", help=f"Learning rate. {_OWN}", show_default=False)
]
TwinWeightDecay = Annotated[
    float | None, typer.Option("--weight-decay", help=f"Weight decay. {_OWN}", show_default=False)
]
TwinMomentum = Annotated[
    float | None, typer.Option("--momentum", help=f"Momentum, for sgd. {_OWN}", show_default=False)
]
Keep = Annotated[
    str,
    typer.Option(
        help="Epochs at which the twins are kept too, as populations NAME@EPOCH; those from the last on are left out. "
        "'' for none."
    ),
]
KeepModels = Annotated[
    str,
    typer.Option(
        "--keep",
        help="Epochs after which the models are kept too, as populations original@EPOCH, for twins with --rewind-to: "
        "0,2; 0 is the initialization.",
        show_default=False,
    ),
]
LearningRate = Annotated[float, typer.Option("--lr", help="Learning rate.")]
WeightDecay = Annotated[float, typer.Option("--weight-decay", help="Weight decay.")]
Momentum = Annotated[float, typer.Option(help="Momentum, for sgd.")]
Seed = Annotated[int, typer.Option(help="Seed for shuffling and noise; each model adds its own.")]
InheritedLoss = Annotated[
    str | None, typer.Option("--loss", help="cross_entropy or mse. Default: that of the zoo's models.")
]
InheritedCrop = Annotated[
    int | None,
    typer.Option(
        "--crop",
        help="Shift training images at random by up to this many pixels. Default: as for the zoo's models.",
    ),
]
InheritedFlip = Annotated[
    bool | None,
    typer.Option(
        "--flip/--no-flip", help="Mirror half of the training images. Default: as for the zoo's models."
    ),
]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Make twins anew that are there already, and put them in their place."),
]
Limit = Annotated[
    int | None, typer.Option(help="Use only this many training images (and the test images in proportion).")
]
Device = Annotated[str | None, typer.Option("--device", help="cpu or cuda. Default: cpu.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
License = Annotated[str, typer.Option(help="Of the dataset card, as the Hub names it: cc-by-4.0, mit, …")]
MOST_RATIOS = 1000  # a population has a copy of every model for each
_HOW = "0.5,0.8,0.9 or 0.1:0.9:0.1 (first:last:step)"
AllowNan = Annotated[bool, typer.Option("--allow-nan", help="Keep NaN weights instead of stopping.")]


def open_data(spec: str, limit: int | None) -> Dataset:
    """Load a data set, cut to `limit` training images if asked."""
    data = load_dataset(spec)
    return data if limit is None else data.limit(limit)


def data_of(zoo: Zoo, spec: str | None) -> Dataset:
    """The data a zoo was trained on, loaded again; `spec` overrides where they lie.

    Raises:
        InputError: the zoo names no data and none were given; the data are not those that the zoo was trained on.
    """
    return data_of_zoo(zoo, spec)


def task_of(zoo: Zoo, loss: str | None, crop: int | None, flip: bool | None) -> dict[str, Any]:
    """Loss and augmentation for `add_…_twins`, as far as they were given; what was not is inherited from the zoo."""
    chosen = inherited(zoo, loss=loss, crop=crop, flip=flip)
    return {
        **({} if loss is None else {"loss": chosen["loss"]}),
        **({} if crop is None and flip is None else {"augment": chosen["augment"]}),
    }


def twin_optimizer(
    name: str | None, lr: float | None, weight_decay: float | None, momentum: float | None
) -> Optimizer | SourceOptimizer:
    """That of each model, but for what is given; or the one that is named, with its usual values where none are given.

    Raises:
        InputError: an unknown name; a number that is negative or not finite.
    """
    for option, value in (("--lr", lr), ("--weight-decay", weight_decay), ("--momentum", momentum)):
        if value is not None and not 0 <= value < math.inf:
            raise InputError(
                f"{option} (lr, weight decay, momentum) must be finite and not negative, got {value}"
            )
    if name is None:
        return SourceOptimizer(lr=lr, weight_decay=weight_decay, momentum=momentum)
    return make_optimizer(name, 1e-3 if lr is None else lr, weight_decay or 0.0, momentum or 0.0)


def parse_epochs(text: str, epochs: int) -> tuple[int, ...]:
    """Epochs from "5,10", those before the last one.

    Raises:
        InputError: something else, or one below 1.
    """
    chosen = sorted({*listed_epochs(text)})
    if chosen and chosen[0] < 1:
        raise InputError(f"--keep {text!r}: epochs are counted from 1")
    return tuple(epoch for epoch in chosen if epoch < epochs)


def listed_epochs(text: str) -> list[int]:
    """Epochs from "0,2".

    Raises:
        InputError: something else.
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise InputError(f"--keep {text!r}: write epochs, as in 5,10,15") from None


def parse_ratios(text: str) -> list[float]:
    """Ratios from "0.5,0.8" or "0.1:0.9:0.1" (first, last, step).

    Raises:
        InputError: anything else, none or more than 1,000 of them, a ratio outside [0, 1), or one that is there twice.
    """
    try:
        ratios = _steps(text) if ":" in text else [float(part) for part in text.split(",") if part.strip()]
    except InputError:
        raise
    except (ArithmeticError, ValueError):
        raise InputError(f"ratios {text!r}: write {_HOW}") from None
    if not ratios:
        raise InputError(f"ratios {text!r} name no ratio: write {_HOW}")
    if len(ratios) > MOST_RATIOS:
        raise InputError(f"ratios {text!r:.40} are more than {MOST_RATIOS:,}: ask for fewer, {_HOW}")
    if bad := [ratio for ratio in ratios if not 0 <= ratio < 1]:
        raise InputError(f"sparsity ratios lie in [0, 1), got {bad[0]}")
    if twice := sorted({ratio for ratio in ratios if ratios.count(ratio) > 1}):
        raise InputError(f"ratios {text!r}: {', '.join(map(str, twice))} stands there more than once")
    return ratios


def _steps(text: str) -> list[float]:
    """The ratios of first:last:step, one more than are allowed if there are too many.

    Raises:
        InputError: the step leads away from the last.
        ValueError, ArithmeticError: no three numbers, or a step of zero.
    """
    first, last, step = (float(part) for part in text.split(":"))
    if step and (last - first) / step < 0:
        raise InputError(
            f"ratios {text!r}: no step of {step:g} leads from {first:g} to {last:g}; write {_HOW}"
        )
    count = min(round((last - first) / step), MOST_RATIOS) + 1
    return [round(first + index * step, 10) for index in range(count)]
