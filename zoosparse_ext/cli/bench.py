"""`zoosparse bench`: the benchmarks of the repository, for whoever has installed the package."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated

import torch
import typer

import zoosparse_ext
from zoosparse_ext.cli import options as o
from zoosparse_ext.cli.console import out
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.devices import device_of

_PACKAGE = Path(zoosparse_ext.__file__).parent
_PLACES = (_PACKAGE.parent / "benchmarks", _PACKAGE / "benchmarks")  # a checkout, an installed package


def bench(
    names: Annotated[
        list[str] | None, typer.Argument(help="Which; default: all that there are.", show_default=False)
    ] = None,
    choose: Annotated[
        str | None, typer.Option("--only", help="Races whose name has this in it.", show_default=False)
    ] = None,
    models: Annotated[int | None, typer.Option(help="Models of the evaluation: 64, on a GPU 1,000.")] = None,
    images: Annotated[
        int | None, typer.Option(help="Images of the evaluation: 1,000, on a GPU 10,000.")
    ] = None,
    device: o.Device = None,
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
    options: dict[str, object] = {
        "models": models,
        "images": images,
        "device": device_of(device, torch.empty(0)).type,
        "results": results and results.absolute(),
    }
    raise typer.Exit(_run([known[name] for name in names or known], choose, options))


def _run(files: list[Path], choose: str | None, options: dict[str, object]) -> int:
    import pytest

    arguments = [str(file) for file in files]
    arguments += ["-c", os.devnull, f"--rootdir={files[0].parent}", "-p", "no:cacheprovider", "-q"]
    arguments += ["--benchmark-columns=median,iqr,rounds"]
    arguments += [f"--{name}={value}" for name, value in options.items() if value is not None]
    arguments += ["-k", choose] if choose else []
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
