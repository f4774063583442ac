"""The tiny images of the population tests."""

from __future__ import annotations

from tests.population.conftest import data

__all__ = ["data"]
