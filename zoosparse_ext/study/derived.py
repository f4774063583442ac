"""Sections of a study that are made of dataclasses of options, such as `zs.Training`: a key for every option."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any

from pydantic import AfterValidator, Field, create_model

from zoosparse_ext.options import Option, options_of
from zoosparse_ext.study.sections import Section, one_of


def with_options(
    base: type[Section], cls: type, leave_out: tuple[str, ...] = (), replaced: Mapping[str, Any] | None = None
) -> type[Section]:
    """A section that has the keys of another, and one for every option of a class.

    An option that is itself a class of options stands for its options: `crop` and `flip` for an `Augment`.

    >>> from zoosparse_ext.population.training import Training
    >>> section = with_options(Section, Training, leave_out=("optimizer",))(epochs=3, crop=2)
    >>> section.epochs, section.crop, section.order
    (3, 2, 'per-model')

    Args:
        leave_out: options that are no keys.
        replaced: other types and defaults by name, as fields of pydantic.
    """
    replaced = replaced or {}
    found: dict[str, Any] = {}
    for item in options_of(cls):
        if item.name in leave_out:
            continue
        for part in item.parts:
            found[part.name] = replaced.get(part.name, _field(part))
    return create_model(f"{cls.__name__}Config", __base__=base, **found)


def _field(item: Option) -> tuple[Any, Any]:
    """An option as pydantic has it."""
    said, kind = item.said, item.plain
    if said.choices is not None:
        kind = Annotated[kind, AfterValidator(partial(one_of, known=said.choices))]
    if item.optional:
        kind = kind | None
    bounds = {"ge": said.low, "le": said.high, "gt": said.above, "lt": said.below}
    more: dict[str, Any] = {name: bound for name, bound in bounds.items() if bound is not None}
    if item.plain is float:
        more["allow_inf_nan"] = False
    return kind, Field(item.default, description=said.help.removesuffix("."), **more)
