"""Rows of a matrix on disk are those of the matrix, however it is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.zoo.made_up import architecture, cut, population, zoo
from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo import Zoo, shards, stored_rows
from zoosparse_ext.zoo.stored_rows import SMALL, StoredGroup

TENSORS = ("weights", "packed_masks", "predictions")


@pytest.fixture(params=["one file", "cut", "compressed"])
def stored(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Seven originals and seven twins, in files of two rows where the form has several."""
    network = architecture(inputs=40)
    twins = population(7, network=network, seed=1, masks=True)
    if request.param == "compressed":
        twins.weights[:, ::3] = 0  # not what the masks say: bits are stored as well
        twins.weights[3] = 0
        monkeypatch.setattr(
            "zoosparse_ext.zoo.shards.SHARD_BYTES", 2 * (4 * network.n_parameters + 11 + 6 + 1)
        )
    zoo([population(7, network=network)], variational=[twins]).save(tmp_path)
    if request.param == "cut":
        cut(tmp_path, 2)
    assert (
        len(list((tmp_path / "shards").iterdir()))
        == 1 + {"one file": 2, "cut": 8, "compressed": 5}[request.param]
    )
    return tmp_path


@pytest.mark.parametrize("small", [0, SMALL])
def test_rows_come_in_the_order_asked_for(stored: Path, small: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stored_rows, "SMALL", small)
    mine, whole = Zoo.open(stored), Zoo.open(stored)
    for name in ("original", "variational"):
        (group,), population = mine.groups(name), whole.population(name)
        assert isinstance(group, StoredGroup)
        assert group.ids == population.ids and tuple(group.layers()) == tuple(population.layers())
        for tensor in TENSORS:
            rows, matrix = getattr(group, tensor), getattr(population, tensor)
            assert (rows is None) == (matrix is None)
            for chosen in ([], [3], [6, 0, 3, 3, 1], list(range(7))):
                numbers = np.array(chosen, dtype=np.int64)
                assert rows is None or np.array_equal(rows[numbers], matrix.numpy()[numbers])
    assert all(mine.populations.is_unread(name) for name in mine.populations)


@pytest.mark.parametrize(("small", "times"), [(0, 3), (SMALL, 1)])
def test_small_tensors_are_read_once(
    tmp_path: Path, small: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[object] = []

    def read_tensors(*arguments: object, **options: object) -> object:
        reads.append(arguments)
        return shards.read_tensors(*arguments, **options)  # type: ignore[arg-type]

    zoo().save(tmp_path)
    (group,) = Zoo.open(tmp_path).groups("original")
    monkeypatch.setattr(stored_rows, "SMALL", small)
    monkeypatch.setattr(stored_rows, "read_tensors", read_tensors)
    for _ in range(3):
        group.weights[np.array([0])][:] = 0  # a copy
    assert len(reads) == times
    assert group.weights[np.array([0])].any()


def test_what_is_in_memory_is_taken_as_it_is(stored: Path) -> None:
    mine = Zoo.open(stored)
    assert mine.groups("original")[0] is not mine.population("original")  # read in between
    assert mine.groups("original")[0] is mine.population("original")
    assert zoo().groups("original")[0].ids == zoo().population().ids


def test_a_damaged_file_is_named(stored: Path) -> None:
    (group,) = Zoo.open(stored).groups("variational")
    path = stored / group.entry["shards"][-1]["file"]
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match=f"{path.name} was altered"):
        group.weights[np.array([6])]
    path.unlink()
    with pytest.raises(StoreError, match=f"{path.name} is missing"):
        group.predictions[np.array([6])]


def test_bits_that_do_not_fit_their_values_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins = population(3, masks=True)
    twins.weights.zero_()
    zoo(variational=[twins]).save(tmp_path)
    (group,) = Zoo.open(tmp_path, verify=False).groups("variational")
    monkeypatch.setattr("zoosparse_ext.zoo.stored_rows.read_tensors", lambda *_, **__: (tmp_path, {}))
    with pytest.raises(StoreError, match=f"{tmp_path} holds neither 'weights' nor 'weights_values'"):
        group.weights[np.array([0])]
    with pytest.raises(StoreError, match="holds nothing as 'predictions'"):
        group.predictions[np.array([0])]
