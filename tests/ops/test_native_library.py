"""libzoosparse: what it asks of torch, and that its state exists once, also when `_C` sets it."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.ops.infer_nets import Net
from zoosparse_ext.ops import _registry, infer_costs
from zoosparse_ext.ops._loading import PACKAGE, TORCH_AT_LEAST, signature
from zoosparse_ext.population.program import Activation, Flatten, Linear, Program

pytestmark = pytest.mark.skipif(_registry.native is None, reason="needs the native kernels")

NET = Net(Program((Flatten(), Linear("a", 100, 64), Activation("tanh"), Linear("b", 64, 10))), (1, 10, 10))
AUTO, DENSE, SPARSE = 0, 1, 2


def scores(mode: int) -> Tensor:
    weights, images = NET.weights(3, density=0.5), NET.images(40)
    result: Tensor = torch.ops.zoosparse.infer_scores(
        weights, *NET.encode().values(), *images.values(), 10, mode
    )
    return result


@pytest.fixture
def native() -> Iterator[Any]:
    """The module; its settings are put back."""
    module = _registry.native
    assert module is not None
    before = module.simd_level()
    yield module
    module.set_simd_level(before)
    infer_costs.use(infer_costs.InferCosts())


def test_the_instruction_set_set_through_the_module_is_the_one_that_operators_run(native: Any) -> None:
    """The baseline has no fused multiply-add, so that its last bits differ."""
    native.set_simd_level("baseline")
    baseline = scores(DENSE)
    for level in native.available_simd_levels()[1:]:
        native.set_simd_level(level)
        assert not torch.equal(scores(DENSE), baseline)
        native.set_simd_level("baseline")
        assert torch.equal(scores(DENSE), baseline)


def test_the_costs_set_through_the_module_are_those_that_operators_choose_by(native: Any) -> None:
    """A dense layer and a list of its weights add up in another order, so that their last bits differ."""
    dense, sparse = scores(DENSE), scores(SPARSE)
    assert not torch.equal(dense, sparse)
    for costs, expected in ((1e-3, sparse), (1e3, dense), (1e-3, sparse)):
        native.set_infer_costs(on_planes=costs, on_one_position=costs)
        assert torch.equal(scores(AUTO), expected)


def test_costs_that_are_not_positive_are_refused(native: Any) -> None:
    with pytest.raises(ValueError, match="costs must be positive, got 0 and 1"):
        native.set_infer_costs(0.0, 1.0)


def library() -> Path:
    (found,) = PACKAGE.glob("libzoosparse.*")
    return found


def test_the_state_is_that_of_the_library(native: Any) -> None:
    """What another module would see that calls the same library."""
    loaded = ctypes.CDLL(str(library()))
    name = ctypes.c_char_p()
    for level in native.available_simd_levels():
        native.set_simd_level(level)
        assert loaded.zoosparse_simd_level(ctypes.byref(name)) == 0
        assert name.value == level.encode()


def undefined(path: Path) -> list[str]:
    command = ["nm", "--dynamic", "--undefined-only", str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return [line.split()[-1].partition("@")[0] for line in lines]


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_the_library_uses_of_torch_its_stable_c_functions_alone(native: Any) -> None:
    """No symbol of Python, and no C++ symbol but those of the C++ library: no at::, c10:: or torch::."""
    of_torch = {name for name in undefined(library()) if re.match(r"(aoti_)?torch_", name)}
    assert "torch_library_impl" in of_torch
    rest = set(undefined(library())) - of_torch
    assert not [name for name in rest if re.match(r"_?Py", name)]
    assert not [name for name in rest if re.match(r"_Z(T[VIS])?(NK?)?(2at|3c10|5torch)", name)]


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_the_module_knows_nothing_of_torch(native: Any) -> None:
    names = undefined(Path(native.__file__))
    assert {name for name in names if name.startswith("zoosparse_")}
    assert not [name for name in names if "torch" in name or "c10" in name]


def test_the_least_torch_is_the_one_that_the_library_was_built_for(native: Any) -> None:
    assert native.build_info()["torch_at_least"] == TORCH_AT_LEAST


def test_signatures_are_those_of_the_schemas(native: Any) -> None:
    found = native.signatures()
    assert set(found) >= {"magnitude_prune_", "apply_mask_", "train_steps_", "infer"}
    for name, types in found.items():
        assert signature(getattr(torch.ops.zoosparse, name).default._schema) == types
