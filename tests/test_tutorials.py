"""Every tutorial runs to its end, in a process of its own, and the README leads to it."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
TUTORIALS = sorted((REPOSITORY / "zoosparse_ext" / "tutorials").glob("*.py"))


@pytest.mark.parametrize("script", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial_runs(script: Path, tmp_path: Path) -> None:
    places = {"PYTHONPATH": str(REPOSITORY), "TMPDIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(script)],
        env=os.environ | places,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout


@pytest.mark.parametrize("script", TUTORIALS, ids=lambda path: path.stem)
def test_a_tutorial_needs_nothing_but_the_public_surface(script: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
        elif isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
    ours = {name for name in imported if name.partition(".")[0] == "zoosparse_ext"}
    others = {name.partition(".")[0] for name in imported - ours} - sys.stdlib_module_names
    assert ours == {"zoosparse_ext"} and others <= {"numpy", "pandas", "torch"}
    assert "from zoosparse_ext" not in script.read_text(encoding="utf-8")


def test_the_readme_leads_to_every_tutorial() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert len(TUTORIALS) == 5
    for script in TUTORIALS:
        assert f"(zoosparse_ext/tutorials/{script.name})" in readme
