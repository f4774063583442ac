"""The help: every command has one, with an example that the command line understands."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from tests.cli.command import REPOSITORY, succeed, zoosparse
from zoosparse_ext.cli import app
from zoosparse_ext.version import package_version

GROUP = get_command(app)
COMMANDS = sorted(GROUP.commands)  # type: ignore[attr-defined]


def understood(line: str) -> None:
    """Parse a line as the shell and the command line would, without running it."""
    name, *words = shlex.split(line.split(" #")[0].split(">")[0])[1:]
    command = GROUP.commands[name]  # type: ignore[attr-defined]
    with typer.Context(GROUP) as parent:
        command.make_context(name, list(words), parent=parent).close()


def examples(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip().startswith("zoosparse ")]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str) -> None:
    assert "Example" in succeed(name, "--help").out
    lines = examples(GROUP.commands[name].help or "")  # type: ignore[attr-defined]
    assert lines
    for line in lines:
        understood(line)
        assert len(line) <= 78  # stays whole in a terminal of 80 columns


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_the_help_names_every_command(option: str) -> None:
    shown = succeed(option).out
    assert all(name in shown for name in COMMANDS)
    assert "zoosparse demo" in shown


@pytest.mark.parametrize(
    "words", [["fly"], ["train"], ["prune", "zoo", "--ratio", "0.5"], ["train", "--epochs", "x"]]
)
def test_what_is_no_command_ends_with_two(words: list[str]) -> None:
    result = zoosparse(*words)
    assert result.code == 2
    assert result.err


@pytest.mark.parametrize("file", ["README.md", "CONTRIBUTING.md"])
def test_every_command_in_the_documents_is_understood(file: str) -> None:
    text = Path(REPOSITORY / file).read_text(encoding="utf-8")
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", text, re.DOTALL))
    for line in examples(blocks):
        understood(line)


def test_version() -> None:
    assert succeed("--version").out.strip() == package_version()
