"""`push_zoo`: a zoo as a data set repository on the Hugging Face Hub."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.zoo.formats.exporting import export_zoo
from zoosparse_ext.zoo.store import Zoo

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_OURS = ["weights/*", "tables/*", "figures/*"]  # of an earlier push; those that are not sent again go


class HubApi(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, repo_type: str, private: bool | None, exist_ok: bool) -> Any: ...

    def upload_folder(
        self,
        *,
        repo_id: str,
        folder_path: str,
        repo_type: str,
        commit_message: str,
        delete_patterns: list[str],
    ) -> Any: ...


@dataclass(frozen=True)
class Pushed:
    """What went to the Hub, or would go.

    Args:
        repository: ``owner/name``.
        files: size in bytes by path in the repository.
        url: of the commit; None if nothing was sent.
    """

    repository: str
    files: dict[str, int]
    url: str | None = None

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(self.files.values())


def push_zoo(
    zoo: Zoo,
    repository: str,
    *,
    license: str = "unknown",
    private: bool | None = None,
    dry_run: bool = False,
    api: HubApi | None = None,
) -> Pushed:
    """Send a zoo to a data set repository on the Hugging Face Hub, with its card, in one commit.

    The repository is made if there is none. It holds what ``export_zoo(zoo, …, format="huggingface")`` writes; whoever
    downloads it reads it with `import_zoo`. Needs `huggingface_hub` (``pip install "zoosparse-ext[hub]"``) and a token,
    from ``hf auth login`` or `HF_TOKEN`.

    Example::

        zs.push_zoo(zoo, "me/my-zoo", license="cc-by-4.0", dry_run=True).files   # what would go
        zs.push_zoo(zoo, "me/my-zoo", license="cc-by-4.0").url

    Args:
        zoo: with all its populations.
        repository: ``owner/name``.
        license: of the dataset card, as the Hub names licences.
        private: of a new repository; None: as the owner's settings say.
        dry_run: write everything to a temporary folder, send nothing; needs neither token nor network.
        api: in place of ``huggingface_hub.HfApi()``.

    Raises:
        InputError: `repository` is no such name; `huggingface_hub` is not installed.
        StoreError: the Hub refused, or could not be reached. A commit is there as a whole or not at all.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise InputError(f"{repository!r} is no repository; write owner/name, as in me/my-zoo")
    if api is None and not dry_run:
        api = _api()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "zoo"
        export_zoo(zoo, root, "huggingface", license=license)
        paths = sorted(path for path in root.rglob("*") if path.is_file())
        files = {path.relative_to(root).as_posix(): path.stat().st_size for path in paths}
        if api is None or dry_run:
            return Pushed(repository, files)
        models = len(zoo.models)
        try:
            api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=str(root),
                repo_type="dataset",
                commit_message=f"A zoo of {models:,} models",
                delete_patterns=_OURS,
            )
        except Exception as error:  # the Hub's own errors, and all that its network libraries raise
            raise StoreError(
                f"the Hub did not take {repository}: {str(error).strip() or type(error).__name__:.300}"
            ) from error
    return Pushed(repository, files, str(getattr(commit, "commit_url", commit)))


def _api() -> HubApi:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise InputError('pushing needs huggingface_hub: pip install "zoosparse-ext[hub]"') from error
    return HfApi()
