"""L0 regularization by hard concrete gates, against one model at a time in plain PyTorch."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext import random
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.forward import StepNoise, forward
from zoosparse_ext.population.modules import forward_modules
from zoosparse_ext.sparsify.methods.l0 import L0
from zoosparse_ext.study.chunks import join
from zoosparse_ext.zoo import Zoo

BATCH, SEED = 5, 4
EAGER = L0(strength=0.05, drop_rate=0.3, gate_lr=50.0)  # ten steps close half of the gates
HOW: dict[str, Any] = {"epochs": 2, "batch_size": BATCH, "seed": SEED, "optimizer": zs.Adam(lr=1e-2)}
builds = pytest.mark.parametrize(
    "build", [tiny.chain, tiny.Residual, tiny.batch_normed], ids=["chain", "residual", "batch norm"]
)


def alone(
    module: nn.Module,
    method: L0,
    data: zs.Dataset,
    model_seed: int,
    segments: dict[str, Any],
    epochs: int,
    lr: float,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One network through torch.optim; returns its weights through the gates without noise, and their logits."""
    width = method.stretch_high - method.stretch_low
    count = max(segment.slice.stop for segment in segments.values())
    names = [name for name, segment in segments.items() if segment.prunable]
    start = math.log((1 - method.drop_rate) / method.drop_rate)
    logits = {name: torch.full(segments[name].shape, start, requires_grad=True) for name in names}
    parameters = dict(module.named_parameters())
    optimizer = torch.optim.Adam(
        [{"params": list(parameters.values())}, {"params": list(logits.values()), "lr": lr * method.gate_lr}],
        lr=lr,
    )
    module.train()
    step = 0
    for epoch in range(epochs):
        order = random.permutation(torch.tensor([model_seed]), SEED, len(data.train), epoch=epoch)[0]
        for batch in order.long().split(BATCH):
            uniform = random.uniform(
                torch.tensor([model_seed]), SEED, count, step=step, stream=random.stream_id(random.GATES)
            )[0, 0]
            used = dict(parameters)
            cost = torch.zeros(())
            for name in names:
                u = uniform[segments[name].slice].view(segments[name].shape)
                concrete = torch.sigmoid((u.log() - (1 - u).log() + logits[name]) / method.temperature)
                used[name] = parameters[name] * (concrete * width + method.stretch_low).clamp(0, 1)
                shift = method.temperature * math.log(-method.stretch_low / method.stretch_high)
                cost = cost + torch.sigmoid(logits[name] - shift).sum()
            scores = functional_call(module, used, (data.train.normalized(batch),))
            loss = F.cross_entropy(scores, data.train.labels[batch])
            optimizer.zero_grad()
            (loss + method.strength / len(data.train) * cost).backward()
            optimizer.step()
            step += 1
    found = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    for name in names:
        gate = (torch.sigmoid(logits[name]) * width + method.stretch_low).clamp(0, 1).detach()
        found[name] = torch.where(gate > method.threshold, found[name] * gate, 0.0)
    return found, {name: tensor.detach() for name, tensor in logits.items()}


