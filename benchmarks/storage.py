"""Sparse twins as bytes: bits and values, as the store keeps them, against other ways to write them down.

The job: weights of 2,000 models of 2,464 parameters (CNN-s), distributed as in trained networks and pruned by
magnitude, into bytes and back to the same bits. The share behind a name is the size, of the dense matrix.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pytest
import torch
from conftest import Contender
from magnitude import P, trained_rows
from safetensors.torch import load, save
from torch import Tensor

from zoosparse_ext import ops
from zoosparse_ext.zoo import compressed

MODELS = 2000


@dataclass(frozen=True)
class Codec:
    """Weights [N, P] to bytes, and back."""

    encode: Callable[[Tensor], bytes]
    decode: Callable[[bytes], Tensor]


def bits_and_values(content: bytes) -> Tensor:
    parts = load(content)
    return parts["weights"] if "weights" in parts else compressed.restore(parts, MODELS, P)


def index_and_value(weights: Tensor) -> bytes:
    """Compressed sparse rows with columns of 16 bits."""
    rows, columns = weights.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(weights)).to(torch.int32)
    return save({"counts": counts, "columns": columns.to(torch.int16), "values": weights[rows, columns]})


def from_index_and_value(content: bytes) -> Tensor:
    parts = load(content)
    rows = torch.repeat_interleave(torch.arange(MODELS), parts["counts"].long())
    return torch.zeros(MODELS, P).index_put_((rows, parts["columns"].long()), parts["values"])


def raw(weights: Tensor) -> bytes:
    return weights.numpy().tobytes()


def from_raw(content: bytes | pa.Buffer) -> Tensor:
    return torch.frombuffer(bytearray(content), dtype=torch.float32).view(MODELS, P)


def zstd(weights: Tensor) -> bytes:
    return pa.compress(raw(weights), codec="zstd", asbytes=True)


def from_zstd(content: bytes) -> Tensor:
    return from_raw(pa.decompress(content, decompressed_size=4 * MODELS * P, codec="zstd", asbytes=True))


CODECS = {
    "bits and values": Codec(
        lambda weights: save(compressed.compress({"weights": weights})), bits_and_values
    ),
    "dense": Codec(lambda weights: save({"weights": weights}), lambda content: load(content)["weights"]),
    "index and value": Codec(index_and_value, from_index_and_value),
    "zstd of dense": Codec(zstd, from_zstd),
    "gzip of dense": Codec(
        lambda weights: gzip.compress(raw(weights), 6), lambda content: from_raw(gzip.decompress(content))
    ),
}


def pruned(sparsity: float) -> Tensor:
    weights = trained_rows(MODELS)
    ops.magnitude_prune_(weights, round(sparsity * P))
    return weights


@pytest.mark.parametrize("way", ["write", "read"])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.8, 0.9])
def test_storage(race: Callable[..., None], device: str, way: str, sparsity: float) -> None:
    if device != "cpu":
        pytest.skip("files are written by the CPU")
    weights = pruned(sparsity)
    contenders = {}
    for name, codec in CODECS.items():
        content = codec.encode(weights)
        assert torch.equal(codec.decode(content), weights), name
        label = f"{name}, {len(content) / weights.nbytes:.0%}"
        if way == "write":
            contenders[label] = Contender(lambda codec=codec: codec.encode(weights), validate=False)
        else:
            contenders[label] = Contender(lambda codec=codec, content=content: codec.decode(content))
    race(contenders, bytes_moved=weights.nbytes)
