"""What twins inherit from their zoo: loss, augmentation and optimizer that its models were trained with."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.optimizers import OPTIMIZERS, SGD, Adam, Optimizer, optimizer_texts
from zoosparse_ext.words import Texts, number_text
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.provenance import TASK

log = logging.getLogger(__name__)

_UNKNOWN = {"loss": "cross_entropy", "crop": 0, "flip": False}


def known_task(zoo: Zoo) -> dict[str, Any] | None:
    """Loss, crop and flip that the models of a zoo were trained with; None if it does not say."""
    recorded = zoo.provenance.get(TASK)
    if recorded is None:  # written before there was such a record: by `zoosparse train` or a study
        settings = zoo.provenance.get("settings")
        recorded = settings.get("zoo") if isinstance(settings, dict) else None
    if not isinstance(recorded, dict):
        return None
    return {key: recorded.get(key, usual) for key, usual in _UNKNOWN.items()}


def inherited(
    zoo: Zoo, *, loss: str | None = None, crop: int | None = None, flip: bool | None = None
) -> dict[str, Any]:
    """`loss` and `augment` for the twins of a zoo: those of its models, unless others are given.

    A zoo that does not say how its models were trained counts as trained by cross entropy without augmentation.

    >>> from zoosparse_ext import Population, architecture
    >>> population = Population.initialise(architecture("cnn-s"), seeds=range(1, 3))
    >>> zoo = Zoo({"original": [population]}, population.models, provenance={"task": {"loss": "mse", "crop": 2}})
    >>> inherited(zoo), inherited(zoo, crop=0)["augment"]
    ({'loss': 'mse', 'augment': Augment(crop=2, flip=False)}, None)
    """
    task: dict[str, Any] = known_task(zoo) or _UNKNOWN
    given = {"loss": loss, "crop": crop, "flip": flip}
    task = {key: task[key] if value is None else value for key, value in given.items()}
    augment = Augment(task["crop"], task["flip"]) if task["crop"] or task["flip"] else None
    return {"loss": task["loss"], "augment": augment}


def warn_if_unknown(zoo: Zoo, options: dict[str, Any]) -> None:
    """Say that a zoo does not tell what twins inherit, unless all of it was given."""
    if known_task(zoo) is None and not {"loss", "augment"} <= options.keys():
        log.warning(
            "the zoo does not say with which loss and augmentation its models were trained: twins are trained by "
            "cross entropy on images as they are; loss=…, augment=… (--loss, --crop, --flip) say otherwise"
        )
    wanted = options.get("optimizer")
    if isinstance(wanted, SourceOptimizer) and not _is_said(zoo.models):
        (_, optimizer), *_ = wanted.of(zoo.models)
        log.warning(
            "the zoo does not say with which optimizer its models were trained: twins are trained by %s at learning "
            "rate %s; optimizer=… (--optimizer, --lr) says otherwise",
            *(type(optimizer).__name__, number_text(_values(optimizer.lr)[0])),
        )


@dataclass(frozen=True)
class SourceOptimizer:
    """The optimizer that each model was trained with: its kind, learning rate, weight decay and momentum.

    The columns `optimizer`, `lr`, `weight_decay` and `momentum` of the table of models tell it. A table without them
    stands for Adam at learning rate 0.001.

    >>> models = pd.DataFrame({"model_id": ["a", "b"], "optimizer": ["sgd", "adam"], "lr": [0.1, 0.001]})
    >>> [(rows, optimizer.kind, optimizer.lr) for rows, optimizer in SourceOptimizer(lr_factor=10.0).of(models)]
    [([0], 'sgd', [1.0]), ([1], 'adam', [0.01])]

    Args:
        lr: in place of that of each model.
        lr_factor: multiplies the learning rate.
        weight_decay, momentum: in place of those of each model; momentum counts for sgd alone.
    """

    lr: float | None = None
    lr_factor: float = 1.0
    weight_decay: float | None = None
    momentum: float | None = None

    def of(self, models: pd.DataFrame) -> list[tuple[list[int], Optimizer]]:
        """The optimizers of some models, one for each kind: the rows that it is for, and one value for each of them.

        Raises:
            InputError: a model does not say its optimizer or learning rate, and others do; a kind that is not known.
        """
        table = _optimizer_table(models)
        found = []
        for kind, rows in table.groupby("optimizer", sort=False):
            lr = rows["lr"] if self.lr is None else [self.lr] * len(rows)
            values = {
                "lr": [float(f"{self.lr_factor * rate:.12g}") for rate in lr],
                "weight_decay": _given(self.weight_decay, rows["weight_decay"]),
            }
            if kind == SGD.kind:
                values["momentum"] = _given(self.momentum, rows["momentum"])
            found.append((rows.index.tolist(), OPTIMIZERS[str(kind)](**values)))
        return found

    def texts(self, models: pd.DataFrame) -> Texts:
        """The optimizer in short words, as `training_texts` has it: "own lr" where models differ.

        >>> SourceOptimizer().texts(pd.DataFrame({"optimizer": ["sgd"] * 2, "lr": [0.1, 0.2]}))["lr"]
        'own lr'
        """
        table = _optimizer_table(models)
        firsts = table.drop_duplicates("optimizer")
        of_kinds = [optimizer_texts(optimizer) for _, optimizer in self.of(firsts)]
        texts = {name: text for name, text in of_kinds[0].items() if all(name in other for other in of_kinds)}
        if len(of_kinds) > 1:
            texts["optimizer"] = "own optimizer"
        of_sgd = [its for its in of_kinds if its["optimizer"] == SGD.kind]
        if of_sgd:
            texts["momentum"] = of_sgd[0]["momentum"]
        with_momentum = table["optimizer"] == SGD.kind
        for name, rows in (("lr", table), ("weight_decay", table), ("momentum", table[with_momentum])):
            if getattr(self, name) is None and rows[name].nunique() > 1:
                factor = self.lr_factor if name == "lr" else 1.0
                times = f"{number_text(factor)} times " if factor != 1 else ""
                texts[name] = f"{times}own {name.replace('_', ' ')}"
        return texts


_USUAL = Adam(lr=1e-3)


def _optimizer_table(models: pd.DataFrame) -> pd.DataFrame:
    """Kind, learning rate, weight decay and momentum of every model; those of Adam where no model says any."""
    if not _is_said(models):
        values = {"optimizer": _USUAL.kind, "lr": _USUAL.lr, "weight_decay": 0.0, "momentum": 0.0}
        return pd.DataFrame(values, index=range(len(models)))
    table = models.reindex(columns=["optimizer", "lr", "weight_decay", "momentum"]).reset_index(drop=True)
    names = models.get("model_id", pd.Series(range(len(models)))).tolist()
    way_out = "give one for all: optimizer=… (--optimizer, --lr)"
    for column in ("optimizer", "lr"):
        if (lacking := table[column].isna()).any():
            raise InputError(
                f"the zoo does not say the {column.replace('lr', 'learning rate')} that model "
                f"{names[int(lacking.argmax())]!r} was trained with; {way_out}"
            )
    table["optimizer"] = table["optimizer"].map(lambda kind: str(kind).lower())
    if (unknown := ~table["optimizer"].isin(list(OPTIMIZERS))).any():
        row = int(unknown.argmax())
        raise InputError(
            f"model {names[row]!r} was trained by {table['optimizer'][row]!r}, known are {', '.join(OPTIMIZERS)}; "
            f"{way_out}"
        )
    for column in ("lr", "weight_decay", "momentum"):
        numbers = pd.to_numeric(table[column].fillna(0.0), errors="coerce")
        if (bad := ~(numbers >= 0)).any():
            row = int(bad.argmax())
            raise InputError(
                f"model {names[row]!r} has {column} {table[column][row]}, expected a number, 0 or more; {way_out}"
            )
        table[column] = numbers.astype("float64")
    return table


def _is_said(models: pd.DataFrame) -> bool:
    """Whether any model says its optimizer or learning rate."""
    return any(column in models and bool(models[column].notna().any()) for column in ("optimizer", "lr"))


def _given(value: float | None, column: pd.Series) -> list[float]:
    return [float(number) for number in column] if value is None else [value] * len(column)


def _values(value: Any) -> Sequence[float]:
    return value if isinstance(value, Sequence) else [value]