@builds
def test_equals_one_network_at_a_time(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    modules = tiny.make(build, 2)
    population = zs.Population.from_modules(modules)
    twins = zs.learn(population, data, EAGER, **HOW)
    segments = {segment.name: segment for segment in twins.layers()}
    assert (twins.sparsity() > 0.02).all() and (twins.sparsity() < 0.9).all()
    for row, module in enumerate(modules):
        found, logits = alone(module, EAGER, data, row, segments, epochs=2, lr=1e-2)
        for name, segment in segments.items():
            learned = twins.weights[row, segment.slice].view(segment.shape)
            torch.testing.assert_close(learned, found[name], rtol=1e-3, atol=1e-4)
            if segment.prunable:
                mine = twins.learned["gate_logits"][row, segment.slice].view(segment.shape)
                torch.testing.assert_close(mine, logits[name], rtol=1e-3, atol=1e-4)


@builds
@pytest.mark.parametrize("of", ["weights", "gate_logits"])
def test_gradients_are_those_of_finite_differences(build: Callable[[], nn.Module], of: str) -> None:
    """Of loss and penalty under one noise, in float64."""
    population = tiny.population(build, 2)
    architecture = population.architecture
    torch.manual_seed(1)
    images = torch.rand(2, 3, *tiny.SHAPE, dtype=torch.float64)
    labels = torch.tensor([[0, 1, 2], [3, 0, 1]])
    noise = StepNoise(torch.tensor([5, 9]), seed=3, step=7)
    tensors = {
        "weights": population.weights.double().clone(),
        "gate_logits": torch.randn(population.weights.shape, dtype=torch.float64),
    }

    def objective(values: dict[str, Tensor]) -> Tensor:
        matrices = {"gate_logits": values["gate_logits"]}
        used = EAGER.perturb(architecture, values["weights"], matrices, noise).weights
        if architecture.program is not None:
            scores = forward(architecture, used, images, noise=noise)
        else:
            scores = forward_modules(architecture, used, images, each=True, noise=noise)
        penalty = EAGER.penalty(architecture, values["weights"], matrices)
        return F.cross_entropy(scores.flatten(0, 1), labels.flatten()) + 0.01 * penalty.sum()

    leaves = {name: tensor.clone().requires_grad_() for name, tensor in tensors.items()}
    (gradient,) = torch.autograd.grad(objective(leaves), [leaves[of]])
    segments = [s for s in architecture.segments if s.prunable]
    columns = torch.cat([torch.arange(s.slice.start, s.slice.stop) for s in segments])
    chosen = columns[torch.randperm(len(columns))[:30]].tolist()
    assert gradient[:, chosen].count_nonzero() > 20
    for column in chosen:
        for row in range(2):
            values = []
            for side in (1e-6, -1e-6):
                moved = {name: tensor.clone() for name, tensor in tensors.items()}
                moved[of][row, column] += side
                with torch.no_grad():
                    values.append(float(objective(moved)))
            slope = (values[0] - values[1]) / 2e-6
            assert float(gradient[row, column]) == pytest.approx(slope, rel=1e-4, abs=1e-8)


def test_stays_finite_where_numbers_end() -> None:
    """A uniform number of 1, and logits far out: gates are open or closed, gradients no NaN."""
    population = tiny.population(n=1)
    logits = torch.tensor([[-1e30, -200.0, 0.0, 200.0, 1e30]]).repeat(1, 28)[:, :138].requires_grad_()
    noise = StepNoise(torch.tensor([0]), seed=0, step=0)
    weights = population.weights.clone().requires_grad_()
    used = L0().perturb(population.architecture, weights, {"gate_logits": logits}, noise).weights
    penalty = L0().penalty(population.architecture, weights, {"gate_logits": logits})
    gradients = torch.autograd.grad(used.sum() + penalty.sum(), [weights, logits])
    assert all(gradient.isfinite().all() for gradient in gradients) and used.isfinite().all()


@pytest.mark.parametrize("cut", [2, 3])
@pytest.mark.parametrize("threads", [1, 3])
def test_bits_do_not_depend_on_neighbors(cut: int, threads: int) -> None:
    images = zs.load_dataset("digits").limit(40)
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 7))
    options: dict[str, Any] = {"epochs": 2, "optimizer": zs.Adam(lr=0.01)}
    whole = zs.learn(population, images, EAGER, **options)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        parts = [zs.learn(part, images, EAGER, **options) for part in (population[:cut], population[cut:])]
    finally:
        torch.set_num_threads(before)
    joined = join(parts)
    assert torch.equal(whole.weights, joined.weights) and torch.equal(whole.packed_masks, joined.packed_masks)
    assert torch.equal(whole.learned["gate_logits"], joined.learned["gate_logits"])
    assert whole.history is not None and whole.history.equals(joined.history)


def test_fewer_gates_are_open_where_they_cost_more(data: zs.Dataset) -> None:
    population = tiny.population()
    expected, sparsity = [], []
    for strength in (0.0, 0.3, 3.0, 30.0):
        twins = zs.learn(population, data, L0(strength=strength, gate_lr=20.0), **{**HOW, "epochs": 5})
        expected.append(L0().penalty(twins.architecture, twins.weights, twins.learned))
        sparsity.append(twins.sparsity())
    assert (torch.stack(expected).diff(dim=0) < 0).all()
    assert (torch.stack(sparsity).diff(dim=0) >= 0).all() and (sparsity[-1] > 0.5).all()


