"""A folder imports only from those below it; the core needs nothing that is an extra."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "zoosparse_ext"
# From the bottom up. Modules beside the folders say what all folders share, and import from no folder.
FOLDERS = ("ops", "data", "population", "zoo", "sparsify", "analysis", "report", "study", "cli")
SHARED = ("errors", "options", "random", "version", "words")
FILES = sorted(path for name in FOLDERS for path in (PACKAGE / name).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """The modules of this package that a file names in imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level < 2, f"{path}: a relative import may not leave its folder"
            if node.level == 1:
                continue
            if node.module == "zoosparse_ext":
                yield from (f"zoosparse_ext.{alias.name}" for alias in node.names)
            elif node.module is not None:
                yield node.module


def folders(path: Path) -> set[str]:
    parts = (name.split(".") for name in imported(path))
    return {name[1] for name in parts if name[0] == "zoosparse_ext" and len(name) > 1}


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_imports_from_those_below_it(name: str) -> None:
    allowed = {*FOLDERS[: FOLDERS.index(name) + 1], *SHARED, "_C"}
    above = {
        str(path.relative_to(PACKAGE)): folders(path) - allowed
        for path in FILES
        if path.is_relative_to(PACKAGE / name) and folders(path) - allowed
    }
    assert not above


@pytest.mark.parametrize("name", SHARED)
def test_what_all_share_imports_from_no_folder(name: str) -> None:
    assert folders(PACKAGE / f"{name}.py") <= {*SHARED}


def test_every_folder_has_its_place() -> None:
    there = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert there == {*FOLDERS}
    assert {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"} == {*SHARED}
