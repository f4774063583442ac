"""Sending zoos to the Hugging Face Hub, with something else in its place."""

from __future__ import annotations

import shutil
import sys
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import HfApi

import zoosparse_ext as zs
from tests.cli.command import succeed, zoosparse
from tests.zoo.formats.small_zoos import assert_same
from zoosparse_ext.zoo import Zoo
from zoosparse_ext.zoo.formats.hub import HubApi


class Hub:
    """Keeps what is sent to it in a folder, and what was asked of it in a list."""

    def __init__(self, folder: Path, failure: Exception | None = None) -> None:
        self.folder, self.failure = folder, failure
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append((repo_id, options))
        if self.failure is not None:
            raise self.failure

    def upload_folder(self, *, repo_id: str, folder_path: str, **options: Any) -> Any:
        self.calls.append((repo_id, options))
        shutil.copytree(folder_path, self.folder)
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_what_was_pushed_comes_back_to_the_same_bits(zoo: Zoo, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "repository")
    pushed = zs.push_zoo(zoo, "me/my-zoo", license="cc-by-4.0", private=True, api=hub)
    assert pushed.url == "https://hub/me/my-zoo/commit/1"
    (_, created), (_, uploaded) = hub.calls
    assert created == {"repo_type": "dataset", "private": True, "exist_ok": True}
    assert uploaded["repo_type"] == "dataset" and uploaded["commit_message"] == "A zoo of 5 models"
    sizes = {
        p.relative_to(hub.folder).as_posix(): p.stat().st_size for p in hub.folder.rglob("*") if p.is_file()
    }
    assert pushed.files == sizes and pushed.bytes == sum(sizes.values())
    assert 'license: "cc-by-4.0"' in (hub.folder / "README.md").read_text()
    assert_same(zoo, zs.import_zoo(hub.folder, epochs="all"))


def test_a_dry_run_sends_nothing(stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And needs no `huggingface_hub`."""
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    hub = Hub(tmp_path / "repository")
    pushed = zs.push_zoo(Zoo.open(stored), "me/my-zoo", dry_run=True, api=hub)
    assert hub.calls == [] and pushed.url is None and "README.md" in pushed.files
    shown = succeed("push", stored, "me/my-zoo", "--dry-run", "--json").json()
    assert shown["files"] == pushed.files and shown["url"] is None
    assert "zoosparse.json" in succeed("push", stored, "me/my-zoo", "--dry-run").out
    result = zoosparse("push", stored, "me/my-zoo")
    assert result.code == 2 and "pip install" in result.message


@pytest.mark.parametrize("name", ["my-zoo", "me/my/zoo", "../x", "me/..", "", "me/a b", "https://hub/me/x"])
def test_names_that_are_no_repository_are_refused(zoo: Zoo, name: str) -> None:
    with pytest.raises(zs.InputError, match="owner/name"):
        zs.push_zoo(zoo, name, dry_run=True)


def test_what_the_hub_says_is_told(zoo: Zoo, tmp_path: Path) -> None:
    hub = Hub(tmp_path / "repository", ConnectionError("401 Unauthorized"))
    with pytest.raises(zs.StoreError, match="did not take me/my-zoo: 401 Unauthorized"):
        zs.push_zoo(zoo, "me/my-zoo", api=hub)


@pytest.mark.parametrize("name", ["create_repo", "upload_folder"])
def test_the_calls_are_those_of_the_library(name: str) -> None:
    ours, theirs = (signature(getattr(api, name)).parameters for api in (HubApi, HfApi))
    assert ours.keys() <= theirs.keys()
