"""Flags of commands that are made of the sections of a study: one for every key that is a plain value."""

from __future__ import annotations

import copy
import inspect
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, TypeVar

import typer
from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from zoosparse_ext.errors import InputError
from zoosparse_ext.study.sections import explain

Command = TypeVar("Command", bound=Callable[..., Any])
Section = TypeVar("Section", bound=BaseModel)
_PLAIN = (int, float, str, bool)


def flags(
    section: type[BaseModel],
    leave_out: Iterable[str] = (),
    names: Mapping[str, str] | None = None,
    panel: str | None = None,
    unset: bool = False,
) -> list[inspect.Parameter]:
    """The flags of a section, in the order of its keys, with its defaults and descriptions.

    Args:
        leave_out: keys without a flag.
        names: other names of flags, by key: ``{"seeds": "--models"}``.
        panel: of the help that they stand in.
        unset: give them no default but None, and say in their help what stands for it.
    """
    found = []
    for key, field in section.model_fields.items():
        kind = _plain(field.annotation)
        if kind is None or key in leave_out:
            continue
        name = (names or {}).get(key, "--" + key.replace("_", "-"))
        both = f"{name}/--no-{name.removeprefix('--')}" if field.default is True else name
        default = None if unset else field.default
        text = _help(field) + f" Default: {field.default}." * unset
        shown = typer.Option(both, help=text, rich_help_panel=panel, show_default=default is not None)
        annotation: Any = kind | None if default is None else kind
        found.append(_parameter(key, Annotated[annotation, shown], default))
    return found


def with_panel(
    flag: inspect.Parameter, panel: str, other: inspect.Parameter | None = None
) -> inspect.Parameter:
    """A flag in a panel of the help, which also says what another flag of the same name means."""
    kind, shown = typing.get_args(flag.annotation)
    shown = copy.copy(shown)
    shown.rich_help_panel = panel
    if other is not None:
        earlier = typing.get_args(other.annotation)[1].help
        shown.help = earlier if shown.help == earlier else f"{earlier} Or: {shown.help}"
    return flag.replace(annotation=Annotated[kind, shown])


def parameters_of(command: Callable[..., Any]) -> list[inspect.Parameter]:
    """The flags that a function names itself."""
    hints = typing.get_type_hints(command, include_extras=True)
    return [
        item.replace(annotation=hints[item.name], kind=item.KEYWORD_ONLY)
        for item in inspect.signature(command).parameters.values()
        if item.kind is not item.VAR_KEYWORD
    ]


def with_flags(
    parameters: Iterable[inspect.Parameter], before: str | None = None
) -> Callable[[Command], Command]:
    """Give a command flags that reach it as `**options`; those that it names itself stay as they are.

    Args:
        before: the flag of its own that comes after them in the help. Default: none.
    """

    def decorate(command: Command) -> Command:
        own = parameters_of(command)
        names = [item.name for item in own]
        at = len(own) if before is None else names.index(before)
        new: dict[str, inspect.Parameter] = {}
        for item in parameters:
            if item.name not in names:
                new.setdefault(item.name, item)
        signature = inspect.Signature([*own[:at], *new.values(), *own[at:]])
        command.__signature__ = signature  # type: ignore[attr-defined]
        command.__annotations__ = {item.name: item.annotation for item in signature.parameters.values()}
        return command

    return decorate


def section_of(cls: type[Section], command: str, values: Mapping[str, Any]) -> Section:
    """A section out of the values of flags.

    Raises:
        InputError: a value that the section does not take.
    """
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        told = "; ".join(explain(item, cls) for item in error.errors())
        raise InputError(f"zoosparse {command}: {told}") from None


def _parameter(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def _help(field: FieldInfo) -> str:
    """The description as a sentence, with the names that the value may be."""
    text = field.description or ""
    text = text[:1].upper() + text[1:] if text[:1].isascii() else text  # a Greek letter is a symbol
    if typing.get_origin(field.annotation) is Literal:
        names = ", ".join(map(str, typing.get_args(field.annotation)))
        text = f"{text}: {names}" if text else names
    return f"{text}." if text else ""


def _plain(annotation: Any) -> type | None:
    """The type of a plain value, without a None beside it; None where there is none."""
    if typing.get_origin(annotation) is Literal:
        kinds = {type(value) for value in typing.get_args(annotation)}
        return kinds.pop() if len(kinds) == 1 else None
    if typing.get_origin(annotation) in (list, dict, tuple):
        return None
    parts = [part for part in typing.get_args(annotation) if part is not type(None)] or [annotation]
    if typing.get_origin(parts[0]) is Annotated or hasattr(parts[0], "__metadata__"):
        parts = [typing.get_args(parts[0])[0]]
    return parts[0] if len(parts) == 1 and parts[0] in _PLAIN else None
