"""What the choice between dense and sparse inference reckons with, and where it is kept for this machine.

The built-in costs suit AVX2 and AVX-512 machines; ``zoosparse info --tune`` measures this one's.
"""

from __future__ import annotations

import json
import os
import platform
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

from zoosparse_ext.errors import InputError

from . import _registry


@dataclass(frozen=True)
class InferCosts:
    """How many times longer a weight takes in a sparse list than in a dense layer.

    Args:
        on_planes: in convolutions.
        on_one_position: in linear layers, and convolutions with a single output position.

    >>> InferCosts().on_planes < InferCosts().on_one_position
    True
    """

    on_planes: float = 1.35
    on_one_position: float = 2.5

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if not isinstance(value, float) or not 0 < value < float("inf"):
                raise InputError(f"costs of inference: {name} must be a positive number, got {value!r}")


def use(costs: InferCosts) -> None:
    """Let ``sparse="auto"`` choose by these costs from now on, in this process; without native kernels, nothing."""
    if _registry.native is not None:
        _registry.native.set_infer_costs(costs.on_planes, costs.on_one_position)


def file() -> Path:
    """Where the measured costs are kept: ``$XDG_CACHE_HOME/zoosparse/infer_costs.json``, by default in ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "zoosparse" / "infer_costs.json"


def save(costs: InferCosts) -> None:
    """Keep the costs for later processes on this machine, which load them when the package is imported."""
    target = file()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"{target.name}.{os.getpid()}")
    fresh.write_text(json.dumps({"machine": machine(), **asdict(costs)}, indent=2) + "\n")
    fresh.replace(target)


def saved() -> InferCosts | None:
    """The costs that were measured on this machine with these kernels; None if there are none.

    A file that cannot be read is reported by a warning and then ignored.
    """
    try:
        values = json.loads(file().read_text())
        if values.pop("machine") != machine():
            return None
        return InferCosts(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InputError) as error:
        warnings.warn(
            f"{file()} cannot be read ({error}); the built-in costs of inference are used. Measure them again "
            "with `zoosparse info --tune`, or delete the file",
            UserWarning,
            stacklevel=2,
        )
        return None


def machine() -> str:
    """What the costs hold for: processor and instruction set, for example ``"x86_64, AMD EPYC, avx2"``."""
    level = _registry.native.simd_level() if _registry.native is not None else "no native kernels"
    return ", ".join((platform.machine(), _processor(), level))


def _processor() -> str:
    """The name of the processor as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())
