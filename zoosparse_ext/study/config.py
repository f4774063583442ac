"""A study as a file: what to train, how to sparsify it, what to report. TOML, checked by pydantic.

Unknown keys are errors with a suggestion; every value has the default that the field uses.
"""

from __future__ import annotations

import difflib
import math
import sys
from collections.abc import Collection, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.population.initialise import INITIALISATIONS
from zoosparse_ext.population.networks import NETWORKS
from zoosparse_ext.population.optimizers import OPTIMIZERS, SGD, Optimizer, PerModel
from zoosparse_ext.population.program import ACTIVATIONS
from zoosparse_ext.population.schedules import SCHEDULES
from zoosparse_ext.sparsify.variational import PRESETS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Scope = Literal["global", "layer"]


def _one_of(name: str, known: Collection[str]) -> str:
    if name in known:
        return name
    close = difflib.get_close_matches(name, list(known), 1)
    raise ValueError(
        f"unknown {name!r}; " + (f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}")
    )


LrSchedule = Annotated[str, AfterValidator(partial(_one_of, known=SCHEDULES))]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OptimizerConfig(_Section):
    """`[….optimizer]`: name and hyperparameters."""

    name: str = "adam"
    lr: float = Field(1e-3, ge=0, allow_inf_nan=False)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    momentum: float = Field(0.0, ge=0, lt=1, description="for sgd")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        return _one_of(name, OPTIMIZERS)

    def build(self) -> Optimizer:
        return make_optimizer(self.name, self.lr, self.weight_decay, self.momentum)


class DataConfig(_Section):
    """`[data]`: what to learn."""

    spec: str = Field("digits", description="digits, idx:DIR, npz:FILE or torchvision:NAME")
    limit: int | None = Field(
        None, ge=1, description="only so many training images, other splits in proportion"
    )
    mean: list[float] | None = Field(
        None, description="normalisation per channel; default: of the training pixels"
    )
    std: list[float] | None = None


class ZooConfig(_Section):
    """`[zoo]`: the original models. Lists under `[zoo.vary]` span a grid; every point gets `seeds` models."""

    architecture: str = "cnn-s"
    activation: str | None = Field(None, description="default: that of the published network")
    init: str = "kaiming_uniform"
    dropout: float = Field(0.0, ge=0, lt=1)
    seeds: int = Field(8, ge=1, description="models at every point of the grid")
    first_seed: int = Field(1, ge=0)
    seeds_of_points: Literal["shared", "distinct"] = "shared"
    epochs: int = Field(20, ge=0)
    batch_size: int = Field(10, ge=1)
    order: Literal["per-model", "shared"] = "per-model"
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_schedule: LrSchedule = "constant"
    loss: Literal["cross_entropy", "mse"] = "cross_entropy"
    crop: int = Field(0, ge=0, description="training images move by up to so many pixels, for twins as well")
    flip: bool = Field(False, description="mirror half of the training images, for twins as well")
    vary: dict[str, list[str | float]] = Field(
        {}, description="activation, init, optimizer, lr, weight_decay, dropout"
    )

    @field_validator("architecture")
    @classmethod
    def _known_architecture(cls, name: str) -> str:
        return _one_of(name, NETWORKS)

    @field_validator("init")
    @classmethod
    def _known_init(cls, name: str) -> str:
        return _one_of(name, INITIALISATIONS)

    @field_validator("activation")
    @classmethod
    def _known_activation(cls, name: str | None) -> str | None:
        return None if name is None else _one_of(name, ACTIVATIONS)

    def task(self) -> dict[str, Any]:
        """What models and twins learn from the images: arguments of :func:`zoosparse_ext.train` that both share."""
        augment = Augment(self.crop, self.flip) if self.crop or self.flip else None
        return {"loss": self.loss, "augment": augment}

    def how_to_train(self) -> dict[str, Any]:
        """The same for the models alone."""
        return {"lr_schedule": self.lr_schedule, **self.task()}

    @field_validator("vary")
    @classmethod
    def _known_axes(cls, vary: dict[str, list[str | float]]) -> dict[str, list[str | float]]:
        for axis, values in vary.items():
            _one_of(axis, VARIABLE)
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
        _one_of(str(value), allowed)


