"""Kernels that cannot be loaded: one line that names what is here, what is needed, and the way out."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import torch

from zoosparse_ext.ops import _registry
from zoosparse_ext.ops._loading import BUILD, INSTALL, PACKAGE

HERE = f"_C{sysconfig.get_config_var('EXT_SUFFIX')}"
# An editable install would find the module of its own checkout.
ALONE = "import sys; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]\n"
WHY = """
from zoosparse_ext.ops import _registry
assert _registry.native is None
print(_registry.why_no_native)
"""


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package to take things from."""
    copy = tmp_path / "zoosparse_ext"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__", "benchmarks"))
    return copy


def why(package: Path, prelude: str = "") -> str:
    """Why there are no kernels: one line, which the only warning repeats."""
    environment = os.environ | {"PYTHONPATH": str(package.parent), "ZOOSPARSE_DISABLE_EXT": "0"}
    check = WHY + f"import zoosparse_ext; assert zoosparse_ext.__file__.startswith({str(package)!r})\n"
    done = subprocess.run(
        [sys.executable, "-c", ALONE + prelude + check],
        cwd=package.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    return line


def test_a_torch_that_is_too_old(package: Path) -> None:
    line = why(package, "import torch; torch.__version__ = '2.9.1+cpu'\n")
    assert "need torch 2.10 or later, and torch 2.9.1+cpu is running" in line
    assert line.endswith("pip install --upgrade torch")


def test_kernels_that_were_not_built(package: Path) -> None:
    for path in [*package.glob("_C*"), *package.glob("libzoosparse*")]:
        path.unlink()
    line = why(package)
    assert "not built" in line and BUILD in line


def test_kernels_of_another_platform(package: Path) -> None:
    for path in package.glob("_C*"):
        path.unlink()
    (package / "_C.cpython-399-sparc-linux-gnu.so").write_bytes(b"")
    line = why(package)
    assert "built for cpython-399-sparc-linux-gnu, and this is" in line
    assert str(sysconfig.get_config_var("SOABI")) in line and INSTALL in line


def test_a_file_that_is_no_library(package: Path) -> None:
    (package / HERE).unlink(missing_ok=True)
    (package / HERE).write_bytes(b"\x7fELF of another machine")
    (package / "libzoosparse.so").touch()
    line = why(package)
    assert f"cannot be loaded into torch {torch.__version__} on " in line and BUILD in line


@pytest.mark.skipif(_registry.native is None, reason="needs the native kernels")
def test_a_module_without_its_library(package: Path) -> None:
    for path in package.glob("libzoosparse*"):
        path.unlink()
    line = why(package)
    assert f"libzoosparse, is missing in {package}" in line and INSTALL in line


def test_kernels_for_cuda_and_a_torch_for_cpus(package: Path) -> None:
    refuse = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "zoosparse_ext._C":
            raise ImportError("libtorch_cuda.so: cannot open shared object file: No such file or directory")
sys.meta_path.insert(0, Finder())
"""
    line = why(package, refuse)
    assert "built for a torch with CUDA, and torch" in line and "is one for CPUs" in line and BUILD in line
