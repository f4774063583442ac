"""Which folders of csrc/ may use which: csrc/README.md says why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
MAY_USE = {
    "common": {"common"},
    "cpu": {"common", "cpu"},
    "cuda": {"common", "cuda"},
    "bindings": {"common", "cpu", "cuda", "bindings"},
}
INCLUDE = re.compile(r'^\s*#include "([^"/]+)/', re.MULTILINE)

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="needs the sources of the kernels")


@pytest.mark.parametrize("folder", MAY_USE)
def test_a_folder_includes_only_those_it_may_use(folder: str) -> None:
    sources = [path for path in (CSRC / folder).rglob("*") if path.is_file()]
    used = {(path.name, name) for path in sources for name in INCLUDE.findall(path.read_text("utf-8"))}
    assert sources and not [(path, name) for path, name in used if name not in MAY_USE[folder]]


def test_every_source_lies_in_a_folder() -> None:
    assert {path.name for path in CSRC.iterdir()} <= {*MAY_USE, "tests", "README.md"}