class MagnitudeConfig(_Section):
    """`[magnitude]`: twins by magnitude pruning."""

    ratios: list[float] = Field([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], min_length=1)
    scopes: list[Scope] = ["global"]
    matched_scopes: list[Scope] = Field(
        ["global", "layer"], description="also prune to the sparsity of the VD twins"
    )
    epochs: int = Field(15, ge=0)
    batch_size: int = Field(10, ge=1)
    schedule: Literal["one-shot", "iterative", "cubic"] = "one-shot"
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_schedule: LrSchedule = "constant"

    @field_validator("ratios")
    @classmethod
    def _in_range(cls, ratios: list[float]) -> list[float]:
        for ratio in ratios:
            if not 0 <= ratio < 1:
                raise ValueError(f"sparsity ratios lie in [0, 1), got {ratio}")
        if twice := sorted({ratio for ratio in ratios if ratios.count(ratio) > 1}):
            raise ValueError(f"ratio {', '.join(map(str, twice))} stands there more than once")
        return ratios


class VariationalConfig(_Section):
    """`[variational]`: twins by variational dropout."""

    epochs: int = Field(25, ge=0)
    batch_size: int = Field(10, ge=1)
    preset: str = "modelzoos"
    threshold: float = 3.0
    optimizer: OptimizerConfig = OptimizerConfig(lr=3e-4)
    lr_schedule: LrSchedule = "constant"

    @field_validator("preset")
    @classmethod
    def _known(cls, name: str) -> str:
        return _one_of(name, PRESETS)


class StudyConfig(_Section):
    """A whole study. A method that is left out (`magnitude = false`) is not run."""

    title: str = "Sparse twins of a model zoo"
    seed: int = Field(0, ge=0)
    data: DataConfig = DataConfig()
    zoo: ZooConfig = ZooConfig()
    magnitude: MagnitudeConfig | Literal[False] = MagnitudeConfig()
    variational: VariationalConfig | Literal[False] = VariationalConfig()


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
    for key, value in (overrides or {}).items():
        *path, last = key.split(".")
        section = values
        for part in path:
            section = section.setdefault(part, {})
            if not isinstance(section, dict):
                raise InputError(f"{origin}: {key} cannot be set, {part} is not a section")
        section[last] = value
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        # A section that may also be `false` complains twice; that it is not false helps nobody.
        told = [item for item in errors if not any("literal[" in str(part) for part in item["loc"])]
        raise InputError(f"{origin}: " + "; ".join(_explain(item) for item in told or errors)) from None


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


def _explain(item: Any) -> str:
    """One complaint of pydantic in our words."""
    place = [
        str(part) for part in item["loc"] if not str(part).endswith("Config") and "literal[" not in str(part)
    ]
    key = ".".join(place)
    if item["type"] == "value_error":  # ours, says what came
        return f"{key}: {item['msg'].removeprefix('Value error, ')}"
    if item["type"] == "model_type":
        return f"{key}: expected a section, got {item['input']!r}"
    if item["type"] != "extra_forbidden":
        return f"{key}: {item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}"
    section: Any = StudyConfig
    for part in place[:-1]:
        annotation = section.model_fields[part].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        section = next(
            option for option in options if isinstance(option, type) and issubclass(option, BaseModel)
        )
    close = difflib.get_close_matches(place[-1], list(section.model_fields), 1)
    hint = (
        f"did you mean {'.'.join([*place[:-1], close[0]])}?"
        if close
        else f"known: {', '.join(section.model_fields)}"
    )
    return f"{key} is no key of a study; {hint}"
