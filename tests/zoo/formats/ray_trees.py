"""Ray Tune trees as modelzoos.cc publishes them, written by hand: nothing here uses our exporter."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

State = Mapping[str, Tensor]
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "leakyrelu": nn.LeakyReLU, "gelu": nn.GELU}


def cnn_small(nlin: str = "tanh", channels: int = 1, dropout: bool = False, seed: int = 0) -> nn.ModuleList:
    """The published CNN-s; weight layers 0, 3, 6, 9, 11, or 0, 4, 8, 11, 14 with dropout."""
    act = ACTIVATIONS[nlin]
    drop = [nn.Dropout(0.5)] if dropout else []
    torch.manual_seed(seed)
    return nn.ModuleList(
        [
            *[nn.Conv2d(channels, 8, 5), nn.MaxPool2d(2), act(), *drop],
            *[nn.Conv2d(8, 6, 5), nn.MaxPool2d(2), act(), *drop],
            *[nn.Conv2d(6, 4, 2), act(), nn.Flatten()],
            *[nn.Linear(36, 20), act(), *drop, nn.Linear(20, 10)],
        ]
    )


def state_of(modules: nn.ModuleList) -> dict[str, Tensor]:
    return {f"module_list.{name}": tensor.clone() for name, tensor in modules.state_dict().items()}


def run_through(modules: nn.ModuleList, images: Tensor) -> Tensor:
    modules.eval()
    with torch.no_grad():
        for module in modules:
            images = module(images)
    return images


def noisy(state: State, log_alpha: Tensor | float, rubbish: float = float("nan")) -> dict[str, Tensor]:
    """A twin by variational dropout: log σ² everywhere, and rubbish where the published code never wrote."""
    twin = {}
    for name, tensor in state.items():
        twin[name] = tensor
        layer, _, kind = name.rpartition(".")
        if kind == "weight":
            twin[f"{layer}.log_sigma2"] = log_alpha + 2 * tensor.abs().log()
        else:
            linear = state[f"{layer}.weight"].dim() == 2
            twin[f"{layer}.log_sigma2_bias"] = torch.full_like(tensor, rubbish if linear else -8.0)
    return twin


def params(**changes: Any) -> dict[str, Any]:
    """What params.json of a published zoo says, including what is wrong in it."""
    return {
        "model::type": "CNN",
        "model::channels_in": 1,
        "model::o_dim": 4,  # not true: there are ten classes
        "model::nlin": "tanh",
        "model::dropout": 0,
        "model::init_type": "uniform",
        "model::use_bias": False,  # not true either
        "optim::optimizer": "adam",
        "optim::lr": 3e-4,
        "optim::wd": 0,
        "seed": 1,
        "cuda": False,
        "training::batchsize": 10,
        "training::epochs_train": 50,
        "dataset::dump": "/scratch/someone/dataset.pt",
    } | {key.replace("__", "::"): value for key, value in changes.items()}


def result(iteration: int, **changes: Any) -> dict[str, Any]:
    metrics = {"train_loss": 2.0 / (iteration + 1), "train_acc": 0.1 + iteration / 100}
    tested = {"test_loss": 2.5 / (iteration + 1), "test_acc": 0.09 + iteration / 100}
    return {
        **metrics,
        **tested,
        "training_iteration": iteration,
        "trial_id": "x",
        "done": False,
        "config": {},
        **changes,
    }


def write_trial(
    folder: Path,
    states: Mapping[int, State],
    parameters: Mapping[str, Any] | None = None,
    results: list[dict[str, Any]] | None = None,
    *,
    checkpoint: str = "checkpoint_{:06d}",
    params_file: str = "params.json",
    iterations: Mapping[int, int] | None = None,
) -> Path:
    """One trial. `iterations` are what Ray's metadata say of each checkpoint folder."""
    folder.mkdir(parents=True)
    (folder / params_file).write_text(json.dumps(parameters if parameters is not None else params()))
    lines = [result(i) for i in range(max(states, default=0) + 1)] if results is None else results
    (folder / "result.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "progress.csv").write_text("train_loss\n")
    for number, state in states.items():
        place = folder / checkpoint.format(number)
        place.mkdir()
        torch.save(dict(state), place / "checkpoints")
        torch.save({"state": {}, "param_groups": []}, place / "optimizer")
        (place / ".is_checkpoint").touch()
        if iterations is not None:
            (place / ".tune_metadata").write_bytes(
                pickle.dumps({"iteration": iterations[number], "ray_version": "1.0"})
            )
    return folder


def trial_name(number: int) -> str:
    return f"NN_tune_trainable_c4bc6_{number:05d}_{number}_seed={number}_2021-06-04_12-47-52"


def write_zoo(
    root: Path, count: int = 3, epochs: tuple[int, ...] = (0, 1, 2), **changes: Any
) -> list[dict[int, State]]:
    """A zoo of CNN-s; returns the states by model and epoch."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "config.json").write_text(json.dumps({"seed": list(range(1, count + 1))}))
    (root / "readme.md").write_text("# zoo\n")
    zoo = []
    for number in range(count):
        states = {epoch: state_of(cnn_small(seed=100 * number + epoch)) for epoch in epochs}
        write_trial(root / trial_name(number), states, params(seed=number + 1, **changes))
        zoo.append(states)
    return zoo
