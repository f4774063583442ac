"""The page of the methods is what the methods say."""

from __future__ import annotations

from pathlib import Path

from zoosparse_ext.sparsify.methods import METHODS
from zoosparse_ext.sparsify.methods_page import methods_page

PAGE = Path(__file__).parents[3] / "docs" / "methods.md"


def test_the_page_is_up_to_date() -> None:
    """If not: python -m zoosparse_ext.sparsify.methods_page > docs/methods.md"""
    assert PAGE.read_text(encoding="utf-8") == methods_page()


def test_it_names_every_method() -> None:
    assert all(f"### `{name}`" in methods_page() for name in METHODS)
