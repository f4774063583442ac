"""A study as a file: what to train, how to sparsify it, what to report. TOML, checked by pydantic.

Unknown keys are errors with a suggestion; every value has the default that the field uses.
"""

from __future__ import annotations

import copy
import difflib
import math
import sys
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, create_model, field_validator, model_validator

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.initialise import INITIALISATIONS
from zoosparse_ext.population.networks import NETWORKS
from zoosparse_ext.population.optimizers import OPTIMIZERS
from zoosparse_ext.population.program import ACTIVATIONS
from zoosparse_ext.population.training import TRAINING, Training
from zoosparse_ext.sparsify.methods import METHODS
from zoosparse_ext.study.derived import with_options
from zoosparse_ext.study.method_config import (
    SECTIONS,
    USUAL,
    LearnedConfig,
    MagnitudeConfig,
    RankingConfig,
    VariationalConfig,
)
from zoosparse_ext.study.sections import SOURCE, OptimizerConfig, Section, explain, one_of
from zoosparse_ext.study.twin_config import TwinConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


class DataConfig(Section):
    """`[data]`: what to learn."""

    spec: str = Field("digits", description="digits, idx:DIR, npz:FILE or torchvision:NAME")
    limit: int | None = Field(
        None, ge=1, description="only so many training images, other splits in proportion"
    )
    mean: list[float] | None = Field(
        None, description="normalisation per channel; default: of the training pixels"
    )
    std: list[float] | None = None


class _Networks(Section):
    """What is trained."""

    architecture: str = Field("cnn-s", description=f"network: {', '.join(NETWORKS)}")
    activation: str | None = Field(None, description="activation; default: that of the published network")
    init: str = Field(
        "kaiming_uniform",
        description="initialization: xavier_… or kaiming_uniform/normal, uniform, normal",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="rate of dropout; above 0 it adds dropout layers")
    seeds: int = Field(8, ge=1, description="models at every point of the grid")
    first_seed: int = Field(1, ge=0, description="seed of the first model")
    seeds_of_points: Literal["shared", "distinct"] = "shared"


_Trained: Any = with_options(
    _Networks,
    Training,
    leave_out=("seed", "optimizer_state"),  # that of the study, and none
    replaced={
        "epochs": (int, Field(20, ge=0, description="passes over the training images")),
        "optimizer": (OptimizerConfig, OptimizerConfig()),
    },
)


class ZooConfig(_Trained, _Networks):
    """`[zoo]`: the original models. Lists under `[zoo.vary]` span a grid; every point gets `seeds` models.

    Loss, crop and flip are those of the twins as well.
    """

    keep: list[int] = Field(
        [],
        description="epochs after which the models are kept as well, as original@EPOCH; 0 is the initialization; "
        "those that twins are rewound to are kept in any case",
    )
    vary: dict[str, list[str | float]] = Field(
        {}, description="activation, init, optimizer, lr, weight_decay, dropout"
    )

    @field_validator("architecture")
    @classmethod
    def _known_architecture(cls, name: str) -> str:
        return one_of(name, NETWORKS)

    @field_validator("init")
    @classmethod
    def _known_init(cls, name: str) -> str:
        return one_of(name, INITIALISATIONS)

    @field_validator("activation")
    @classmethod
    def _known_activation(cls, name: str | None) -> str | None:
        return None if name is None else one_of(name, ACTIVATIONS)

    @model_validator(mode="after")
    def _are_epochs(self) -> ZooConfig:
        for epoch in self.keep:
            if not 0 <= epoch <= self.epochs:
                raise ValueError(
                    f"keep: epoch {epoch} is not one of the training, which has 0 … {self.epochs}"
                )
        if twice := sorted({epoch for epoch in self.keep if self.keep.count(epoch) > 1}):
            raise ValueError(f"keep: epoch {', '.join(map(str, twice))} stands there more than once")
        return self

    def task(self) -> dict[str, Any]:
        """What models and twins learn from the images: arguments of :func:`zoosparse_ext.train` that both share."""
        augment = Augment(self.crop, self.flip) if self.crop or self.flip else None
        return {"loss": self.loss, "augment": augment}

    def options(self, seed: int) -> dict[str, Any]:
        """How the models are trained, as keywords of :func:`zoosparse_ext.train`, but for their optimizer.

        Args:
            seed: of the study.
        """
        named = {name: getattr(self, name) for name in TRAINING if name in type(self).model_fields}
        del named["optimizer"]  # one for each point of the grid
        return {**named, **self.task(), "seed": seed}

    @field_validator("vary")
    @classmethod
    def _known_axes(cls, vary: dict[str, list[str | float]]) -> dict[str, list[str | float]]:
        for axis, values in vary.items():
            one_of(axis, VARIABLE)
            if not values:
                raise ValueError(f"{axis} has no values")
            for value in values:
                _check_point(axis, value)
        return vary


# What a grid may vary: names out of these, or numbers from 0 to below the limit.
VARIABLE: dict[str, Collection[str] | float] = {
    "activation": ACTIVATIONS,
    "init": INITIALISATIONS,
    "optimizer": OPTIMIZERS,
    "lr": math.inf,
    "weight_decay": math.inf,
    "momentum": 1.0,
    "dropout": 1.0,
}


def _check_point(axis: str, value: str | float) -> None:
    allowed = VARIABLE[axis]
    if isinstance(allowed, float):
        if isinstance(value, str) or not 0 <= value < allowed:
            raise ValueError(f"{axis} {value!r} is no number in [0, {allowed:g})")
    elif value not in allowed:
        one_of(str(value), allowed)


