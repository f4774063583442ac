"""Values in short words, as names of series, files and messages have them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
from torch import Tensor

Texts = dict[str, str]  # settings by name; equal texts mean equal settings


def digest(*values: object) -> str:
    """Six letters that stand for values too long to be named."""
    return hashlib.sha256(repr(values).encode()).hexdigest()[:6]


def number_text(value: float) -> str:
    """The shortest decimals that mean a number, without the signs that names cannot have.

    >>> number_text(3e-4), number_text(-2), number_text(3.0)
    ('0.0003', 'minus 2', '3')
    """
    text = str(value) if isinstance(value, int) else np.format_float_positional(value, trim="-")
    return text.replace("-", "minus ")


def text_of(value: Any) -> str:
    """A number, several as their values or a digest of them, and anything else as it prints."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, Sequence) and not isinstance(value, str):
        parts = [text_of(part) for part in value]
        if len(set(parts)) == 1:
            return parts[0]
        return " ".join(parts) if len(parts) <= 2 else f"{digest(parts)} of {len(parts)} models"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).lower()
    return number_text(value)


def changed(settings: object) -> list[str]:
    """The parameters of a schedule, from the first that is not at its default: values as texts."""
    if not is_dataclass(settings):
        return [digest(settings)]
    values = [(text_of(getattr(settings, item.name)), text_of(item.default)) for item in fields(settings)]
    last = max((place for place, (value, default) in enumerate(values) if value != default), default=-1)
    return [value for value, _ in values[: last + 1]]
