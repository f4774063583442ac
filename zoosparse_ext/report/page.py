"""Write the report: one self-contained page, with its figures and tables as files beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from zoosparse_ext.analysis import StudyData, control_twins
from zoosparse_ext.errors import InputError, StoreError
from zoosparse_ext.report.claims import LEVELS
from zoosparse_ext.report.conditions import SETTINGS
from zoosparse_ext.report.files import replace, write_figures
from zoosparse_ext.report.format import integer, percent, plural
from zoosparse_ext.report.models import CHARTS, as_json, models_of
from zoosparse_ext.report.names import in_words, networks
from zoosparse_ext.report.opening import Opening, opening
from zoosparse_ext.report.questions import QUESTIONS, Question, analyzed
from zoosparse_ext.report.questions.question import Section
from zoosparse_ext.report.record import as_record
from zoosparse_ext.report.results import Results
from zoosparse_ext.report.stored import store_tables, stored_tables

PAGE = "report.html"
RECORD = "report.json"
FIGURES = 2  # of a section in sight; more are folded away
SCRIPTS = ("page.js", "chart.js", "models.js")


def write_report(
    data: StudyData,
    out_dir: str | Path,
    title: str = "Sparse twins of a model zoo",
    provenance: Mapping[str, Any] | None = None,
    questions: Sequence[Question] = QUESTIONS,
    source: str | None = None,
) -> Path:
    """Analyze a study and write `report.html`, `report.json`, `figures/*.svg|png`, `tables/*.csv|parquet`.

    The page needs no network and no other file. Files are replaced one by one, each atomically, the page
    last.

    >>> import tempfile
    >>> import pandas as pd
    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_report(StudyData(models, pd.DataFrame()), folder).name
    'report.html'

    Args:
        data: the study.
        out_dir: made when it does not exist; other files in it are left alone.
        title: heading of the page.
        provenance: versions, machine, seeds, command: shown at the foot; may be nested.
        questions: sections of the page, in order.
        source: from :func:`~zoosparse_ext.report.source_of`; tables that an earlier report has left in the folder are
            used again where they were made from the same. None: all are made.

    Returns:
        path of the page.

    Raises:
        InputError: `out_dir` is a file.
        StoreError: the folder cannot be written.
    """
    folder = Path(out_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"the report needs a folder, but {folder} is a file")
    results = analyzed(data, questions, provenance, stored_tables(folder / "tables", source))
    first, sections = opening(results, questions), [question.answered(results) for question in questions]
    pictures = [picture for section in sections for picture in section.figures]
    html = _render(results, title, provenance or {}, first, sections)
    try:
        write_figures(folder / "figures", [*pictures, *([first.figure] if first.figure else [])])
        store_tables(folder / "tables", results, source)
        replace(folder / RECORD, as_record(title, first, sections).encode())
        replace(folder / PAGE, html.encode())
    except OSError as error:
        raise StoreError(f"cannot write the report to {folder}: {error.strerror or error}") from error
    return folder / PAGE


def _render(
    results: Results, title: str, provenance: Mapping[str, Any], first: Opening, sections: Sequence[Section]
) -> str:
    environment = Environment(
        loader=PackageLoader("zoosparse_ext.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_hold_units,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    assets = files("zoosparse_ext.report") / "assets"
    models = models_of(results.data)
    return environment.get_template("page.html").render(
        title=title,
        style=Markup((assets / "style.css").read_text(encoding="utf-8")),
        script=Markup("\n".join((assets / name).read_text(encoding="utf-8") for name in SCRIPTS)),
        models=models,
        charts=CHARTS,
        models_json=Markup(as_json(models)) if models else "",
        facts=_facts(results.data),
        first=first,
        levels=[percent(level, 0) for level in LEVELS],
        sections=sections,
        figures_shown=FIGURES,
        provenance=_flatten(
            {key: value for key, value in provenance.items() if key not in ("settings", SETTINGS)}
        ),
        twins=[(key, ", ".join(map(str, of.values()))) for key, of in provenance.get(SETTINGS, {}).items()],
        settings=_flatten(provenance.get("settings", {})),
        drawing=lambda picture: Markup(picture.svg),
    )


def _hold_units(value: Any) -> Any:
    """Keep a percent sign on the line of its number."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if type(value) is str else value


def _facts(data: StudyData) -> list[str]:
    """What the numbers of the page are about: models, weights, twins, images."""
    facts = [plural(data.n_models, "model")]
    facts += networks(data)
    sizes = data.denominators()
    if sizes:
        prunable, parameters = (
            " or ".join(dict.fromkeys(map(integer, numbers))) for numbers in zip(*sizes, strict=True)
        )
        facts.append(f"sparsity = zeros / {prunable} prunable weights, of {parameters} parameters")
    if kept := [in_words(data, name) for name in data.kept_matrices()]:
        facts.append(
            f"not prunable: {', '.join(kept[:5])}{', …' * (len(kept) > 5)} (beside biases and norms)"
        )
    controls = control_twins(data)["twin_id"].nunique()
    facts.append(plural(data.twins["twin_id"].nunique() - controls, "twin"))
    facts += [plural(controls, "control")] if controls else []
    if data.labels is not None:
        facts.append(plural(len(data.labels), "test image"))
    return facts


def _flatten(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines, under the keys that `--set` takes: {"zoo": {"seeds": 1}} → [("zoo.seeds", "1")]."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += _flatten(value, f"{prefix}{key}.")
        else:
            lines.append((f"{prefix}{key}", _plain(value)))
    return lines


def _plain(value: Any) -> str:
    """A setting as it stands in a file of TOML, without quotes; what was left open is "default"."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_plain, value))
    return "default" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