class _Study(Section):
    """The part of a study that every version knows."""

    title: str = "Sparse twins of a model zoo"
    seed: int = Field(0, ge=0)
    data: DataConfig = DataConfig()
    zoo: ZooConfig = ZooConfig()
    magnitude: MagnitudeConfig | Literal[False] = MagnitudeConfig()
    variational: VariationalConfig | Literal[False] = VariationalConfig()


_further: dict[str, Any] = {
    name: (section | Literal[False], Field(False, description=f"twins by {METHODS[name].phrase}"))
    for name, section in SECTIONS.items()
    if name not in USUAL
}
_WithMethods: Any = create_model("StudyConfig", __base__=_Study, **_further)


class StudyConfig(_WithMethods, _Study):
    """A whole study. A method that is left out (`magnitude = false`) is not run; others are where they have a section,
    which may be empty (`[random]`)."""

    @property
    def twins(self) -> list[TwinConfig]:
        """The sections that make twins, those that are left out aside."""
        return [section for name in SECTIONS if (section := getattr(self, name))]

    @property
    def rankings(self) -> list[RankingConfig]:
        """Those of methods that rank weights."""
        return [section for section in self.twins if isinstance(section, RankingConfig)]

    @property
    def learned(self) -> list[LearnedConfig]:
        """Those of methods that learn what to keep."""
        return [section for section in self.twins if isinstance(section, LearnedConfig)]

    @property
    def kept_epochs(self) -> tuple[int, ...]:
        """The epochs before the last one after which the models are kept: those that are named, and those that the
        weights of twins are rewound to."""
        rewound = {
            part.rewind_to for section in self.rankings for part in section.each() if part.rewind == "weights"
        }
        return tuple(sorted(({*self.zoo.keep} | rewound) - {None, self.zoo.epochs}))

    @model_validator(mode="after")
    def _have_the_epochs(self) -> StudyConfig:
        for section in self.rankings:
            for part in section.each():
                if part.rewind_to is not None and part.rewind_to > self.zoo.epochs:
                    raise ValueError(
                        f"{part.method.name}.rewind_to is {part.rewind_to}, the models are trained for "
                        f"{self.zoo.epochs} epochs"
                    )
        return self


FULL = "full"


def read_config(path: Path, overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """A study from a TOML file; `overrides` are values by dotted key, as ``{"zoo.seeds": 4}``.

    Raises:
        InputError: the file is missing, is not TOML, or has an unknown key or a value out of range; names it.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not TOML: {error}") from error
    return make_config(values, overrides, str(path))


def make_config(
    values: dict[str, Any], overrides: Mapping[str, Any] | None = None, origin: str = "study"
) -> StudyConfig:
    """A study from plain values.

    >>> make_config({"zoo": {"seeds": 4}}, {"zoo.epochs": 2}).zoo.epochs
    2
    >>> make_config({"zoo": {"epoch": 4}})
    Traceback (most recent call last):
    zoosparse_ext.errors.InputError: study: zoo.epoch is no key of a study; did you mean zoo.epochs?
    """
    values = copy.deepcopy(values)
    for key, value in (overrides or {}).items():
        _set(values, key, value, origin)
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        # A section that may also be `false` complains twice; that it is not false helps nobody.
        told = [item for item in errors if not any("literal[" in str(part) for part in item["loc"])]
        raise InputError(
            f"{origin}: " + "; ".join(explain(item, StudyConfig) for item in told or errors)
        ) from None


def _set(values: dict[str, Any], key: str, value: Any, origin: str) -> None:
    """Put a value at a dotted key.

    A hyperparameter of the optimizer of twins that is `"source"` becomes one change to what each model has.
    """
    *path, last = key.split(".")
    section = values
    for depth, part in enumerate(path):
        of_twins = depth == 1 and path[0] in SECTIONS and part == "optimizer"
        inside = section.setdefault(part, {"name": SOURCE} if of_twins else {})
        if of_twins and inside == SOURCE:
            section[part] = inside = {"name": SOURCE}
        if not isinstance(inside, dict):
            raise InputError(f"{origin}: {key} cannot be set, {part} is not a section")
        section = inside
    section[last] = value


def apply_preset(config: StudyConfig, name: str) -> StudyConfig:
    """A study that makes more twins: `"full"` adds variants, see `TwinConfig.full_variants`.

    Raises:
        InputError: an unknown name.
    """
    if name != FULL:
        raise InputError(f"unknown preset {name!r} of a study; known: {FULL}")
    changed: dict[str, TwinConfig] = {}
    for method in SECTIONS:
        section = getattr(config, method)
        if section:
            new = [one for one in section.full_variants(config.seed) if one not in section.variants]
            changed[method] = section.model_copy(update={"variants": [*section.variants, *new]})
    return config.model_copy(update=changed)


def recipes() -> list[str]:
    """Names of the ready studies in the package, the recipes of the published zoos among them."""
    folder = resources.files("zoosparse_ext.study") / "recipes"
    return sorted(
        entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")
    )


def recipe_text(name: str) -> str:
    """The TOML of a ready study.

    Raises:
        InputError: there is none of this name; suggests one.
    """
    if name not in recipes():
        close = difflib.get_close_matches(name, recipes(), 1)
        hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(recipes())}"
        raise InputError(f"there is no recipe {name!r}; {hint}")
    return (resources.files("zoosparse_ext.study") / "recipes" / f"{name}.toml").read_text(encoding="utf-8")


def recipe(name: str, overrides: Mapping[str, Any] | None = None) -> StudyConfig:
    """A ready study by name."""
    return make_config(tomllib.loads(recipe_text(name)), overrides, name)
