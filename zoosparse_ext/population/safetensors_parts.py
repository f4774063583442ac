"""Tensors as a safetensors file, without a copy of them."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor

_DTYPES = {  # as safetensors names them, in its order of tensors in a file
    torch.uint64: "U64",
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def safetensors_parts(
    tensors: dict[str, Tensor], metadata: dict[str, str] | None = None
) -> list[bytes | memoryview]:
    """What `safetensors.torch.save` makes of tensors, but without a copy: a header, then their own bytes.

    >>> safetensors_parts({"labels": torch.tensor([1, 2])})[0]
    b'@\\x00\\x00\\x00\\x00\\x00\\x00\\x00{"labels":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}    '
    """
    parts: list[bytes | memoryview] = []
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    offset, order = 0, list(_DTYPES)
    for name, tensor in sorted(tensors.items(), key=lambda item: (order.index(item[1].dtype), item[0])):
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + tensor.nbytes],
        }
        offset += tensor.nbytes
        flat = tensor.contiguous().as_strided((tensor.numel(),), (1,))  # the stride of one number may be 0
        parts.append(flat.view(torch.uint8).numpy().data)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that numbers start at multiples of their size
    return [len(text).to_bytes(8, "little") + text, *parts]
