"""The source distribution is what git tracks: nothing is forgotten, and no build leaves anything in it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
LEFT_BEHIND = [
    ".venv/bin/python",
    ".hypothesis/examples/0",
    "benchmarks/__pycache__/train.cpython-311.pyc",
    "build/ctest/CMakeCache.txt",
    "demo/report.html",
    "dist/zoosparse_ext-0.0.1.tar.gz",
    "tests/__pycache__/conftest.cpython-311.pyc",
    "zoosparse_ext/_C.cpython-311-x86_64-linux-gnu.so",
    "zoosparse_ext/benchmarks/train.py",
    "zoosparse_ext/population/__pycache__/train.cpython-311.pyc",
]


def tracked_files() -> list[str]:
    """Names relative to the repository; those deleted and not yet committed are left out."""
    if not (REPOSITORY / ".git").exists():
        pytest.skip("no git checkout: there is no list of tracked files to compare with")
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout
    return [name for name in listed.split("\0") if name and (REPOSITORY / name).exists()]


def test_it_holds_what_git_tracks_and_nothing_else(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    tracked = tracked_files()
    for name in tracked:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, source / name)
    for name in LEFT_BEHIND:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    target.mkdir()
    build = f"from setuptools import build_meta; build_meta.build_sdist({str(target)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (archive,) = target.iterdir()
    with tarfile.open(archive) as opened:
        held = {member.name.partition("/")[2] for member in opened if member.isfile()}
    made = {name for name in held if name in ("PKG-INFO", "setup.cfg") or ".egg-info/" in name}
    missing, extra = sorted(set(tracked) - held), sorted(held - made - set(tracked))
    assert not missing, f"MANIFEST.in leaves out {missing}"
    assert not extra, f"MANIFEST.in takes in {extra}"
