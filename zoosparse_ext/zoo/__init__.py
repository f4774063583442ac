"""A zoo: populations, the tables of their rows, and the folder they are kept in."""

from __future__ import annotations

from zoosparse_ext.zoo.store import Zoo

__all__ = ["Zoo"]
