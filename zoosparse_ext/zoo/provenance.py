"""What decided a result: versions, machine, command."""

from __future__ import annotations

import platform
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from zoosparse_ext import ops
from zoosparse_ext.population.augment import Augment
from zoosparse_ext.version import package_version

TASK = "task"  # in the provenance: what twins learn as their originals did


def provenance(**settings: Any) -> dict[str, Any]:
    """Versions of everything that computes, the machine, and the settings given; plain values for JSON."""
    return {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "zoosparse_ext": package_version(),
        "revision": revision(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads",
        "kernels": sorted({row.implementation for row in ops.implementations() if row.device == "cpu"}),
        "settings": settings,
    }


def task_record(loss: str = "cross_entropy", augment: Augment | None = None, **_: Any) -> dict[str, Any]:
    """Loss and augmentation out of the options of a training, as plain values for the provenance.

    >>> task_record(loss="mse", augment=Augment(crop=2), lr_schedule="cosine")
    {'loss': 'mse', 'crop': 2, 'flip': False}
    """
    augment = augment if augment is not None else Augment()
    return {"loss": loss, "crop": augment.crop, "flip": augment.flip}


def revision() -> str | None:
    """Git revision of the source tree that the package runs from, "-dirty" if it was changed; None if installed."""
    tree = Path(__file__).parents[2]
    if not (tree / ".git").exists():
        return None
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def command_line() -> str:
    """The command as it was typed, without the path of the program."""
    return " ".join(["zoosparse", *sys.argv[1:]])
