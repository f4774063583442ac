"""What the page tells users to do with refused modules: done, they run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from tests.population.kinds.hooks import chain
from tests.population.kinds.kind import CLASSES, images
from tests.population.kinds.nets import Written

WayOut = Callable[[Any], nn.Module | None]  # changes a module, or makes another of it


def as_buffer(name: str, layer: str = "") -> WayOut:
    """A number or a tensor becomes a buffer of floating point."""

    def way_out(module: nn.Module) -> None:
        owner = module.get_submodule(layer)
        value = getattr(owner, name)
        delattr(owner, name)
        owner.register_buffer(
            name, value.float() if isinstance(value, Tensor) else torch.tensor(float(value))
        )

    return way_out


def registered(module: Any) -> None:
    module.layers = nn.ModuleList(module.layers)


def with_float_masks(module: Any) -> None:
    for layer in (module[1], module[3]):
        layer.mask = layer.mask.float()


def with_pruned_weights(module: nn.Module) -> nn.Module:
    """Plain linear layers whose weights are pruned by the same masks."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, CLASSES))
    made.load_state_dict(module.state_dict(), strict=False)
    for index in (1, 3):
        prune.custom_from_mask(made[index], "weight", module.get_buffer(f"{index}.mask"))
    return made


def untied(layer: str) -> WayOut:
    def way_out(module: nn.Module) -> None:
        owner = module.get_submodule(layer)
        owner.weight = nn.Parameter(owner.weight.detach().clone())

    return way_out


def two_layers(module: Any) -> None:
    module[2] = copy.deepcopy(module[0])


def around(use: Callable[[Any, Tensor], Tensor]) -> WayOut:
    """A module around another, which hands it the input or takes its output apart."""
    return lambda module: Written(use, inner=module)


def made_from(module: nn.Module) -> nn.Module:
    made = chain()
    made.load_state_dict(module.state_dict())
    return made


def run_once(module: nn.Module) -> None:
    module(images(2))


def dense(module: Any) -> None:
    module.matrix = nn.Parameter(module.matrix.detach().to_dense())


def with_memory(module: nn.Module) -> None:
    if next(module.parameters()).is_meta:
        module.to_empty(device="cpu").load_state_dict(chain().state_dict())


def own_memory(module: Any) -> None:
    module[6].weight.data = module[6].weight.data.clone()


def without_lock(module: Any) -> None:
    del module.lock


def all_trained(module: nn.Module) -> None:
    module.requires_grad_(True)


WAYS_OUT: dict[str, list[WayOut]] = {
    "A number that forward reads, other in each model": [as_buffer("scale")],
    "A number in a child layer, other in each model": [as_buffer("factor", "1")],
    "A number of another type (NumPy), other in each model": [as_buffer("scale")],
    "A plain tensor attribute, other in each model": [as_buffer("scale")],
    "A buffer that is not saved, other in each model": [as_buffer("scale")],
    "A bool mask as a buffer, other in each model": [as_buffer("scale")],
    "Masked linear layers with masks of their own": [with_float_masks, with_pruned_weights],
    "Layers that are not registered": [registered],
    "One model with a frozen layer": [all_trained],
    "A layer frozen in one model of four": [all_trained],
    "Layers that share a weight": [untied("3")],
    "A layer under two names": [two_layers],
    "An embedding tied to the output": [untied("out")],
    "Weights that repeat one number in memory": [own_memory],
    "Two inputs": [around(lambda m, x: m.inner(x, x))],
    "A tuple of outputs": [around(lambda m, x: m.inner(x)[0])],
    "A dictionary of outputs": [around(lambda m, x: m.inner(x)["logits"])],
    "A named tuple of outputs": [around(lambda m, x: m.inner(x).logits)],
    "A recurrent layer alone": [around(lambda m, x: m.inner(x)[0][:, -1])],
    "One score a sample, [B]": [around(lambda m, x: m.inner(x)[:, None])],
    "Scores of each token, [B, T, classes]": [around(lambda m, x: m.inner(x)[:, -1])],
    "Scores of each pixel, [B, C, H, W]": [around(lambda m, x: m.inner(x).mean((2, 3)))],
    "ScriptModule": [made_from],
    "A traced module": [made_from],
    "A scripted layer with weights in a module": [made_from],
    "An exported program": [made_from],
    "Lazy layers": [run_once],
    "A sparse parameter": [dense],
    "One model on the meta device": [with_memory],
    "All models on the meta device": [with_memory],
    "The input changed in place": [around(lambda m, x: m.inner(x.clone()))],
    "An attribute that cannot be copied (a lock)": [without_lock],
}
