"""A reader that knows a layout finds in a file what a reader finds that has never seen one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from tests.zoo.formats.test_damaged_sources import damage
from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo.formats.checkpoint import CheckpointReader, State


def state(seed: int, names: str = "ab") -> State:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(3, 2, generator=generator) for _ in range(2))
    return {names[0]: first, names[1]: second.t(), "half": second[1:].half(), "none": torch.empty(0, 3)}


def write(path: Path, tensors: State) -> Path:
    if path.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    else:
        torch.save(tensors, path)
    return path


def found(reader: CheckpointReader, path: Path) -> dict[str, Tensor] | str:
    try:
        return reader.read(path)
    except StoreError as error:
        return str(error)


def same(left: dict[str, Tensor] | str, right: dict[str, Tensor] | str) -> bool:
    if isinstance(left, str) or isinstance(right, str):
        return left == right
    return list(left) == list(right) and all(
        left[name].dtype == right[name].dtype
        and torch.equal(left[name].nan_to_num(), right[name].nan_to_num())
        for name in left
    )


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_of_one_layout_keep_their_own_numbers(tmp_path: Path, suffix: str) -> None:
    """Also where `torch.save` names the folder in the archive as the file, and where names alone differ."""
    reader = CheckpointReader(tmp_path)
    files = [
        write(tmp_path / f"{number}{suffix}", state(number, "abcd"[number // 3 :])) for number in range(6)
    ]
    for _ in range(2):
        for number, file in enumerate(files):
            assert same(
                reader.read(file),
                state(number, "abcd"[number // 3 :])
                if suffix == ".pt"
                else found(CheckpointReader(tmp_path), file),
            )
            outline = reader.outline(file)
            assert {name: (t.shape, t.dtype) for name, t in outline.items()} == {
                name: (t.shape, t.dtype) for name, t in reader.read(file).items()
            }


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_a_damaged_file_of_a_known_layout_is_what_it_is_to_a_new_reader(tmp_path: Path, suffix: str) -> None:
    known = write(tmp_path / f"known{suffix}", state(0))
    content = write(tmp_path / f"other{suffix}", state(1)).read_bytes()
    path = tmp_path / f"again{suffix}"

    @settings(max_examples=200)
    @given(st.randoms(use_true_random=False))
    def check(random: random.Random) -> None:
        path.write_bytes(damage(content, random))
        reader = CheckpointReader(tmp_path)
        reader.read(known)
        assert same(found(reader, path), found(CheckpointReader(tmp_path), path))

    check()


def test_a_damaged_number_is_noticed_in_a_known_layout(tmp_path: Path) -> None:
    reader = CheckpointReader(tmp_path)
    reader.read(write(tmp_path / "a.pt", state(0)))
    content = bytearray(write(tmp_path / "b.pt", state(1)).read_bytes())
    place = content.find(state(1)["a"].numpy().tobytes())
    content[place] ^= 1
    (tmp_path / "b.pt").write_bytes(content)
    with pytest.raises(StoreError, match=r"b\.pt is damaged: the checksum"):
        reader.read(tmp_path / "b.pt")
