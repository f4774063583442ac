"""How a source is named and known, whatever is in it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import zoosparse_ext as zs
from tests.zoo.formats.sources import SOURCES, files_of, small_zoo


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_may_be_named_from_where_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Also where its files are links to others inside it."""
    monkeypatch.chdir(tmp_path)
    source = Path("some") / "source"
    source.parent.mkdir()
    SOURCES[name](source)
    whole = zs.import_zoo(tmp_path / source, epochs="all").population("original").weights
    assert zs.import_zoo(source, epochs="all").population("original").weights.equal(whole)
    for number, path in enumerate(files_of(source)):
        target = path.with_name(f"moved-{number}")
        path.rename(target)
        path.symlink_to(target.name)
    assert zs.import_zoo(source, epochs="all").population("original").weights.equal(whole)


def test_what_is_not_known_is_named(tmp_path: Path) -> None:
    """And only that, where several were given."""
    SOURCES["modelzoos"](tmp_path / "tree")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        zs.StoreError, match=r"^\S+/empty has no known format: it holds nothing, expected .*zoosparse.json"
    ):
        zs.import_zoo([tmp_path / "tree", tmp_path / "empty"])
    (tmp_path / "text").write_text("text")
    with pytest.raises(zs.StoreError, match=r"it is a file, .* \(--format\)"):
        zs.import_zoo(tmp_path / "text")


def test_a_zoo_of_ours_is_not_imported(tmp_path: Path) -> None:
    """Its shards are no checkpoints, also where it lies in the folder of a study."""
    small_zoo().save(tmp_path / "study" / "zoo")
    with pytest.raises(zs.StoreError, match="is a zoo already"):
        zs.import_zoo(tmp_path / "study" / "zoo")
    with pytest.raises(zs.StoreError, match="no known format: it holds zoo, expected"):
        zs.import_zoo(tmp_path / "study")


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "modelzoos"])
def test_the_cache_of_the_hub_is_a_source(tmp_path: Path, name: str) -> None:
    """There, files are links from a snapshot to blobs; a link to anywhere else is still refused."""
    source, blobs = tmp_path / "hub" / "snapshots" / "0123abc", tmp_path / "hub" / "blobs"
    blobs.mkdir(parents=True)
    source.parent.mkdir()
    SOURCES[name](source)
    whole = zs.import_zoo(source, epochs="all").population("original").weights
    for number, path in enumerate(files_of(source)):
        path.rename(blobs / f"{number}")
        path.symlink_to(os.path.relpath(blobs / f"{number}", path.parent))
    assert zs.import_zoo(source, epochs="all").population("original").weights.equal(whole)
    blobs.rename(tmp_path / "elsewhere")
    blobs.symlink_to(tmp_path / "elsewhere")
    other = (tmp_path / "hub").rename(tmp_path / "other")
    with pytest.raises(zs.ZoosparseError):
        zs.import_zoo(other / "snapshots" / source.name, epochs="all")


def test_a_threshold_must_be_a_number(tmp_path: Path) -> None:
    SOURCES["modelzoos"](tmp_path / "tree")
    with pytest.raises(zs.InputError, match="threshold of log α is nan"):
        zs.import_zoo(tmp_path / "tree", threshold=float("nan"))


def test_sources_of_several_formats_are_told_apart(tmp_path: Path) -> None:
    SOURCES["modelzoos"](tmp_path / "a")
    SOURCES["flat.npy"](tmp_path / "b")
    with pytest.raises(zs.StoreError, match=r"/a is modelzoos, \S+/b is flat; import them one by one"):
        zs.import_zoo([tmp_path / "a", tmp_path / "b"])
