"""The errors this package raises on purpose.

Each message names the thing, what came, what was expected and the way out. The command line turns every
:class:`ZoosparseError` into exit code 2; anything else that escapes is a bug.
"""

from __future__ import annotations

from collections.abc import Sequence


class ZoosparseError(Exception):
    """Base of every error that the package raises on purpose."""


class InputError(ZoosparseError, ValueError):
    """An argument that cannot be worked with: a ratio outside [0, 1), a wrong shape, NaN weights."""


class DataError(ZoosparseError):
    """A data set that is missing, corrupt, empty or inconsistent."""


class StoreError(ZoosparseError):
    """A zoo on disk that is damaged, foreign, of a newer version, or could not be written."""


class ExtraError(ZoosparseError, ImportError):
    """A function that needs libraries which are installed with an extra of the package, and are not there."""


def require_kind(what: str, value: object, kinds: type | tuple[type, ...], expected: str) -> None:
    """Raise InputError unless a value is of one of these kinds; `expected` says what would do."""
    if not isinstance(value, kinds):
        shown = f" {value!r}" if isinstance(value, str | int | float | type) else ""
        raise InputError(f"{what}: got {type(value).__name__}{shown}, expected {expected}")


class ChunkError(ZoosparseError):
    """Parts of a study that failed for good, while the others went on."""

    @classmethod
    def of(cls, failures: Sequence[ChunkError], chunks: int) -> ChunkError:
        """All failures of a stage as one error."""
        told = "; ".join(str(failure) for failure in failures)
        return cls(f"{len(failures)} of {chunks} chunks failed, the others are done and kept: {told}")
