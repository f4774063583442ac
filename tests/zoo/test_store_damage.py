"""A zoo on disk that is damaged, newer, or no zoo: a clear error that names the file, and never a wrong number."""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tests.zoo.made_up import population, zoo
from zoosparse_ext.errors import StoreError
from zoosparse_ext.zoo import Zoo

Manifest = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    zoo(variational=[population(seed=7, masks=True)]).save(tmp_path / "zoo")
    return tmp_path / "zoo"


def read(folder: Path, verify: bool = True) -> None:
    """Open a zoo and read all of it."""
    opened = Zoo.open(folder, verify=verify)
    opened.info()  # which counts the rows of all tables
    for name in opened.populations:
        opened.populations[name]


def shard_of(folder: Path, name: str = "variational") -> Path:
    return folder / manifest_of(folder)["populations"][name][0]["shards"][0]["file"]


def table_of(folder: Path, name: str) -> Path:
    return folder / manifest_of(folder)["tables"][name]["file"]


def manifest_of(folder: Path) -> Manifest:
    return json.loads((folder / "manifest.json").read_text())


def rewrite(folder: Path, change: Callable[[Manifest], Any]) -> None:
    manifest = manifest_of(folder)
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_a_truncated_shard(folder: Path) -> None:
    shard = shard_of(folder)
    size = shard.stat().st_size
    os.truncate(shard, size - 1)
    with pytest.raises(
        StoreError, match=rf"{shard.name} has {size - 1} bytes, expected {size}: it is truncated"
    ):
        read(folder)


def test_an_altered_shard(folder: Path) -> None:
    shard = shard_of(folder)
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    with pytest.raises(StoreError, match=rf"{shard.name} was altered: SHA-256"):
        read(folder)
    Zoo.open(folder, verify=False).population("variational")  # asked not to look


def test_a_missing_shard(folder: Path) -> None:
    shard = shard_of(folder)
    shard.unlink()
    with pytest.raises(StoreError, match=rf"{shard.name} is missing: the zoo is incomplete"):
        read(folder)
    assert len(Zoo.open(folder).population("original")) == 3  # the rest is still good


@pytest.mark.parametrize("table", ["models", "history", "twins"])
def test_a_missing_table(folder: Path, table: str) -> None:
    table_of(folder, table).unlink()
    with pytest.raises(StoreError, match=rf"tables/{table}-\w+.parquet is missing"):
        Zoo.open(folder)


def test_a_truncated_table(folder: Path) -> None:
    table = table_of(folder, "history")
    os.truncate(table, table.stat().st_size - 1)
    with pytest.raises(StoreError, match=rf"{table.name} has \d+ bytes, expected \d+: it is truncated"):
        Zoo.open(folder)


def test_an_altered_table_comes_out_when_it_is_first_looked_at(folder: Path) -> None:
    table = table_of(folder, "twins")
    table.write_bytes(bytes(table.stat().st_size))
    opened = Zoo.open(folder)
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"{table.name} was altered"):
            opened.twins  # noqa: B018
    with pytest.raises(StoreError, match=rf"{table.name} is damaged"):
        Zoo.open(folder, verify=False).twins  # noqa: B018
    with pytest.raises(StoreError, match=rf"{table.name} was altered"):
        opened.save(folder.parent / "copy")
    assert not (folder.parent / "copy").exists()
    assert len(opened.models) == len(opened.population("original")) == 3  # the rest is still good


def test_a_table_that_is_damaged_or_goes_after_a_zoo_was_opened(folder: Path) -> None:
    opened = Zoo.open(folder)
    table = table_of(folder, "models")
    os.truncate(table, table.stat().st_size - 1)
    with pytest.raises(StoreError, match=rf"{table.name} has .* it is truncated"):
        opened.models  # noqa: B018
    table.unlink()
    with pytest.raises(StoreError, match=rf"{table.name} is missing: .* changed after it was opened"):
        opened.models  # noqa: B018


def test_a_table_with_text_that_is_no_utf8(folder: Path) -> None:
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("<2i", 0, 2)), pa.py_buffer(b"a\xff"))
    table = table_of(folder, "models")
    parquet.write_table(pa.table({"model_id": broken}), table)
    size = table.stat().st_size
    rewrite(folder, lambda manifest: manifest["tables"]["models"].update(bytes=size))
    with pytest.raises(StoreError, match=rf"{table.name} is damaged: .*UTF"):
        Zoo.open(folder, verify=False).models  # noqa: B018


def test_a_table_that_is_another(folder: Path) -> None:
    rewrite(folder, lambda manifest: manifest["tables"].update(history=manifest["tables"]["models"]))
    opened = Zoo.open(folder)
    with pytest.raises(
        StoreError, match=r"models-\w+.parquet is damaged: table 'history' lacks column 'epoch'"
    ):
        opened.history  # noqa: B018


def test_a_shard_that_is_no_safetensors(folder: Path) -> None:
    shard = shard_of(folder)
    shard.write_bytes(b"\xff" * shard.stat().st_size)
    with pytest.raises(StoreError, match=rf"{shard.name} is damaged"):
        read(folder, verify=False)


def test_a_newer_version(folder: Path) -> None:
    rewrite(folder, lambda manifest: manifest.update(version=2))
    with pytest.raises(
        StoreError, match=r"version 2 of the format, this package reads up to 1; upgrade zoosparse"
    ):
        Zoo.open(folder)


@pytest.mark.parametrize("version", [0, -1, True, "1", None])
def test_a_version_that_never_was(folder: Path, version: object) -> None:
    rewrite(folder, lambda manifest: manifest.update(version=version))
    with pytest.raises(StoreError, match=rf"manifest\.json is damaged: version {version!r}"):
        Zoo.open(folder)


