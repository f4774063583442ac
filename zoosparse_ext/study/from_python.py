"""A study in Python: functions that load what they need when they are called.

`import zoosparse_ext` takes no longer for them, and works without what studies and reports need.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoosparse_ext.data import Dataset
from zoosparse_ext.errors import ExtraError
from zoosparse_ext.population.hooks import Progress
from zoosparse_ext.zoo import Zoo

if TYPE_CHECKING:
    from zoosparse_ext.report.findings import Findings
    from zoosparse_ext.study.config import StudyConfig


def run_study(
    study: StudyConfig | Mapping[str, Any] | str | Path,
    out: str | Path | Zoo,
    *,
    data: Dataset | None = None,
    preset: str | None = None,
    progress: Callable[[Progress], None] | None = None,
    device: str | None = None,
) -> Zoo:
    """Run a study, or what is missing of it: train models, or take those of a zoo, and make their twins.

    >>> import tempfile
    >>> import zoosparse_ext as zs
    >>> study = {
    ...     "data": {"limit": 60}, "zoo": {"seeds": 2, "epochs": 1}, "variational": False,
    ...     "magnitude": {"ratios": [0.5], "scopes": ["global"], "epochs": 1, "control": False}}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     zoo = zs.run_study(study, folder)
    ...     print(zoo)
    ...     print(zs.run_study({"snip": {**study["magnitude"]}, "magnitude": False, "variational": False}, zoo))
    Zoo(original: 2, magnitude-global: 2)
    Zoo(original: 2, magnitude-global: 2, snip-global: 2)

    Every finished stage is saved, and so is every epoch of an unfinished one, in a folder beside the zoo that is called
    `zoo.resume`. Whatever ends a run (an error, Ctrl-C, a kill), the same call resumes it bit for bit. What is
    finished is not run again. `zoosparse study` does the same, and either resumes the other.

    Args:
        study: the name of a recipe (``"demo"``), the path of a ``.toml`` file, or its keys as nested dictionaries;
            `zoosparse study --schema` prints all of them. Magnitude pruning and variational dropout are run unless
            they are False, other methods where they have a section.
        out: a folder for the zoo (``out/zoo``) and ``log.jsonl``. In one that holds a study already, keys that are left
            out are those of that study. Or a zoo on disk, which gets the twins: `study` then names no `data` and `zoo`,
            and twins are trained with loss, augmentation and, unless it says otherwise, the optimizer of their models.
            Networks of your own that are no chain run by their module, which a zoo of :meth:`zoosparse_ext.Zoo.create`
            has; one from disk gets it by ``zoo.population().with_module(module)``.
        data: of a zoo, where it does not say what it was trained on, as for tensors of your own.
        preset: ``"full"`` makes more twins, see `zoosparse study --help`.
        progress: called with a :class:`zoosparse_ext.Progress` after every part of an epoch; its `stage` is the title
            of the stage, `done` and `total` count networks × epochs in it. What it raises ends the run.
        device: ``"cpu"`` or ``"cuda"``; None: the CPU.

    Returns:
        The zoo, opened from its folder.

    Raises:
        InputError: a key that there is not, or a value out of range; keys that contradict the study in the folder; a
            zoo itself as the folder of a study; models or data named for a zoo that has them; data that are not its
            own.
        StoreError: the folder holds something else, another process is at work there, a zoo that is in memory only, the
            disk is full.
        ChunkError: parts that failed twice, after everything that does not need them is done.
        ExtraError: the extra `study` is not installed.
    """
    with _extra("zs.run_study"):
        from zoosparse_ext.study.studies import run
    return run(study, out, data=data, preset=preset, progress=progress, device=device)


def analyze(zoo: Zoo | str | Path) -> Findings:
    """What a zoo and its twins show: every table of the report, the paper's claims, and the answers in words.

    >>> import tempfile
    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(60)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    >>> twins = zs.magnitude_prune(population, 0.5, data=data)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     found = zs.analyze(zs.Zoo.create(folder, [population, twins], data))
    ...     print(list(found.answers)[:3], found.tables["performance"]["n"].tolist())
    ['claims', 'performance', 'methods'] [2]

    Nothing is written. Tables are computed when they are first asked for, which takes seconds for a zoo of a thousand
    models. Twins of twins are left out, with a warning.

    Args:
        zoo: a zoo, or its folder.

    Returns:
        `tables` by name, `claims`, `summary`, `answers` by question, and `record()`, what `report.json` holds.

    Raises:
        InputError: no zoo; models without accuracy, twins of unknown models.
        StoreError: the folder holds no zoo, or a damaged one.
        ExtraError: the extra `study` is not installed.
    """
    with _extra("zs.analyze"):
        from zoosparse_ext.report.findings import analyze_zoo
    return analyze_zoo(zoo)


def write_report(zoo: Zoo | str | Path, out: str | Path, title: str | None = None) -> Path:
    """Write the report of a zoo: `report.html`, one page that needs no other file, and its figures and tables as files.

    >>> import tempfile
    >>> import zoosparse_ext as zs
    >>> data = zs.load_dataset("digits").limit(60)
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     zoo = zs.Zoo.create(f"{folder}/zoo", population, data)
    ...     print(zs.write_report(zoo, f"{folder}/report").name)
    report.html

    Beside the page are `report.json`, `figures/` and `tables/`. Files are replaced one by one, each whole, the page
    last; other files in the folder stay. Where the zoo is given by its folder, tables that `out` has of the same zoo
    are used again.

    Args:
        zoo: a zoo, or its folder.
        out: a folder, made if it is not there.
        title: of the page; default: that of the study, else one with the name of the zoo's folder.

    Returns:
        The path of the page.

    Raises:
        InputError: no zoo, `out` is a file; as :func:`zoosparse_ext.analyze`.
        StoreError: the folder of the zoo holds none, or a damaged one; `out` cannot be written.
        ExtraError: the extra `study` is not installed.
    """
    with _extra("zs.write_report"):
        from zoosparse_ext.report.findings import write_zoo_report
    return write_zoo_report(zoo, Path(out), title)


@contextmanager
def _extra(function: str) -> Iterator[None]:
    """Say what to install where a library that studies need is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "zoosparse_ext":
            raise
        raise ExtraError(
            f'{function} needs {error.name}, which is not installed: pip install "zoosparse-ext[study]"'
        ) from error
