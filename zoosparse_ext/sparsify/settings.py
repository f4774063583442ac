"""Settings of twins in short words, and which of them differ from others: what `Series.options` are made of.

A setting is a name and a text, ``{"epochs": "25 epochs", "lr": "lr 0.001"}``. Equal texts mean equal settings.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.optimizers import OPTIMIZERS, Optimizer
from zoosparse_ext.population.schedules import SCHEDULES, Constant, schedule
from zoosparse_ext.sparsify.schedules import Cubic, Iterative, OneShot, sparsity_schedule

Texts = dict[str, str]


def selection_texts(
    pruning: str | OneShot | Iterative | Cubic = "one-shot", biases: bool = False, min_kept: int = 0
) -> Texts:
    """What decides which weights pruning takes, beside method and scope.

    >>> selection_texts("cubic"), selection_texts(Iterative(rounds=5), biases=True)
    ({'schedule': 'cubic', 'biases': 'no biases'}, {'schedule': 'iterative 5', 'biases': 'biases'})
    """
    chosen = sparsity_schedule(pruning)
    floor = {"min_kept": f"min kept {min_kept}"} if min_kept else {}  # which earlier versions do not have
    return {
        "schedule": " ".join([chosen.name.replace("-", " "), *_changed(chosen)]),
        "biases": "biases" if biases else "no biases",
        **floor,
    }


def training_texts(
    *,
    epochs: int,
    optimizer: Optimizer,
    batch_size: int = 10,
    lr_schedule: str | Constant = "constant",
    loss: str = "cross_entropy",
    augment: Augment | None = None,
    order: str = "per-model",
    seed: int = 0,
) -> Texts:
    """How twins are trained.

    >>> from zoosparse_ext import Adam
    >>> texts = training_texts(epochs=25, optimizer=Adam(lr=1e-4))
    >>> texts["epochs"], texts["lr"], texts["crop"]
    ('25 epochs', 'lr 0.0001', 'no crop')
    """
    augment = augment if augment is not None else Augment()
    factors = schedule(lr_schedule)
    kind = next((name for name, cls in SCHEDULES.items() if type(factors) is cls), type(factors).__name__)
    return {
        "epochs": f"{epochs} epoch" + "s" * (epochs != 1),
        **optimizer_texts(optimizer),
        "batch_size": f"batch {batch_size}",
        "lr_schedule": " ".join([f"{kind} lr", *_changed(factors)]),
        "loss": loss.replace("_", " "),
        "crop": f"crop {augment.crop}" if augment.crop else "no crop",
        "flip": "flip" if augment.flip else "no flip",
        "order": f"{order.replace('-', ' ')} order",
        "seed": f"seed {number_text(seed)}",
    }


def differences(texts: Mapping[str, str], usual: Mapping[str, str]) -> tuple[str, ...]:
    """The texts that say something else than the usual ones, in their order.

    Hyperparameters of another kind of optimizer are compared with the defaults of that kind.

    >>> differences({"epochs": "25 epochs", "seed": "seed 0"}, {"epochs": "15 epochs", "seed": "seed 0"})
    ('25 epochs',)
    """
    kind = texts.get("optimizer", usual.get("optimizer"))
    if kind in OPTIMIZERS and kind != usual.get("optimizer"):
        usual = {**usual, **optimizer_texts(OPTIMIZERS[kind]()), "optimizer": usual.get("optimizer", "")}  # type: ignore[call-arg]
    return tuple(text for name, text in texts.items() if usual.get(name) != text)


def epoch_text(epoch: int) -> str:
    """Which epoch of other twins these are matched to.

    >>> epoch_text(5)
    'epoch 5'
    """
    return f"epoch {int(epoch)}"


def digest(*values: object) -> str:
    """Six letters that stand for values too long to be named."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:6]


def optimizer_texts(optimizer: Optimizer) -> Texts:
    """What `training_texts` says of the optimizer."""
    named = {item.name: getattr(optimizer, item.name) for item in fields(optimizer)}
    return {
        "optimizer": optimizer.kind,
        **{name: f"{name.replace('_', ' ')} {_text(value)}" for name, value in named.items()},
    }


def _changed(settings: object) -> list[str]:
    """The parameters of a schedule, from the first that is not at its default: values as texts."""
    if not is_dataclass(settings):
        return [digest(settings)]
    values = [(_text(getattr(settings, item.name)), _text(item.default)) for item in fields(settings)]
    last = max((place for place, (value, default) in enumerate(values) if value != default), default=-1)
    return [value for value, _ in values[: last + 1]]


def _text(value: Any) -> str:
    """A number, several as their values or a digest of them, and anything else as it prints."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = [_text(part) for part in value]
        if len(set(parts)) == 1:
            return parts[0]
        return " ".join(parts) if len(parts) <= 2 else f"{digest(parts)} of {len(parts)} models"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower()
    return number_text(value)


def number_text(value: float) -> str:
    """The shortest decimals that mean a number, without the signs that names cannot have.

    >>> number_text(3e-4), number_text(-2), number_text(3.0)
    ('0.0003', 'minus 2', '3')
    """
    text = str(value) if isinstance(value, int) else np.format_float_positional(value, trim="-")
    return text.replace("-", "minus ")