def test_pruned_weights_are_exactly_zero_and_others_are_gated(data: zs.Dataset) -> None:
    twins = zs.learn(tiny.population(), data, EAGER, **HOW)
    assert twins.masks is not None and twins.history is not None
    assert (twins.weights[~twins.masks] == 0).all() and (twins.weights[twins.masks] != 0).all()
    biases = [segment.slice for segment in twins.layers() if not segment.prunable]
    assert all(twins.masks[:, columns].all() for columns in biases)
    last = twins.history[twins.history.epoch == 2]
    assert last.sparsity.tolist() == twins.sparsity().tolist()
    result = zs.evaluate(twins, data)
    assert last.accuracy.tolist() == result.accuracy.tolist()
    assert torch.equal(twins.predictions, result.predictions)
    few = zs.learn(tiny.population(), data, L0(**{**vars(EAGER), "threshold": 0.9}), **HOW)
    assert (few.sparsity() > twins.sparsity()).all()


def test_gates_that_begin_open_leave_networks_as_they_are(data: zs.Dataset) -> None:
    population = tiny.population()
    twins = zs.learn(population, data, L0(drop_rate=0.05), epochs=0)
    assert torch.equal(twins.weights, population.weights) and twins.masks is not None and twins.masks.all()
    halved = zs.learn(population, data, L0(drop_rate=0.5), epochs=0)
    columns = population.layers()[0].slice
    torch.testing.assert_close(halved.weights[:, columns], population.weights[:, columns] / 2)


def test_what_is_pruned_stays_pruned(data: zs.Dataset) -> None:
    pruned = zs.magnitude_prune(tiny.population(), 0.5, biases=True)
    twins = zs.learn(pruned, data, EAGER, **HOW)
    assert twins.masks is not None and pruned.masks is not None
    assert (twins.masks <= pruned.masks).all() and (twins.weights[~pruned.masks] == 0.0).all()
    assert twins.models["source_id"].tolist() == pruned.ids


def test_frozen_layers_and_statistics(data: zs.Dataset) -> None:
    """A frozen layer that is not prunable keeps its bits; batch norm learns its statistics through the gates."""
    modules = tiny.make(tiny.batch_normed)
    for module in modules:
        module.stem.weight.requires_grad_(False)
    population = zs.Population.from_modules(modules)
    twins = zs.learn(population, data, EAGER, **HOW)
    segments = {segment.name: segment.slice for segment in population.layers()}
    frozen, mean = segments["stem.weight"], segments["norm.running_mean"]
    assert torch.equal(twins.weights[:, frozen], population.weights[:, frozen])
    assert (twins.weights[:, mean] != population.weights[:, mean]).all()
    assert twins.counts is not None and (twins.counts == 10).all()
    measured = zs.learn(population, data, EAGER, recalibrate=data.train, **HOW)
    assert torch.equal(measured.packed_masks, twins.packed_masks)
    assert not torch.equal(measured.weights[:, mean], twins.weights[:, mean])


def test_kept_epochs_are_those_of_shorter_runs(data: zs.Dataset) -> None:
    whole = zs.learn(tiny.population(), data, EAGER, keep=(0, 1), **HOW)
    assert list(whole.kept) == [0, 1]
    for epoch, then in whole.kept.items():
        short = zs.learn(tiny.population(), data, EAGER, **{**HOW, "epochs": epoch})
        assert torch.equal(then.weights, short.weights)
        assert torch.equal(then.learned["gate_logits"], short.learned["gate_logits"])


def test_starts_from_the_moments_of_the_source(data: zs.Dataset) -> None:
    population = tiny.population()
    zs.train(population, data, keep_optimizer_state=True, **{**HOW, "epochs": 3})
    twins = zs.learn(population, data, EAGER, optimizer_state="source", **HOW)
    other = zs.learn(population, data, EAGER, **HOW)
    assert not torch.equal(twins.weights, other.weights) and twins.weights.isfinite().all()


