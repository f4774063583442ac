"""The page of all methods and their options, `docs/methods.md`: made of what the methods say of themselves.

`python -m zoosparse_ext.sparsify.methods_page > docs/methods.md` writes it anew.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import MISSING

from zoosparse_ext.options import Option, options_of
from zoosparse_ext.population.training import Training
from zoosparse_ext.sparsify.methods import METHODS, LearnedMethod, Method
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.sparsify.scopes import SCOPES
from zoosparse_ext.words import number_text

_HEAD = """# Methods

Every method is a name for `zs.sparsify(population, method, …)`, for `zoosparse sparsify ZOO --method …` and for a
section of a study. Its options are keywords in Python, flags on the command line (`--kl-scale`) and keys of the section
(`kl_scale`). This page is generated from the docstrings and options of the methods.
"""


def methods_page() -> str:
    """The page as Markdown."""
    parts = [_HEAD]
    kinds: tuple[tuple[str, bool], ...] = (
        ("Methods that rank weights and prune the last of the ranking", False),
        ("Methods that learn what to keep", True),
    )
    for title, learned in kinds:
        parts.append(f"## {title}\n")
        parts += [_method(cls) for cls in METHODS.values() if issubclass(cls, LearnedMethod) == learned]
    parts.append("## Scopes\n\nWhat is ranked together, for methods that rank weights.\n")
    rows = [(f"`{name}`", f"{scope.label}: {_first_line(scope)}") for name, scope in SCOPES.items()]
    parts.append(_table(("scope", "what it is"), rows))
    parts.append(
        "## Options of pruning\n\nOf every method that ranks weights.\n\n" + _options(options_of(Pruning))
    )
    parts.append(
        "## Options of training\n\nOf every method: `zs.Training`.\n\n" + _options(options_of(Training))
    )
    return "\n".join(parts)


def _method(cls: type[Method]) -> str:
    paragraphs = inspect.cleandoc(cls.__doc__ or "").split("\n\n")
    shown = [f"```python\n{text}\n```" if text.startswith(">>>") else text for text in paragraphs]
    doc = "\n\n".join(text for text in shown if not text.startswith("Args:"))  # a table follows
    options = _options(options_of(cls)) if options_of(cls) else ""
    return f"### `{cls.name}`: {cls.phrase}\n\n{doc}\n" + (f"\n{options}" if options else "")


def _options(options: Iterable[Option]) -> str:
    return _table(
        ("option", "default", "what it is"), [(f"`{o.name}`", _default(o), o.said.help) for o in options]
    )


def _default(item: Option) -> str:
    value = item.default
    if value is MISSING:
        return "of the method" if item.name == "epochs" else ""
    if isinstance(value, float):
        value = number_text(round(value, 4)).replace("minus ", "-")
    return f"`{value}`"


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [heads, tuple("---" for _ in heads), *rows]
    return (
        "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)
        + "\n"
    )


def _first_line(scope: object) -> str:
    return inspect.cleandoc(type(scope).__doc__ or "").split("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    print(methods_page(), end="")
