"""Registration of the operators: a schema, a reference in PyTorch, a fake; native kernels override it.

Call ``torch.ops.zoosparse.<name>`` through the public functions of :mod:`zoosparse_ext.ops`. Which
implementation runs is PyTorch's own dispatch: a native kernel where one is registered for the device, the
reference elsewhere.
"""

from __future__ import annotations

import functools
import importlib
import os
import warnings
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

from ._autograd import Operator, changed_arguments, in_place, raising_versions, without_derivative
from ._checks import check_devices
from ._negative import through_negation
from ._vmap import Rows, batching_rule

LIBRARY = "zoosparse"
_library = torch.library.Library(LIBRARY, "FRAGMENT")
_operators: dict[str, Operator] = {}
_listed: list[str] = []  # those that do not call another one

native: ModuleType | None = None
"""The extension module `_C` once it is loaded and its kernels are registered, else None."""

why_no_native = ""
"""Why there are no native kernels; empty when there are."""


class Implementation(NamedTuple):
    """One row of `zoosparse info`: what runs for an operator on a device, and why."""

    operator: str
    device: str
    implementation: str
    why: str


def define(
    schema: str,
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    *,
    recorded: Callable[..., Any] | None = None,
    numbers: bool = False,
    rows: Rows | None = None,
    anywhere: tuple[str, ...] = (),
    over: str = "",
) -> None:
    """Register an operator under ``torch.ops.zoosparse``.

    Args:
        schema: with SymInt for sizes, so that `torch.compile` need not know them.
        reference: the pure PyTorch implementation: the oracle of the tests, and what runs on any device without a
            native kernel.
        fake: the shapes of the results, for `torch.compile` and meta tensors.
        recorded: runs in place of an operator that changes tensors where gradients are recorded.
        numbers: the results are numbers that depend on the arguments, and have no derivative.
        rows: makes `torch.vmap` fold a batch into rows.
        anywhere: arguments that need not be where the first one is.
        over: the operator that this one calls, which says what runs for both.
    """
    name = schema.split("(", 1)[0]

    @functools.wraps(reference)
    def run_reference(*args: Any, **kwargs: Any) -> Any:
        _warn_of_missing_native()
        return reference(*args, **kwargs)

    _library.define(schema)
    operator = getattr(getattr(torch.ops, LIBRARY), name).default
    names = [argument.name for argument in operator._schema.arguments]

    @functools.wraps(fake)
    def run_fake(*args: Any) -> Any:
        tensors = {n: arg for n, arg in zip(names, args, strict=True) if isinstance(arg, Tensor)}
        check_devices(name, tensors, anywhere)
        return fake(*args)

    _library.impl(name, run_reference, "CompositeExplicitAutograd")
    torch.library.register_fake(f"{LIBRARY}::{name}", run_fake, lib=_library)
    if recorded is not None:
        _library.impl(name, in_place(operator, recorded), "Autograd", with_keyset=True)
        _library.impl(name, through_negation(operator), "Negative")
    elif numbers:
        _library.impl(name, without_derivative(operator), "Autograd", with_keyset=True)
    if rows is not None:
        torch.library.register_vmap(f"{LIBRARY}::{name}", batching_rule(operator, rows), lib=_library)
    _operators[name] = operator
    if not over:
        _listed.append(name)


def call(operator: Callable[..., Any], *args: Any) -> Any:
    """Run an operator; what its kernel refuses is an InputError."""
    try:
        return operator(*args)
    except ValueError as error:
        raise InputError(str(error)) from None


def load_native() -> None:
    """Load `_C` and register its kernels; an obstacle is noted in `why_no_native` and leaves the references.

    Raises:
        InputError: ZOOSPARSE_SIMD asks for an instruction set that the CPU lacks or nobody knows.
        ImportError: the extension belongs to another version of the package.
    """
    _try_native()
    if native is None:  # the extension has a kernel of its own for all devices, and there can be one alone
        for name, operator in _operators.items():
            if changed_arguments(operator):
                _library.impl(name, raising_versions(operator), "ADInplaceOrView", with_keyset=True)


def _try_native() -> None:
    global native, why_no_native
    if os.environ.get("ZOOSPARSE_DISABLE_EXT", "0") not in ("", "0"):
        why_no_native = "ZOOSPARSE_DISABLE_EXT is set"
        return
    try:
        module = importlib.import_module("zoosparse_ext._C")
    except ImportError as error:
        why_no_native = _explain(error)
        return
    built, running = module.build_info()["torch"], torch.__version__
    if built.split("+")[0] != running.split("+")[0]:
        why_no_native = f"the extension was built against torch {built}, but torch {running} is running"
        return
    try:
        module.simd_level()
    except RuntimeError as error:
        raise InputError(str(error)) from None
    try:
        module.register_operators()
    except RuntimeError as error:  # schemas of operators differ
        raise ImportError(
            "zoosparse_ext._C was built from other sources than this package; build it again with "
            "`pip install --no-build-isolation .`, or set ZOOSPARSE_DISABLE_EXT=1 to run without it"
        ) from error
    native = module


def has_native(operator: str, device: str) -> bool:
    """Whether a native kernel runs for tensors on such a device, ``"cpu"`` or ``"cuda"``."""
    return native is not None and torch._C._dispatch_has_kernel_for_dispatch_key(
        f"{LIBRARY}::{operator}", device.upper()
    )


def why_not_native(operator: str, device: str) -> str:
    """Why there is no native kernel for such a device; empty when there is one."""
    if has_native(operator, device):
        return ""
    return why_no_native or f"this build has no native {operator} for {device}"


def implementations() -> list[Implementation]:
    """What runs for each operator on each device of this machine, and why.

    >>> row = implementations()[0]
    >>> row.device, row.implementation.split()[0] in ("native", "reference")
    ('cpu', True)
    """
    devices = ["cpu"] + ["cuda"] * torch.cuda.is_available()
    return [_implementation(name, device) for device in devices for name in _listed]


def _implementation(name: str, device: str) -> Implementation:
    if torch._C._dispatch_has_kernel_for_dispatch_key(f"{LIBRARY}::{name}", device.upper()):
        level = f" {native.simd_level()}" if native is not None and device == "cpu" else ""
        return Implementation(name, device, f"native{level}", _why_this_level() if level else "")
    if native is None:
        return Implementation(name, device, "reference", why_no_native)
    return Implementation(name, device, "reference", f"no native kernel for {device}")


def _why_this_level() -> str:
    forced = os.environ.get("ZOOSPARSE_SIMD")
    return f"ZOOSPARSE_SIMD={forced}" if forced else "best of this CPU"


def _explain(error: ImportError) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "the extension was not built (no compiler or CMake at installation?)"
    return f"the extension cannot be loaded, maybe built for another torch than {torch.__version__} ({error})"


@functools.cache
def _warn_of_missing_native() -> None:
    if native is not None or os.environ.get("ZOOSPARSE_DISABLE_EXT", "0") not in ("", "0"):
        return
    warnings.warn(
        f"zoosparse_ext runs without its native kernels: {why_no_native}. Results are the same, slower. To "
        "build them: ZOOSPARSE_BUILD_EXT=ON pip install -v --no-build-isolation --force-reinstall . "
        "(or set ZOOSPARSE_DISABLE_EXT=1 to run without them and without this warning)",
        UserWarning,
        stacklevel=2,
    )
