"""Sources that somebody made to do harm: nothing in them runs, leaves its folder, or takes all memory."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet

import zoosparse_ext as zs
from tests.zoo.formats.sources import SOURCES, files_of
from zoosparse_ext.errors import StoreError

PICKLES = {
    "modelzoos": ("checkpoints", "optimizer", ".tune_metadata"),
    "preprocessed": ("set.pt",),
    "flat.pt": ("zoo.pt",),
    "flat.npy": ("zoo.npy",),
    "checkpoints": ("a.pt", "b.pth"),
    "exported modelzoos": ("checkpoints", ".tune_metadata"),
    "exported modules": ("*.pt",),
}


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.target, "it ran")


def archive(value: Any, *, zipped: bool = True) -> bytes:
    written = io.BytesIO()
    torch.save(value, written, _use_new_zipfile_serialization=zipped)
    return written.getvalue()


FORMS: dict[str, Callable[[Any], bytes]] = {
    "pickle": lambda value: pickle.dumps(value, protocol=2),
    "archive": archive,
    "old PyTorch": partial(archive, zipped=False),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", PICKLES)
def test_no_payload_runs(tmp_path: Path, name: str, form: str) -> None:
    source, marker = tmp_path / "source", tmp_path / "it-ran"
    SOURCES[name](source)
    for pattern in PICKLES[name]:
        for path in source.rglob(pattern):
            path.write_bytes(FORMS[form]({"weights": Payload(marker), "iteration": 1}))
    with pytest.raises(zs.ZoosparseError):
        zs.import_zoo(source, strict=True)
    assert not marker.exists()


def test_a_payload_runs_with_consent_only(tmp_path: Path) -> None:
    """And `--trust-pickle` is this consent: a checkpoint of a whole module is then read."""
    marker = tmp_path / "it-ran"
    source = tmp_path / "source"
    SOURCES["checkpoints"](source)
    torch.save(torch.load(source / "a.pt") | {"extra": Payload(marker)}, source / "a.pt")
    assert len(zs.import_zoo(source).population()) == 2 and not marker.exists()
    zs.import_zoo(source, trust_pickle=True)
    assert marker.exists()


@pytest.mark.parametrize("name", SOURCES)
def test_links_out_of_the_source_are_not_followed(tmp_path: Path, name: str) -> None:
    """Every file, moved out and replaced by a link, is as good as missing."""
    source = tmp_path / "source"
    SOURCES[name](source)
    for number, path in enumerate(files_of(source)):
        outside = tmp_path / f"outside-{number}"
        path.rename(outside)
        path.symlink_to(outside)
    with pytest.raises(zs.ZoosparseError):
        zs.import_zoo(source)


def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("name", SOURCES)
@pytest.mark.parametrize("put", [os.mkfifo, link_to_itself, Path.mkdir])
def test_what_is_no_file_is_not_waited_for_or_followed(
    tmp_path: Path, name: str, put: Callable[[Path], None]
) -> None:
    """Every file in turn, replaced by a pipe that nobody writes to, a link that leads to itself, a folder."""
    source = tmp_path / "source"
    SOURCES[name](source)
    for path in files_of(source):
        moved = path.rename(tmp_path / "moved")
        put(path)
        with contextlib.suppress(zs.ZoosparseError):
            zs.import_zoo(source)
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
        moved.rename(path)


@pytest.mark.parametrize("format", ["safetensors", "npz", "modules", "modelzoos"])
@pytest.mark.parametrize("target", ["../outside", "/etc/passwd", "a/../../outside", "\0", "x" * 5000])
def test_names_in_a_description_stay_in_the_folder(tmp_path: Path, format: str, target: str) -> None:
    source = tmp_path / "source"
    SOURCES[f"exported {format}"](source)
    (tmp_path / "outside").write_bytes(b"PK")
    (path,) = source.rglob("zoosparse.json")
    contents = json.loads(path.read_text())
    entry = contents["populations"]["original"][0]
    for broken in ({"table": target}, _renamed(entry, target)):
        entries = [entry | broken]
        path.write_text(
            json.dumps(contents | {"populations": contents["populations"] | {"original": entries}})
        )
        with pytest.raises(zs.StoreError):
            zs.import_zoo(source)


def _renamed(entry: dict[str, Any], target: str) -> dict[str, Any]:
    if "parts" in entry:
        return {"parts": [part | {"file": target} for part in entry["parts"]]}
    return {"files": [target for _ in entry["files"]]}


def test_names_of_members_are_never_paths(tmp_path: Path) -> None:
    """Archives are read in place: a member called `../../x` is written nowhere."""
    source = tmp_path / "source"
    SOURCES["flat.npz"](source)
    matrix = np.load(source / "zoo.npz")["data"]
    with zipfile.ZipFile(source / "zoo.npz", "w") as opened, opened.open("../../weights.npy", "w") as member:
        np.save(member, matrix)
    before = sorted(tmp_path.rglob("*"))
    found = zs.import_zoo(source, epochs="all").population().weights
    assert np.array_equal(found[0], matrix[0]) and sorted(tmp_path.rglob("*")) == before


def npy_header(shape: str) -> bytes:
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + b"\0" * 64


def safetensors_header(shape: list[int], stop: int) -> bytes:
    head = json.dumps({"weights": {"dtype": "F32", "shape": shape, "data_offsets": [0, stop]}}).encode()
    return struct.pack("<Q", len(head)) + head + b"\0" * 64


@pytest.mark.parametrize(
    "shape", ["(1000000000000, 2464)", "(0, 1000000000000)", "(-1, 2464)", "(4, 1.5)", "((2,), 2)"]
)
def test_absurd_shapes_of_numpy_are_refused(tmp_path: Path, shape: str) -> None:
    SOURCES["flat.npy"](tmp_path / "source")
    (tmp_path / "source" / "zoo.npy").write_bytes(npy_header(shape))
    with pytest.raises(zs.StoreError):
        zs.import_zoo(tmp_path / "source")


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    SOURCES["flat.npy"](tmp_path / "source")
    np.save(tmp_path / "source" / "zoo.npy", np.array([[Payload(tmp_path / "it-ran")]], dtype=object))
    with pytest.raises(zs.StoreError, match=r"zoo\.npy holds Python objects"):
        zs.import_zoo(tmp_path / "source")
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    "content",
    [
        safetensors_header([10**12, 2464], 10**15),
        safetensors_header([2**62, 4], 64),
        safetensors_header([0, 2**62], 0),
        struct.pack("<Q", 2**63) + b"{}",
    ],
)
@pytest.mark.parametrize("name", ["flat.safetensors", "checkpoints"])
def test_absurd_shapes_of_safetensors_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    SOURCES[name](tmp_path / "source")
    (path,) = (tmp_path / "source").glob("*.safetensors")
    path.write_bytes(content)
    with pytest.raises(zs.StoreError):
        zs.import_zoo(tmp_path / "source", strict=True)


def test_absurd_columns_of_tables_are_refused(tmp_path: Path) -> None:
    SOURCES["small-cnn-zoo"](tmp_path / "source")
    layout = "varname,start_idx,end_idx,shape\na/bias:0,0,999999999999,(999999999999,)\n"
    (tmp_path / "source" / "layout.csv").write_text(layout)
    with pytest.raises(zs.StoreError, match="does not fit"):
        zs.import_zoo(tmp_path / "source")


def test_an_architecture_larger_than_its_file_is_refused(tmp_path: Path) -> None:
    SOURCES["exported safetensors"](tmp_path / "source")
    path = tmp_path / "source" / "zoosparse.json"
    path.write_text(path.read_text().replace('"shape": [', '"shape": [1000000000,'))
    with pytest.raises(zs.StoreError):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("name", [{}, None, 1])
def test_an_architecture_whose_tensors_have_no_names_is_refused(tmp_path: Path, name: object) -> None:
    SOURCES["exported modules"](tmp_path / "source")
    (path,) = (tmp_path / "source").rglob("zoosparse.json")
    contents = json.loads(path.read_text())
    contents["populations"]["original"][0]["architecture"]["segments"][1]["name"] = name
    path.write_text(json.dumps(contents))
    with pytest.raises(zs.StoreError, match="has no place in the row"):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("field", ["name", "reason"])
def test_an_architecture_that_is_not_called_by_text_is_refused(tmp_path: Path, field: str) -> None:
    SOURCES["exported safetensors"](tmp_path / "source")
    path = tmp_path / "source" / "zoosparse.json"
    contents = json.loads(path.read_text())
    contents["populations"]["original"][0]["architecture"][field] = {"": 1}
    path.write_text(json.dumps(contents))
    with pytest.raises(zs.StoreError, match="must be text"):
        zs.import_zoo(tmp_path / "source", out=tmp_path / "out")


def test_a_stride_that_is_true_is_refused(tmp_path: Path) -> None:
    SOURCES["checkpoints"](tmp_path / "source")
    path = tmp_path / "source" / "a.pt"
    state = {name: torch.cat([value, value])[: len(value)] for name, value in torch.load(path).items()}
    written = io.BytesIO()
    torch.save(state, written)
    with zipfile.ZipFile(written) as read, zipfile.ZipFile(path, "w") as write:
        for record in read.infolist():
            body = read.read(record)
            if record.filename.endswith("data.pkl"):
                assert b"K\x01\x85" in body  # the tuple (1,)
                body = body.replace(b"K\x01\x85", b"\x88\x85")
            write.writestr(record, body)
    with pytest.raises(zs.StoreError, match=r"a\.pt.*a tensor of shape"):
        zs.import_zoo(tmp_path / "source", strict=True)


@pytest.mark.parametrize("name", ["exported npz", "checkpoints"])
def test_text_that_is_no_utf8_is_refused(tmp_path: Path, name: str) -> None:
    """pandas notices only when it looks at the row."""
    SOURCES[name](tmp_path / "source")
    broken = pa.StringArray.from_buffers(1, pa.py_buffer(struct.pack("<2i", 0, 2)), pa.py_buffer(b"a\xff"))
    tables = list((tmp_path / "source").rglob("*.parquet")) or [tmp_path / "source" / "models.parquet"]
    for table in tables:
        parquet.write_table(pa.table({"model_id": broken}), table)
    with pytest.raises(zs.StoreError, match=r"\.parquet is no table that can be read"):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("name", ["exported npz", "checkpoints"])
def test_columns_that_are_no_text_are_refused(tmp_path: Path, name: str) -> None:
    """pandas makes anything of them: what a file says beside the table decides."""
    SOURCES[name](tmp_path / "source")
    tables = list((tmp_path / "source").rglob("*.parquet")) or [tmp_path / "source" / "models.parquet"]
    said = {
        "index_columns": [],
        "column_indexes": [
            {"name": None, "field_name": None, "pandas_type": "object", "numpy_type": "object"}
        ],
        "columns": [{"name": {}, "field_name": "model_id", "pandas_type": "unicode", "numpy_type": "object"}],
    }
    for table in tables:
        ours = pa.table({"model_id": ["a"]}).replace_schema_metadata({"pandas": json.dumps(said)})
        parquet.write_table(ours, table)
    with pytest.raises(zs.StoreError, match=r"\.parquet is no table that can be read: a column is called {}"):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("name", ["provenance", "dataset"])
@pytest.mark.parametrize("value", ["", [], 1.5])
def test_a_description_that_is_no_object_is_refused(tmp_path: Path, name: str, value: object) -> None:
    SOURCES["exported npz"](tmp_path / "source")
    path = tmp_path / "source" / "zoosparse.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {name: value}))
    with pytest.raises(zs.StoreError, match=rf"zoosparse\.json is damaged: {name} is .*, expected an object"):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("value", [[3], 4])
def test_a_layer_that_does_not_fit_its_weight_is_refused(tmp_path: Path, value: object) -> None:
    SOURCES["exported npz"](tmp_path / "source")
    path = tmp_path / "source" / "zoosparse.json"
    contents = json.loads(path.read_text())
    program = contents["populations"]["original"][0]["architecture"]["program"]
    layer = next(op for op in program if op["kind"] == "linear")
    layer["out_features"] = value
    path.write_text(json.dumps(contents))
    with pytest.raises(zs.StoreError, match="does not fit its weight"):
        zs.import_zoo(tmp_path / "source", out=tmp_path / "out")


@pytest.mark.parametrize("name", ["exported npz", "exported modules"])
def test_names_of_rows_that_are_no_text_are_refused(tmp_path: Path, name: str) -> None:
    SOURCES[name](tmp_path / "source")
    file = next((tmp_path / "source").rglob("magnitude-*0.parquet"))
    table = parquet.read_table(file).replace_schema_metadata(None)
    column = table.schema.names.index("twin_id")
    parquet.write_table(table.set_column(column, "twin_id", pa.array([[1]] * len(table))), file)
    with pytest.raises(zs.StoreError, match=r"'twin_id' of table 'tables/magnitude-.* holds .*expected text"):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("name", ["exported npz", "checkpoints"])
def test_two_columns_of_one_name_are_refused(tmp_path: Path, name: str) -> None:
    SOURCES[name](tmp_path / "source")
    tables = list((tmp_path / "source").rglob("*.parquet")) or [tmp_path / "source" / "models.parquet"]
    for table in tables:
        parquet.write_table(pa.table([["a"], ["b"]], names=["model_id", "model_id"]), table)
    with pytest.raises(
        zs.StoreError, match=r"\.parquet is no table that can be read: two columns .* 'model_id'"
    ):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("half", [rb"\ud800", b"\xed\xa0\x80"])
def test_half_a_character_in_json_is_refused(tmp_path: Path, half: bytes) -> None:
    """Python reads it, as an escape and as bytes, but no table can hold it."""
    SOURCES["checkpoints"](tmp_path / "source")
    table = tmp_path / "source" / "models.json"
    table.write_bytes(table.read_bytes().replace(b"tanh", half))
    with pytest.raises(zs.StoreError, match=r"models\.json is not JSON: .*surrogates not allowed"):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("name", ["checkpoints", "modelzoos"])
def test_names_that_are_no_utf8_are_refused(tmp_path: Path, name: str) -> None:
    source = tmp_path / "source"
    SOURCES[name](source)
    path = source / "a.pt" if name == "checkpoints" else next(source.glob("NN_*"))
    path.rename(os.fsdecode(os.fsencode(path) + b"\xff" + os.fsencode(path.suffix)))
    with pytest.raises(zs.StoreError, match=r"no table can hold the text .*rename the file"):
        zs.import_zoo(source, activation="tanh")


def test_a_file_that_was_cut_and_put_back_since_it_was_read(tmp_path: Path) -> None:
    """What was mapped is gone, although size and time say that nothing has changed."""
    SOURCES["preprocessed"](tmp_path / "source")
    file = tmp_path / "source" / "set.pt"
    expected = zs.import_zoo(file).population().weights.clone()
    shutil.copy2(file, tmp_path / "copy")
    os.truncate(file, 0)
    os.replace(tmp_path / "copy", file)
    assert torch.equal(zs.import_zoo(file).population().weights, expected)


def test_bombs_of_gzip_are_refused(tmp_path: Path) -> None:
    """A table that unpacks to a thousand times its size."""
    SOURCES["small-cnn-zoo"](tmp_path / "source")
    with gzip.open(tmp_path / "source" / "metrics.csv.gz", "wb") as file:
        for _ in range(64):
            file.write(b"\0" * 2**20)
    with pytest.raises(zs.StoreError, match="unpacks from"):
        zs.import_zoo(tmp_path / "source")


@pytest.mark.parametrize("name", ["flat.npz", "flat.pt", "checkpoints"])
def test_compressed_archives_are_refused(tmp_path: Path, name: str) -> None:
    """Neither PyTorch nor `np.savez` compress; without decompression, there is no bomb."""
    SOURCES[name](tmp_path / "source")
    path = next(path for path in files_of(tmp_path / "source") if path.suffix in (".npz", ".pt"))
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in members.items():
            archive.writestr(member, content + b"\0" * 2**22)
    with pytest.raises(zs.StoreError, match="compressed"):
        zs.import_zoo(tmp_path / "source", strict=True)


def test_what_is_refused_is_named_without_advice_to_run_it(
    tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Payload(tmp_path / "it-ran"), protocol=2))
    (tmp_path / "b.pt").write_bytes(b"garbage")
    reasons = {}
    for name in ("a.pt", "b.pt"):
        folder = tmp_path / name.removesuffix(".pt")
        folder.mkdir()
        (tmp_path / name).rename(folder / name)
        with pytest.raises(StoreError) as refusal:
            zs.import_zoo(folder, activation="tanh", strict=True)
        reasons[name] = str(refusal.value)
    assert "is a pickle that needs getattr; loading it could run code" in reasons["a.pt"]
    assert reasons["b.pt"].endswith("safely: it begins with b'garbage', and torch.save writes something else")
    assert not any("weights_only" in reason for reason in reasons.values())
    assert not (tmp_path / "it-ran").exists() and not recwarn.list
