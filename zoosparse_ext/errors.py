"""The errors this package raises on purpose.

Each message names the thing, what came, what was expected and the way out. The command line turns every
:class:`ZoosparseError` into exit code 2; anything else that escapes is a bug.
"""

from __future__ import annotations


class ZoosparseError(Exception):
    """Base of every error that the package raises on purpose."""


class InputError(ZoosparseError, ValueError):
    """An argument that cannot be worked with: a ratio outside [0, 1), a wrong shape, NaN weights."""


class DataError(ZoosparseError):
    """A data set that is missing, corrupt, empty or inconsistent."""


class StoreError(ZoosparseError):
    """A zoo on disk that is damaged, foreign, of a newer version, or could not be written."""
