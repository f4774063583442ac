"""The settings of a study that lie in its zoo: what they mean, and how a study that is run again agrees with them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from zoosparse_ext.errors import InputError
from zoosparse_ext.study.config import StudyConfig
from zoosparse_ext.study.method_config import USUAL
from zoosparse_ext.study.sections import explain

# Keys that came later than the first studies: settings that lack one mean what studies did before there was such a key.
_BEFORE: dict[str, dict[str, Any]] = {
    "zoo": {"lr_schedule": "constant", "loss": "cross_entropy", "crop": 0, "flip": False},
    "magnitude": {
        "lr_schedule": "constant",
        "optimizer_state": "new",
        "seed": None,
        "recalibrate": True,
        "control": False,
        "variants": [],
        "matched_epochs": [],
        "biases": False,
        "min_kept": 0,
    },
    "variational": {
        "lr_schedule": "constant",
        "optimizer_state": "new",
        "seed": None,
        "recalibrate": True,
        "control": False,
        "variants": [],
        "kl_scale": 1.0,
    },
}
_DECIDES_NOTHING = ("title",)


def is_of_study(settings: object) -> bool:
    """Whether settings in a zoo are those of a study, and not of `zoosparse train`."""
    return isinstance(settings, dict) and all(key in settings for key in ("data", "zoo", *USUAL))


def stored_config(settings: Mapping[str, Any]) -> StudyConfig:
    """The study that settings in a zoo describe; of any version.

    >>> stored_config({"magnitude": {"epochs": 15}}).magnitude.control
    False

    Raises:
        InputError: they cannot be read.
    """
    try:
        return StudyConfig.model_validate(_completed(settings))
    except ValidationError as error:
        told = "; ".join(explain(item, StudyConfig) for item in error.errors())
        raise InputError(
            f"the zoo says that a study made it, but its settings cannot be read: {told}"
        ) from error


def settled(config: StudyConfig, settings: Mapping[str, Any], place: str) -> StudyConfig:
    """The study as it is to go on: keys that it names, and for all others those of the study that began.

    Args:
        config: of the file, with what was set beside it.
        settings: in the zoo.
        place: of the zoo, for messages.

    Raises:
        InputError: a key that is named has another value; says key and both values.
    """
    there = stored_config(settings).model_dump(mode="json")
    different = _different(config, there)
    if different:
        told = "; ".join(
            f"{key} is {_text(old)} there, {_text(new)} was asked for" for key, old, new in different
        )
        sets = [f"--set {shlex.quote(f'{key}={_text(old)}')}" for key, old, _ in different if old is not None]
        as_there = f", or as there: {' '.join(sets)}" if sets else ""
        raise InputError(
            f"{place} holds the zoo of a study with other settings ({told}); to go on with it leave these keys out"
            f"{as_there}; or choose another folder (--out), or throw it away (--restart)"
        )
    return StudyConfig.model_validate({**there, **{key: getattr(config, key) for key in _DECIDES_NOTHING}})


def _different(section: BaseModel, there: Any, path: tuple[str, ...] = ()) -> list[tuple[str, Any, Any]]:
    """The keys that a section names and that have another value there: key, the value there, and the one named."""
    different = []
    for key in type(section).model_fields:
        if key not in section.model_fields_set or (not path and key in _DECIDES_NOTHING):
            continue
        value, old = getattr(section, key), there.get(key)
        plain = section.model_dump(mode="json", include={key})[key]
        if isinstance(value, BaseModel) and isinstance(old, dict) and plain.keys() == old.keys():
            different += _different(value, old, (*path, key))
        elif plain != old:
            different.append((".".join((*path, key)), old, plain))
    return different


def _completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with the keys that came later."""
    known = {key: value for key, value in settings.items() if key in StudyConfig.model_fields}
    for name, keys in _BEFORE.items():
        if isinstance(section := known.get(name), dict):
            known[name] = {**keys, **section}
    return known


def _text(value: Any) -> str:
    if value is None:
        return "not set"
    return value if isinstance(value, str) else _toml(value)


def _toml(value: Any) -> str:
    """A value as `--set` takes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        inner = ", ".join(f"{key} = {_toml(item)}" for key, item in value.items() if item is not None)
        return f"{{{inner}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else str(value)
