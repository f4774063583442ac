"""What twins inherit from their zoo: the loss and the augmentation that its models were trained with."""

from __future__ import annotations

import logging
from typing import Any

from zoosparse_ext.population.augment import Augment
from zoosparse_ext.zoo import Zoo

log = logging.getLogger(__name__)

TASK = "task"  # in the provenance of a zoo
_UNKNOWN = {"loss": "cross_entropy", "crop": 0, "flip": False}


def task_record(loss: str = "cross_entropy", augment: Augment | None = None, **_: Any) -> dict[str, Any]:
    """Loss and augmentation out of the options of a training, as plain values for the provenance.

    >>> task_record(loss="mse", augment=Augment(crop=2), lr_schedule="cosine")
    {'loss': 'mse', 'crop': 2, 'flip': False}
    """
    augment = augment if augment is not None else Augment()
    return {"loss": loss, "crop": augment.crop, "flip": augment.flip}


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
