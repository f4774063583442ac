"""The measured costs of inference: kept per machine, loaded again, never in the way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer_costs
from zoosparse_ext.ops.infer_costs import InferCosts


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_what_is_saved_is_found_again(cache: Path) -> None:
    assert infer_costs.saved() is None
    infer_costs.save(InferCosts(1.25, 3.0))
    assert infer_costs.saved() == InferCosts(1.25, 3.0)
    assert [path.name for path in (cache / "zoosparse").iterdir()] == ["infer_costs.json"]


def test_costs_of_another_machine_do_not_count() -> None:
    infer_costs.save(InferCosts(1.25, 3.0))
    content = json.loads(infer_costs.file().read_text())
    infer_costs.file().write_text(json.dumps({**content, "machine": "vax"}))
    assert infer_costs.saved() is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"machine": 1', "\xff", '{"machine": "M", "on_planes": "x"}']
)
def test_a_broken_file_is_reported_and_ignored(content: str) -> None:
    infer_costs.file().parent.mkdir()
    infer_costs.file().write_text(content.replace("M", infer_costs.machine()), encoding="latin-1")
    with pytest.warns(UserWarning, match="infer_costs.json cannot be read .*zoosparse info --tune"):
        assert infer_costs.saved() is None
    import_package = [sys.executable, "-c", "import zoosparse_ext"]
    assert subprocess.run(import_package, check=False).returncode == 0


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_costs_are_positive(value: float) -> None:
    with pytest.raises(InputError, match="on_planes must be a positive number"):
        InferCosts(on_planes=value)