def test_rows_that_do_not_add_up(folder: Path) -> None:
    rewrite(folder, lambda manifest: manifest["populations"]["variational"][0].update(rows=99))
    with pytest.raises(StoreError, match="says a matrix has 99 rows, shards with 3 and a table with 3"):
        read(folder)


def test_verifying_reads_every_file(folder: Path) -> None:
    listed = [path for path in folder.rglob("*") if path.suffix in (".safetensors", ".parquet")]
    assert Zoo.verify(folder) == sum(path.stat().st_size for path in listed)
    for path in listed:
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(StoreError, match=rf"{path.name} was altered"):
            Zoo.verify(folder)
        path.write_bytes(content)


def test_a_manifest_of_something_else(folder: Path) -> None:
    rewrite(folder, lambda manifest: manifest.update(format="web app"))
    with pytest.raises(
        StoreError, match=r"is not a zoo: its manifest says 'web app', expected 'zoosparse-zoo'"
    ):
        Zoo.open(folder)
    with pytest.raises(StoreError, match="holds no zoo"):
        zoo().save(folder, overwrite=True)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"format": "zoosparse-zoo"', b"[" * 10**5]
)
def test_a_manifest_that_is_no_json_object(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(StoreError, match=r"manifest\.json is damaged"):
        Zoo.open(folder)


def test_no_manifest_and_no_folder(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    with pytest.raises(StoreError, match=r"is not a zoo: it holds no manifest\.json"):
        Zoo.open(folder)
    with pytest.raises(StoreError, match="is not a zoo: no such folder"):
        Zoo.open(folder / "nowhere")


@pytest.mark.parametrize("place", ["../secret", "/etc/hostname", "shards/../../secret"])
def test_a_manifest_cannot_point_outside_its_folder(folder: Path, place: str) -> None:
    secret = folder.parent / "secret"
    secret.write_bytes(next((folder / "tables").glob("models-*")).read_bytes())
    rewrite(folder, lambda manifest: manifest["tables"]["models"].update(file=place))
    with pytest.raises(StoreError, match="which lies outside the zoo"):
        Zoo.open(folder)


def test_a_link_in_place_of_a_file_is_refused(folder: Path) -> None:
    shard = shard_of(folder)
    moved = folder.parent / "elsewhere"
    shard.rename(moved)
    shard.symlink_to(moved)
    with pytest.raises(StoreError, match="which lies outside the zoo"):
        read(folder)


def shape(manifest: Manifest) -> None:
    manifest["populations"]["original"][0]["tensors"]["weights"] = ["float32", 9]


def dtype(manifest: Manifest) -> None:
    manifest["populations"]["original"][0]["tensors"]["weights"][0] = "float64"


def absent(manifest: Manifest) -> None:
    manifest["populations"]["original"][0]["tensors"]["log_sigma2"] = ["float32", 8]


def rows(manifest: Manifest) -> None:
    shards = manifest["populations"]["original"][0]["shards"]
    shards[:] = [{**shards[0], "rows": 2}, {**shards[0], "rows": 1}]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shape, r"holds torch.float32 \[3, 8\] as 'weights', expected float32 \[3, 9\]"),
        (dtype, r"holds torch.float32 \[3, 8\] as 'weights', expected float64 \[3, 8\]"),
        (absent, r"holds nothing as 'log_sigma2', expected float32 \[3, 8\]"),
        (rows, r"holds torch.float32 \[3, 8\] as 'weights', expected float32 \[2, 8\]"),
    ],
)
def test_a_shard_that_is_not_what_the_manifest_says(
    folder: Path, change: Callable[[Manifest], None], message: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(StoreError, match=message):
        read(folder)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a manifest, as the keys that lead there."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path] * bool(path) + [place for key, item in inside for place in places(item, (*path, key))]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo whose manifest a test may spoil again and again."""
    folder = tmp_path_factory.mktemp("sound")
    zoo(variational=[population(seed=7, masks=True)]).save(folder)
    shutil.copy(folder / "manifest.json", folder / "sound.json")
    return folder


@settings(max_examples=80)
@given(data=st.data(), junk=st.sampled_from([None, -1, 10**30, "junk", [], {}, [[]], {"file": 3}, "\0"]))
def test_junk_anywhere_in_a_manifest_is_a_store_error_or_does_not_matter(
    sound: Path, data: st.DataObject, junk: object
) -> None:
    manifest = json.loads((sound / "sound.json").read_text())
    *path, last = data.draw(st.sampled_from(places(manifest)))
    parent = manifest
    for key in path:
        parent = parent[key]
    if data.draw(st.booleans()):
        parent[last] = junk
    else:
        del parent[last]
    (sound / "manifest.json").write_text(json.dumps(manifest))
    try:
        read(sound)
    except StoreError as error:
        assert str(sound) in str(error)


def test_saving_again_repairs_a_file_that_was_altered(tmp_path: Path) -> None:
    mine = zoo()
    mine.save(tmp_path)
    shard = shard_of(tmp_path, "original")
    shard.write_bytes(bytes(shard.stat().st_size))
    mine.save(tmp_path)
    assert torch.equal(Zoo.open(tmp_path).population().weights, mine.population().weights)


def test_a_damaged_population_is_never_saved_on_in_silence(folder: Path) -> None:
    opened = Zoo.open(folder)
    shard_of(folder).unlink()
    with pytest.raises(StoreError, match="is missing"):
        opened.save(folder)
    opened.population("original")  # still there
    with pytest.raises(StoreError, match="is missing"):
        opened.save(folder.parent / "copy")
    assert not (folder.parent / "copy").exists()
