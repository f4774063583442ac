"""Which implementation runs, and how that is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ops.test_native_library import library
from zoosparse_ext import ops
from zoosparse_ext.ops import _registry

REPORT = """
import torch
from zoosparse_ext import ops
mask = ops.magnitude_mask(torch.tensor([[3.0, 1.0, 2.0]]), 1)
assert mask.tolist() == [[True, False, True]]
row = next(r for r in ops.implementations() if r.operator == "magnitude_mask" and r.device == "cpu")
print(row.implementation, "|", row.why)
"""


def run(code: str = REPORT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "always::UserWarning", "-c", code],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_disabled_extension_is_silent() -> None:
    result = run(ZOOSPARSE_DISABLE_EXT="1")
    assert result.stdout.strip() == "reference | ZOOSPARSE_DISABLE_EXT is set"
    assert "without its native kernels" not in result.stderr


def test_forced_level_runs() -> None:
    """The least level, which no machine chooses by itself; the `level` fixture runs all of them in this process."""
    result = run(ZOOSPARSE_SIMD="baseline")
    without = f"reference | {_registry.why_no_native}"
    expected = "native baseline | ZOOSPARSE_SIMD=baseline" if _registry.native else without
    assert result.stdout.strip() == expected, result.stderr


def test_forced_level_that_cannot_run() -> None:
    result = run(ZOOSPARSE_SIMD="mmx")
    if _registry.native is None:  # nothing to force
        assert result.returncode == 0
    else:
        assert (
            "InputError: ZOOSPARSE_SIMD=mmx: no such instruction set; this CPU can run baseline"
            in result.stderr
        )


OTHER_SOURCES = """
import sys, types, torch
other = types.ModuleType("_C")
other.__file__ = "_C.so"
other.simd_level = lambda: "baseline"
other.signatures = lambda: {"pack_mask": "TT-T"}
sys.modules["zoosparse_ext._C"] = other
import zoosparse_ext
"""


def test_an_extension_of_other_sources_is_an_error_that_says_what_to_do() -> None:
    result = run(OTHER_SOURCES, ZOOSPARSE_DISABLE_EXT="0")
    assert result.returncode != 0
    assert "built from other sources than this package (pack_mask); build them again" in result.stderr


HIDE = "import sys; sys.modules['zoosparse_ext._C'] = None\n"
OLD = "import torch; torch.__version__ = '2.9.1'\n"


@pytest.mark.parametrize(
    ("prelude", "why"),
    [(HIDE, "the native kernels "), (OLD, "the native kernels need torch 2.10 or later, and torch 2.9.1")],
    ids=["missing", "old"],
)
def test_missing_native_kernels_warn_once(prelude: str, why: str) -> None:
    result = run(prelude + REPORT + "ops.pack_mask(mask)", ZOOSPARSE_DISABLE_EXT="0")
    assert result.stdout.startswith(f"reference | {why}")
    assert result.stderr.count("without its native kernels") == 1
    assert why in result.stderr


def test_implementations_lists_every_operator() -> None:
    on_cpu = {row.operator: row.implementation for row in ops.implementations() if row.device == "cpu"}
    names = [
        "magnitude_threshold",
        "magnitude_mask",
        "magnitude_prune_",
        "pack_mask",
        "unpack_mask",
        "apply_mask_",
    ]
    expected = f"native {_registry.native.simd_level()}" if _registry.native else "reference"
    assert [on_cpu[name] for name in names] == [expected] * len(names)


@pytest.mark.skipif(
    _registry.native is None or shutil.which("nm") is None, reason="needs the extension and nm"
)
def test_nothing_of_a_static_library_is_exported() -> None:
    """Else half of a C++ library that is linked statically would be taken from torch's, and its numbers crash."""
    assert _registry.native is not None and _registry.native.__file__ is not None
    for path, entry in ((Path(_registry.native.__file__), "PyInit__C"), (library(), "zoosparse_build_info")):
        command = ["nm", "--dynamic", "--defined-only", "--demangle", str(path)]
        names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert entry in names and "std::ostream" not in names and "std::locale" not in names
