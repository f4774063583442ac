"""`zoosparse bench`: the benchmarks of the repository, for whoever has installed the package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import typer

import zoosparse_ext
from zoosparse_ext.cli.console import out
from zoosparse_ext.errors import InputError

_PACKAGE = Path(zoosparse_ext.__file__).parent
_PLACES = (_PACKAGE.parent / "benchmarks", _PACKAGE / "benchmarks")  # a checkout, an installed package


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which; default: all that there are.", show_default=False)
    ] = None,
    choose: Annotated[
        str | None, typer.Option("--only", help="Races whose name has this in it.", show_default=False)
    ] = None,
    models: Annotated[int, typer.Option(help="Models of the evaluation.")] = 64,
    images: Annotated[int, typer.Option(help="Images of the evaluation.")] = 1000,
    results: Annotated[
        Path | None, typer.Option(help="Write <benchmark>.json here.", show_default=False)
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="Name the benchmarks.")] = False,
) -> None:
    """Race the operators and engines against what a user would write instead, on this machine.

    [bold]Examples[/]

      zoosparse bench --list

      zoosparse bench magnitude

      zoosparse bench evaluate --models 256 --images 10000 --results my-results
    """
    known = _benchmarks()
    if list_:
        for path in known.values():
            out.print(f"[bold]{path.stem:<12}[/]{_first_line(path)}", highlight=False)
        return
    for name in names or ():
        if name not in known:
            raise InputError(f"unknown benchmark {name!r}; known: {', '.join(known)}")
    for module in ("pytest", "pytest_benchmark"):
        if importlib.util.find_spec(module) is None:
            raise InputError(
                f"the benchmarks run on {module}, which is not installed: pip install 'zoosparse-ext[bench]'"
            )
    raise typer.Exit(_run([known[name] for name in names or known], choose, models, images, results))


def _run(files: list[Path], choose: str | None, models: int, images: int, results: Path | None) -> int:
    import pytest

    arguments = [str(file) for file in files]
    arguments += ["-c", os.devnull, f"--rootdir={files[0].parent}", "-p", "no:cacheprovider", "-q"]
    arguments += [f"--models={models}", f"--images={images}", "--benchmark-columns=median,iqr,rounds"]
    arguments += ["-k", choose] if choose else []
    arguments += [f"--results={results.absolute()}"] if results else []
    return int(pytest.main(arguments))


def _benchmarks() -> dict[str, Path]:
    folder = next((place for place in _PLACES if (place / "conftest.py").exists()), None)
    if folder is None:
        raise InputError("this installation came without the benchmarks; they are part of the source")
    found = [path for path in sorted(folder.glob("*.py")) if "def test_" in path.read_text(encoding="utf-8")]
    return {path.stem: path for path in found}


def _first_line(path: Path) -> str:
    """What the file says about itself."""
    return path.read_text(encoding="utf-8").split('"""')[1].strip().splitlines()[0]
