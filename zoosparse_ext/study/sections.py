"""What the sections of a study share: strictness, names that are checked, and optimizers."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
)

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.optimizers import OPTIMIZERS, SGD, Optimizer, PerModel
from zoosparse_ext.study.inheritance import SourceOptimizer

SOURCE = "source"


def one_of(name: str, known: Collection[str]) -> str:
    """The name, if it is known.

    Raises:
        ValueError: it is not; suggests one that is.
    """
    if name in known:
        return name
    close = difflib.get_close_matches(name, list(known), 1)
    raise ValueError(
        f"unknown {name!r}; " + (f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}")
    )


class Section(BaseModel):
    """Part of a study: values that do not change, and no key that is not known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OptimizerConfig(Section):
    """`[….optimizer]`: name and hyperparameters."""

    name: str = "adam"
    lr: float = Field(1e-3, ge=0, allow_inf_nan=False)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    momentum: float = Field(0.0, ge=0, lt=1, description="for sgd")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return one_of(name, OPTIMIZERS)

    def build(self) -> Optimizer:
        return make_optimizer(self.name, self.lr, self.weight_decay, self.momentum)


class SourceOptimizerConfig(Section):
    """`[….optimizer]` of twins with `name = "source"`: what a model was trained with, but for what stands here."""

    name: Literal["source"]
    lr: float | None = Field(None, ge=0, allow_inf_nan=False, description="default: that of each model")
    lr_factor: float = Field(1.0, gt=0, allow_inf_nan=False, description="multiplies the learning rate")
    weight_decay: float | None = Field(None, ge=0, allow_inf_nan=False)
    momentum: float | None = Field(None, ge=0, lt=1, description="for sgd")

    def build(self) -> SourceOptimizer:
        return SourceOptimizer(self.lr, self.lr_factor, self.weight_decay, self.momentum)


def _tag(value: Any) -> str:
    if value == SOURCE:
        return SOURCE
    name = value.get("name") if isinstance(value, dict) else getattr(value, "name", None)
    return "SourceOptimizerConfig" if name == SOURCE else "OptimizerConfig"


TwinOptimizerConfig = Annotated[
    Annotated[Literal["source"], Tag(SOURCE)]
    | Annotated[SourceOptimizerConfig, Tag("SourceOptimizerConfig")]
    | Annotated[OptimizerConfig, Tag("OptimizerConfig")],
    Discriminator(_tag),
]
"""`"source"`: each model's own kind, learning rate, weight decay and momentum; a section sets another."""


def build_optimizer(
    config: Literal["source"] | SourceOptimizerConfig | OptimizerConfig,
) -> Optimizer | SourceOptimizer:
    """The optimizer that a section asks for."""
    return SourceOptimizer() if isinstance(config, str) else config.build()


def make_optimizer(
    name: str, lr: PerModel, weight_decay: PerModel = 0.0, momentum: PerModel = 0.0
) -> Optimizer:
    """An optimizer from plain values; momentum counts for sgd only.

    Raises:
        InputError: an unknown name.
    """
    if name not in OPTIMIZERS:
        raise InputError(f"unknown optimizer {name!r}; known: {', '.join(OPTIMIZERS)}")
    if name == SGD.kind:
        return SGD(lr=lr, weight_decay=weight_decay, momentum=momentum)
    return OPTIMIZERS[name](lr=lr, weight_decay=weight_decay)  # type: ignore[call-arg]


_BOUNDS = {
    "greater_than_equal": ("ge", "{} or more"),
    "greater_than": ("gt", "more than {}"),
    "less_than_equal": ("le", "{} or less"),
    "less_than": ("lt", "less than {}"),
}


def explain(item: Any, root: type[BaseModel]) -> str:
    """One complaint of pydantic about a section in our words."""
    loc = [str(part) for part in item["loc"]]
    # Besides keys, pydantic names the classes and checks that it went through.
    place = [part for part in loc if not part.endswith("Config") and "[" not in part and part != SOURCE]
    key = ".".join(place)
    prefix = f"{key}: " if key else ""
    if item["type"] == "value_error":  # ours, says what came
        return f"{prefix}{item['msg'].removeprefix('Value error, ')}"
    if item["type"] == "model_type":
        expected = "a section or 'source'" if "OptimizerConfig" in loc else "a section"
        return f"{prefix}expected {expected}, got {item['input']!r}"
    if item["type"] in _BOUNDS:
        bound, text = _BOUNDS[item["type"]]
        return f"{key} must be {text.format(item['ctx'][bound])}, got {item['input']!r}"
    if item["type"] != "extra_forbidden":
        return f"{prefix}{item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"
    section = root
    for part in place[:-1]:
        options = list(_sections(section.model_fields[part].annotation))
        section = next((option for option in options if option.__name__ in loc), options[0])
    close = difflib.get_close_matches(place[-1], list(section.model_fields), 1)
    hint = (
        f"did you mean {'.'.join([*place[:-1], close[0]])}?"
        if close
        else f"known: {', '.join(section.model_fields)}"
    )
    return f"{key} is no key of a study; {hint}"


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a value may be."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for option in get_args(annotation):
        yield from _sections(option)
