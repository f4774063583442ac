"""How a source is named and known, whatever is in it."""

from __future__ import annotations

from pathlib import Path

import pytest

import zoosparse_ext as zs
from tests.zoo.formats.sources import SOURCES, files_of


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
    with pytest.raises(zs.StoreError, match=r"^\S+/empty has no known format.* \(--format\)"):
        zs.import_zoo([tmp_path / "tree", tmp_path / "empty"])


def test_sources_of_several_formats_are_told_apart(tmp_path: Path) -> None:
    SOURCES["modelzoos"](tmp_path / "a")
    SOURCES["flat.npy"](tmp_path / "b")
    with pytest.raises(zs.StoreError, match=r"/a is modelzoos, \S+/b is flat; import them one by one"):
        zs.import_zoo([tmp_path / "a", tmp_path / "b"])
