"""Settings of twins in short words, and which of them differ from others: what `Series.options` are made of.

A setting is a name and a text, ``{"epochs": "25 epochs", "lr": "lr 0.001"}``. Equal texts mean equal settings.
"""

from __future__ import annotations

from collections.abc import Mapping

from zoosparse_ext.population.optimizers import OPTIMIZERS, optimizer_texts


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
