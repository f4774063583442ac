"""The accelerated operators, usable alone in any pipeline.

``weights [N, P]``: one row per model, one column per parameter. True in a mask means kept.
"""

from __future__ import annotations

from . import infer, infer_costs, train
from ._registry import Implementation, implementations, load_native
from .magnitude import magnitude_mask, magnitude_masks, magnitude_prune_, magnitude_threshold
from .masks import apply_mask_, pack_mask, unpack_mask

load_native()
if (_measured := infer_costs.saved()) is not None:
    infer_costs.use(_measured)

__all__ = [
    "Implementation",
    "apply_mask_",
    "implementations",
    "infer",
    "infer_costs",
    "magnitude_mask",
    "magnitude_masks",
    "magnitude_prune_",
    "magnitude_threshold",
    "pack_mask",
    "train",
    "unpack_mask",
]
