"""Finding the native kernels and saying in one line why there are none: both versions, and the way out."""

from __future__ import annotations

import importlib
import importlib.machinery
import platform
import sysconfig
from pathlib import Path
from types import ModuleType

import torch

PACKAGE = Path(__file__).parents[1]
TORCH_AT_LEAST = "2.10"
"""Torch whose stable ABI the kernels are built on; `ZOOSPARSE_TORCH_TARGET` in CMakeLists.txt."""

BUILD = "ZOOSPARSE_BUILD_EXT=ON pip install -v --no-deps --no-build-isolation --force-reinstall ."
INSTALL = "pip install --no-deps --force-reinstall zoosparse-ext"

_LETTERS = {"Tensor": "T", "List[int]": "L", "int": "i", "float": "d", "bool": "b"}


class NoKernelsError(Exception):
    """There are no native kernels for this process; the message says why, and what to do."""


def load() -> ModuleType:
    """The module `_C` with the library it belongs to, before its kernels are registered.

    Raises:
        NoKernelsError: there is none, or not for this platform, Python or torch.
    """
    if _release(torch.__version__) < _release(TORCH_AT_LEAST):
        raise NoKernelsError(
            f"the native kernels need torch {TORCH_AT_LEAST} or later, and torch {torch.__version__} is running; "
            "pip install --upgrade torch"
        )
    try:
        return importlib.import_module("zoosparse_ext._C")
    except ModuleNotFoundError as error:
        raise NoKernelsError(_why_not_found()) from error
    except ImportError as error:
        raise NoKernelsError(_why_not_loaded(str(error))) from error


def signature(schema: torch._C.FunctionSchema) -> str:
    """Types of arguments and results as `_C.signatures()` writes them: a letter each.

    >>> signature(torch.ops.zoosparse.unpack_mask.default._schema)
    'Ti-T'
    """
    arguments = (str(argument.type).replace("SymInt", "int") for argument in schema.arguments)
    return "".join(_LETTERS.get(name, "?") for name in arguments) + "-" + "T" * len(schema.returns)


def _release(version: str) -> tuple[int, ...]:
    """Major and minor version: a later one has all that an earlier one had."""
    return tuple(int(part) for part in version.split(".")[:2])


def _why_not_found() -> str:
    suffixes = importlib.machinery.EXTENSION_SUFFIXES
    found = sorted(path.name for path in PACKAGE.glob("_C.*") if path.suffix in (".so", ".pyd"))
    if not found:
        return f"the native kernels were not built (no compiler or CMake at installation?); build them with `{BUILD}`"
    built = ", ".join(name.removeprefix("_C.").rpartition(".")[0] for name in found)
    here = sysconfig.get_config_var("SOABI") or suffixes[0]
    return f"the native kernels were built for {built}, and this is {here}; `{INSTALL}`, or build them with `{BUILD}`"


def _why_not_loaded(error: str) -> str:
    if "libtorch_cuda" in error or "libc10_cuda" in error:
        return (
            f"the native kernels were built for a torch with CUDA, and torch {torch.__version__} is one for CPUs; "
            f"build them with `{BUILD}`, or install a torch with CUDA"
        )
    if not list(PACKAGE.glob("libzoosparse.*")):
        return f"the library of the native kernels, libzoosparse, is missing in {PACKAGE}; `{INSTALL}`"
    return (
        f"the native kernels cannot be loaded into torch {torch.__version__} on {platform.machine()} ({error}); "
        f"build them with `{BUILD}`"
    )
