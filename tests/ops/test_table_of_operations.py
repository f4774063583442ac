"""Kinds, activations and fields of programs: the same names, in the same order, in Python and in the kernels."""

from __future__ import annotations

import re
from pathlib import Path

from zoosparse_ext.ops import _program
from zoosparse_ext.population.operations import KINDS
from zoosparse_ext.population.operations.activation import FUNCTIONS

SOURCES = Path(__file__).parents[2] / "csrc"


def enumerators(header: str, name: str) -> list[str]:
    """The names of an enumeration, in order."""
    (path,) = SOURCES.rglob(header)
    found = re.search(rf"enum (?:class )?{name}[^{{]*{{([^}}]*)}}", path.read_text(encoding="utf-8"))
    assert found is not None, f"{path} has no enumeration {name}"
    return re.findall(r"\w+", found[1])


def snake(name: str) -> str:
    """kInChannels as in_channels."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name.removeprefix("k")).lower()


def test_kinds() -> None:
    assert tuple(enumerators("params.h", "OpKind")) == _program.KINDS
    assert set(_program.KINDS) <= KINDS.keys()


def test_activations() -> None:
    assert tuple(enumerators("params.h", "ActivationKind")) == _program.ACTIVATIONS
    assert set(_program.ACTIVATIONS) <= FUNCTIONS.keys()


def test_fields() -> None:
    *fields, count = map(snake, enumerators("program_table.h", "ProgramField"))
    assert tuple(fields) == _program.FIELDS and count == "program_fields"


def test_fields_that_are_named_in_messages() -> None:
    (path,) = SOURCES.rglob("program_table.cpp")
    found = re.search(r"kNames{([^}]*)}", path.read_text(encoding="utf-8"))
    assert found is not None
    assert tuple(re.findall(r'"(\w+)"', found[1])) == _program.FIELDS[: _program.FIELDS.index("weight")]
