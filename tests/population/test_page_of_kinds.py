"""`docs/what-a-population-can-hold.md` names every kind of the table, where it belongs, and runs."""

from __future__ import annotations

import re
from pathlib import Path

from tests.population.kinds import FAST, KINDS, REFUSED, RUNS

PAGE = Path(__file__).parents[2] / "docs" / "what-a-population-can-hold.md"
SECTIONS = {"Fast": FAST, "Runs": RUNS, "Refused, and the way out": REFUSED}


def named_on_the_page() -> list[tuple[str, str]]:
    """Each name with what the page says of it, from bullets (`- **Theme**: name; name`) and rows of the table."""
    named = []
    for title, _, text in (part.partition("\n") for part in PAGE.read_text(encoding="utf-8").split("\n## ")):
        if title not in SECTIONS:
            continue
        bullets = re.findall(r"^- \*\*.+?\*\*: (.+(?:\n  .+)*)", text, re.MULTILINE)
        rows = re.findall(r"^\| (.+?) \| .+ \|$", text, re.MULTILINE)[1:]  # after the heads of the columns
        lists = [" ".join(entry.split()) for entry in (*bullets, *rows) if not entry.startswith("---")]
        named += [(name, SECTIONS[title]) for entry in lists for name in entry.split("; ")]
    return named


def test_its_examples_run() -> None:
    blocks = re.findall(r"^```python\n(.+?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), {"__name__": "page"})


def test_it_names_every_kind_where_it_belongs() -> None:
    assert sorted(named_on_the_page()) == sorted((kind.name, kind.expected) for kind in KINDS)