def test_an_interrupted_run_resumes_bit_for_bit(data: zs.Dataset, tmp_path: Path) -> None:
    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    how = {**HOW, "epochs": 3}
    with pytest.raises(KeyboardInterrupt):
        zs.learn(tiny.population(), data, EAGER, checkpoint=tmp_path / "run", progress=interrupt, **how)
    again = zs.learn(tiny.population(), data, EAGER, checkpoint=tmp_path / "run", **how)
    expected = zs.learn(tiny.population(), data, EAGER, **how)
    assert torch.equal(again.weights, expected.weights) and again.history.equals(expected.history)
    assert torch.equal(again.learned["gate_logits"], expected.learned["gate_logits"])
    with pytest.raises(InputError, match="other settings"):
        zs.learn(tiny.population(), data, L0(), checkpoint=tmp_path / "run", **how)


KILLED = """
import os, signal, sys
import zoosparse_ext as zs
from zoosparse_ext.sparsify.methods.l0 import L0

def kill(progress):
    if progress.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(3))
data = zs.load_dataset("digits").limit(40)
zs.learn(population, data, L0(strength=5.0), epochs=4, keep=(1,), checkpoint=sys.argv[1], progress=kill)
"""


def test_a_killed_process_resumes_bit_for_bit(tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", KILLED, tmp_path / "run"], env=os.environ, check=False)
    assert run.returncode == -signal.SIGKILL
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(3))
    data = zs.load_dataset("digits").limit(40)
    epochs: set[int] = set()
    how: dict[str, Any] = {"epochs": 4, "keep": (1,)}
    again = zs.learn(
        population,
        data,
        L0(strength=5.0),
        checkpoint=tmp_path / "run",
        progress=lambda progress: epochs.add(progress.epoch),
        **how,
    )
    expected = zs.learn(population, data, L0(strength=5.0), **how)
    assert epochs == {3, 4}
    assert torch.equal(again.weights, expected.weights) and again.history.equals(expected.history)
    assert torch.equal(again.kept[1].learned["gate_logits"], expected.kept[1].learned["gate_logits"])


def test_names_and_the_store(data: zs.Dataset, tmp_path: Path) -> None:
    population = tiny.population()
    twins = zs.learn(population, data, "l0", epochs=1)
    assert twins.ids[0] == f"{population.ids[0]}/l0" and set(twins.models["method"]) == {"l0"}
    other = zs.learn(population, data, L0(strength=0.5, threshold=0.1), epochs=1)
    assert set(other.history.series) == {"l0-strength_0.5-threshold_0.1"}
    named = zs.learn(population, data, "l0", epochs=1, series="l0-short")
    assert named.ids[0].endswith("/l0-short")
    Zoo({"original": [population], "l0": [twins]}, population.models, twins=twins.history).save(tmp_path)
    stored = Zoo.open(tmp_path).population("l0")
    assert torch.equal(stored.learned["gate_logits"], twins.learned["gate_logits"])
    assert torch.equal(stored.weights, twins.weights)


def test_what_is_refused(data: zs.Dataset) -> None:
    population = tiny.population()
    with pytest.raises(InputError, match="no kernel for L0 regularization"):
        zs.learn(population, data, "l0", epochs=1, engine="native")
    for options, told in (
        ({"strength": -1}, "strength must be 0 or more"),
        ({"temperature": 0}, "temperature must be more than 0"),
        ({"stretch_low": 0.1}, "stretch_low must be"),
        ({"stretch_high": 1.0}, "stretch_high must be"),
        ({"drop_rate": 1.0}, "drop_rate must be"),
        ({"threshold": 1.0}, "threshold must be"),
        ({"gate_lr": math.inf}, "gate_lr must be"),
        ({"strength": math.nan}, "strength must be"),
        ({"strength": "much"}, "strength: got str 'much'"),
    ):
        with pytest.raises(InputError, match=told):
            L0(**options)
    population.weights[2, 30] = torch.nan
    with pytest.raises(InputError, match="row 2"):
        zs.learn(population, data, "l0", epochs=1)
    kept = zs.learn(population, data, "l0", epochs=1, allow_nan=True)
    assert kept.weights[:2].isfinite().all() and kept.weights[2].isnan().any()


def test_numbers_that_are_not_finite() -> None:
    with pytest.raises(InputError, match="temperature must be more than 0 and finite, got inf"):
        L0(temperature=math.inf)
    with pytest.raises(InputError, match="strength must be 0 or more and finite, got nan"):
        L0(strength=math.nan)
