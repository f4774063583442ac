"""Importing what `export_zoo` wrote, whatever its layout."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.formats.contents import FILE, find_contents, read_contents
from zoosparse_ext.zoo.formats.packed import plan_packed
from zoosparse_ext.zoo.formats.plan import Options, Plan
from zoosparse_ext.zoo.formats.states import plan_states


def is_export(root: Path) -> bool:
    """Whether a folder was written by `export_zoo`."""
    return find_contents(root) is not None


def plan_export(roots: Sequence[str | os.PathLike[str]], options: Options) -> Plan:
    """The plan to read an export back.

    Raises:
        StoreError: it is damaged, or there is more than one.
    """
    if len(roots) != 1:
        raise StoreError(f"an export is one folder, got {len(roots)}")
    folder = find_contents(roots[0])
    if folder is None:
        raise StoreError(f"{roots[0]} holds no {FILE}")
    layout = read_contents(folder).get("layout")
    if layout in ("safetensors", "npz"):
        return plan_packed(folder, options)
    if layout in ("modelzoos", "modules"):
        return plan_states(folder, Path(roots[0]), options)
    raise StoreError(f"{folder / FILE} says layout {layout!s:.40}, which is not known")
