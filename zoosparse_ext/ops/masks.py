"""Masks: bool matrices [N, P] where True means kept, and the same as bits, eight columns a byte.

Bit j of byte i is column 8·i + j (little bit order, as ``numpy.packbits(..., bitorder="little")``); the bits
beyond the last column are 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError

from ._checks import check_devices, check_dtype, check_integer, check_matrix, check_tensor, shape_text
from ._registry import call, define
from ._vmap import Rows


def pack_mask(mask: Tensor) -> Tensor:
    """A bool mask as bits: an eighth of the memory.

    >>> pack_mask(torch.tensor([[True, False, True, True, False, False, False, False, True]]))
    tensor([[13,  1]], dtype=torch.uint8)

    Args:
        mask: bool [N, P] or [K, N, P], True = kept; any byte but 0 is True.

    Returns:
        uint8 [N, ceil(P / 8)] or [K, N, ceil(P / 8)], little bit order, bits beyond P are 0.

    Raises:
        InputError: `mask` is not a bool matrix, or a stack of them.
    """
    _check_matrices("pack_mask", "mask", mask)
    check_dtype("pack_mask", "mask", mask, torch.bool)
    stacked = mask.dim() == 3
    packed: Tensor = call(torch.ops.zoosparse.pack_mask, mask.flatten(0, 1) if stacked else mask)
    return packed.view(*mask.shape[:-1], packed.shape[-1]) if stacked else packed


def unpack_mask(packed: Tensor, p: int) -> Tensor:
    """The bool mask of `p` columns that :func:`pack_mask` made bits of.

    >>> unpack_mask(torch.tensor([[13, 1]], dtype=torch.uint8), 9)
    tensor([[ True, False,  True,  True, False, False, False, False,  True]])

    Args:
        packed: uint8 [N, ceil(p / 8)] or [K, N, ceil(p / 8)], as from :func:`magnitude_masks`; bits beyond `p` are
            ignored.
        p: number of columns.

    Returns:
        bool [N, p] or [K, N, p].

    Raises:
        InputError: `packed` is not a uint8 matrix of that width, or a stack of them.
    """
    _check_matrices("unpack_mask", "packed", packed)
    check_dtype("unpack_mask", "packed", packed, torch.uint8)
    p = check_integer("unpack_mask", "p", p)
    if p < 0 or packed.shape[-1] != (p + 7) // 8:
        if torch.compiler.is_compiling():  # which cannot show p
            raise InputError(
                f"unpack_mask: p columns need packed [N, ceil(p / 8)], got {shape_text(packed.shape)}"
            )
        raise InputError(
            f"unpack_mask: {p} columns need packed of shape {[*packed.shape[:-1], max(0, p + 7) // 8]}, "
            f"got {list(packed.shape)}"
        )
    stacked = packed.dim() == 3
    mask: Tensor = call(torch.ops.zoosparse.unpack_mask, packed.flatten(0, 1) if stacked else packed, p)
    return mask.view(*packed.shape[:-1], p) if stacked else mask


def apply_mask_(weights: Tensor, mask: Tensor) -> Tensor:
    """Set what the mask prunes to exactly +0.0, in place, NaN and infinities included.

    >>> apply_mask_(torch.tensor([[1.0, -2.0, float("nan")]]), torch.tensor([[True, False, False]]))
    tensor([[1., 0., 0.]])

    Where gradients are recorded and `weights` requires them, this is ``weights.masked_fill_(~mask, 0)``: the
    gradient of pruned weights is 0, and a leaf raises PyTorch's usual error for in-place operations.

    Args:
        weights: [N, P], any dtype of at most 8 bytes an element.
        mask: bool [N, P], or packed uint8 [N, ceil(P / 8)] as from :func:`pack_mask`; True = kept; any byte of a bool
            but 0 is True.

    Returns:
        `weights`.

    Raises:
        InputError: shapes, dtypes or devices do not fit.
    """
    check_matrix("apply_mask_", "weights", weights)
    check_matrix("apply_mask_", "mask", mask)
    n, p = weights.shape
    if weights.is_quantized:
        raise InputError(
            f"apply_mask_: weights must be plain numbers, got {weights.dtype}; pass weights.dequantize()"
        )
    if weights.element_size() > 8:
        raise InputError(
            f"apply_mask_: weights of at most 8 bytes an element are expected, got {weights.dtype}"
        )
    if mask.dtype not in (torch.bool, torch.uint8):
        raise InputError(f"apply_mask_: mask must be bool or packed uint8, got {mask.dtype}")
    width = p if mask.dtype == torch.bool else (p + 7) // 8
    if mask.shape != (n, width):
        kind = "bool" if mask.dtype == torch.bool else "packed uint8"
        raise InputError(
            f"apply_mask_: weights {shape_text(weights.shape)} need a {kind} mask of shape [{n}, {width}], "
            f"got {shape_text(mask.shape)}"
        )
    if mask.device != weights.device:
        check_devices("apply_mask_", {"weights": weights, "mask": mask})
    call(torch.ops.zoosparse.apply_mask_, weights, mask)
    return weights


def _check_matrices(op: str, name: str, tensor: Tensor) -> None:
    check_tensor(op, name, tensor)
    if tensor.dim() != 3:
        check_matrix(op, name, tensor)


def _pack_mask_reference(mask: Tensor) -> Tensor:
    n, p = mask.shape
    bits = mask.new_zeros((n, (p + 7) // 8 * 8), dtype=torch.uint8)
    bits[:, :p] = ~_is_pruned(mask)
    return (bits.view(n, (p + 7) // 8, 8) << _bit_positions(mask)).sum(-1, dtype=torch.uint8)


def _unpack_mask_reference(packed: Tensor, p: int) -> Tensor:
    if p < 0 or packed.shape[-1] != (p + 7) // 8:
        expected = [packed.shape[0], max(0, p + 7) // 8]
        raise InputError(f"unpack_mask: packed must have shape {expected}, got {list(packed.shape)}")
    bits = packed[..., None] >> _bit_positions(packed) & 1  # [N, ceil(P / 8), 8]
    return bits.flatten(1)[:, :p].to(torch.bool)


def _apply_mask_reference(weights: Tensor, mask: Tensor) -> None:
    packed = mask.dtype == torch.uint8
    keep = torch.ops.zoosparse.unpack_mask(mask, weights.shape[1]) if packed else mask
    weights.masked_fill_(_is_pruned(keep), 0)


def _is_pruned(mask: Tensor) -> Tensor:
    """Where a bool mask holds a 0: other bytes than 1, as a view of uint8 has, are True."""
    return mask.view(torch.uint8) == 0


def _bit_positions(like: Tensor) -> Tensor:
    return torch.arange(8, dtype=torch.uint8, device=like.device)


def _pack_mask_fake(mask: Tensor) -> Tensor:
    n, p = mask.shape
    return mask.new_empty((n, (p + 7) // 8), dtype=torch.uint8)


def _unpack_mask_fake(packed: Tensor, p: int) -> Tensor:
    return packed.new_empty((packed.shape[0], p), dtype=torch.bool)


def _apply_mask_fake(weights: Tensor, mask: Tensor) -> None:
    return None


define("pack_mask(Tensor mask) -> Tensor", _pack_mask_reference, _pack_mask_fake, rows=Rows((0,), 0))
define(
    "unpack_mask(Tensor packed, SymInt p) -> Tensor",
    _unpack_mask_reference,
    _unpack_mask_fake,
    rows=Rows((0,), 0),
)
define(
    "apply_mask_(Tensor(a!) weights, Tensor mask) -> ()",
    _apply_mask_reference,
    _apply_mask_fake,
    recorded=_apply_mask_reference,
    rows=Rows((0, 0)),
)
