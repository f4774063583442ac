"""Training many small networks at once against everything a user would run today.

The job: N models of one architecture, each with its own shuffle of the data, a few steps of a fixed batch size. Rates
are floating-point operations of the convolutions and matrix products (forward, weight gradients, input gradients but
for the first layer), and the roof is the same number of multiply-adds spent in registers.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial

import pytest
import torch
import torch.nn.functional as F
from conftest import Contender, roof
from torch import Tensor
from torch.func import functional_call, grad, vmap
from train_rivals import ArdModel, grouped_scores, module_loop

from zoosparse_ext import ops
from zoosparse_ext.population import networks
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.devices import full_float32

LR = 1e-3
MEAN, STD = 0.1307, 0.3081


class Job:
    """Weights [N, P], images, labels and orders of one race, the same in every process."""

    def __init__(
        self, network: str, activation: str, n: int, batch: int, steps: int, device: str = "cpu"
    ) -> None:
        self.network, self.activation, self.n, self.batch, self.steps = network, activation, n, batch, steps
        channels, size = (3, 32) if network == "cnn-l" else (1, 28)
        self.architecture: Architecture = networks.architecture(network, channels, activation)
        generator = torch.Generator().manual_seed(0)
        rows = []
        for segment in self.architecture.segments:
            fan = segment.shape[0] if len(segment.shape) == 1 else segment.size // segment.shape[0]
            rows.append(torch.randn(n, segment.size, generator=generator) * (0.5 / fan**0.5))
        self.weights = torch.cat(rows, 1)
        self.images = torch.randint(
            0, 256, (2000, channels, size, size), generator=generator, dtype=torch.uint8
        )
        self.labels = torch.randint(0, 10, (2000,), generator=generator)
        self.order = torch.randint(0, 2000, (n, batch * steps), generator=generator).to(torch.int32)
        for name in ("weights", "images", "labels", "order"):
            setattr(self, name, getattr(self, name).to(device))

    def batch_of(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Images as the network sees them, and labels, of sample indices of any shape."""
        images = (self.images[index] / 255.0 - MEAN) / STD
        return images, self.labels[index]

    @property
    def flops(self) -> int:
        program = self.architecture.program
        assert program is not None and self.architecture.input_shape is not None
        shapes, total = program.shapes(self.architecture.input_shape), 0
        for op, after in zip(program.operations, shapes[1:], strict=True):
            if op in program.layers:
                outputs = after[0] * after[1] * after[2]
                passes = 3 if total else 2  # no input gradient of the first layer
                total += passes * 2 * outputs * torch.Size(op.weight_shape[1:]).numel()
        return total * self.n * self.batch * self.steps

    def ours(self, weights: Tensor, optimizer: str = "adam", **extra: object) -> Tensor:
        program = self.architecture.program
        assert program is not None
        table, values = program.encode(tuple(self.images.shape[1:]), self.architecture.offsets)
        row = [LR, 0.0, 0.9, 0.0 if optimizer == "sgd" else 0.999, 1e-8, 0.0]
        channels = self.images.shape[1]
        n = weights.shape[0]
        ops.train.train_steps_(
            weights,
            program=table,
            values=values,
            images=self.images,
            mean=torch.full((channels,), MEAN),
            std=torch.full((channels,), STD),
            labels=self.labels,
            order=self.order[:n],
            batch_size=self.batch,
            optimizer=optimizer,
            hyper=torch.tensor(row, dtype=torch.float64).expand(n, 6).contiguous(),
            lr_factor=torch.ones(self.steps, dtype=torch.float64),
            seeds=torch.arange(n),
            moment1=torch.zeros_like(weights),
            moment2=None if optimizer == "sgd" else torch.zeros_like(weights),
            **extra,
        )
        return weights

    def ours_variational(self, weights: Tensor) -> Tensor:
        length = len(self.architecture.program.operations)
        return self.ours(
            weights,
            log_sigma2=torch.full_like(weights, -10.0),
            sigma_moment1=torch.zeros_like(weights),
            sigma_moment2=torch.zeros_like(weights),
            clamp=torch.full((length,), 8.0, dtype=torch.float64),
            kl_weight=1e-4,
        )

    def stacked(
        self,
        weights: Tensor,
        scores: Callable[[dict[str, Tensor], Tensor], Tensor] | None = None,
        gradient: Callable[..., dict[str, Tensor]] | None = None,
    ) -> Tensor:
        """One set of stacked parameters [N, ...]; gradients from `scores` of all models at once, or `gradient`."""
        parameters = {k: v.clone().requires_grad_() for k, v in self.architecture.unflatten(weights).items()}
        optimizer = torch.optim.Adam(parameters.values(), lr=LR, fused=True)
        for index in self.order.long().split(self.batch, 1):
            images, labels = self.batch_of(index)
            if gradient is not None:
                gradients = gradient(parameters, images, labels)
                for name, parameter in parameters.items():
                    parameter.grad = gradients[name]
            else:
                assert scores is not None
                optimizer.zero_grad()
                logits = scores(parameters, images)
                losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum") / self.batch
                losses.backward()
            optimizer.step()
        return torch.cat([p.detach().flatten(1) for p in parameters.values()], 1)

    def gradient_of_models(self) -> Callable[..., dict[str, Tensor]]:
        module = self.architecture.module()

        def loss(parameters: dict[str, Tensor], images: Tensor, labels: Tensor) -> Tensor:
            return F.cross_entropy(functional_call(module, parameters, images), labels)

        return vmap(grad(loss))

    def loop(self, weights: Tensor, first: int = 0, variational: bool = False) -> Tensor:
        make = partial(ArdModel, self.architecture) if variational else self.architecture.module
        return module_loop(self, weights, first, make, LR)


@cache
def job(*arguments: object) -> Job:
    return Job(*arguments)  # type: ignore[arg-type]


@cache
def processes() -> ProcessPoolExecutor:
    """One single-threaded process per core."""
    count = torch.get_num_threads()
    pool = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
    atexit.register(pool.shutdown)
    return pool


def _loop_in_process(arguments: tuple[object, ...], weights: Tensor, first: int, variational: bool) -> Tensor:
    return job(*arguments).loop(weights, first, variational)


def loop_over_processes(arguments: tuple[object, ...], weights: Tensor, variational: bool = False) -> Tensor:
    shares = weights.tensor_split(torch.get_num_threads())
    firsts = [sum(len(share) for share in shares[:i]) for i in range(len(shares))]
    pool = processes()
    work = [
        pool.submit(_loop_in_process, arguments, share.clone(), first, variational)
        for share, first in zip(shares, firsts, strict=True)
    ]
    return torch.cat([future.result() for future in work])


def close(a: Tensor, b: Tensor) -> bool:
    """Adam divides by the square root of tiny numbers: single entries may differ by a step."""
    return float((a - b).abs().mean()) < 1e-5


CASES = {
    "CNN-s tanh, Adam, batch 10": ("cnn-s", "tanh", 64, 10, 10),
    "CNN-s tanh, Adam, batch 64": ("cnn-s", "tanh", 32, 64, 4),
    "CNN-l gelu, Adam, batch 10": ("cnn-l", "gelu", 32, 10, 3),
}
# Times, on a GPU; vmap of more models of CNN-l takes more than 80 GB.
MORE_MODELS = {"cnn-s": 32, "cnn-l": 16}
# By torch.compile, which for a GPU takes a minute each.
COMPILED = {"cpu": list(CASES), "cuda": list(CASES)[:1]}


@pytest.fixture(autouse=True)
def engine(device: str) -> None:
    if not ops.train.available(device):
        pytest.skip(ops.train.why_unavailable(device))


def sized(arguments: tuple[str, str, int, int, int], device: str) -> tuple[object, ...]:
    """The arguments of a job on a device."""
    network, activation, n, batch, steps = arguments
    return network, activation, n if device == "cpu" else n * MORE_MODELS[network], batch, steps, device


@pytest.mark.parametrize("case", CASES)
def test_train(race: Callable[..., None], device: str, case: str) -> None:
    arguments = sized(CASES[case], device)
    work = job(*arguments)
    limit, arithmetic = roof(device, work.flops)

    def fresh() -> tuple[Tensor]:
        return (work.weights.clone(),)

    scores = partial(grouped_scores, work.architecture)
    vmapped = work.gradient_of_models()
    contenders = {
        "train_steps_": Contender(work.ours, fresh),
        limit: arithmetic,
        "torch.func.vmap": Contender(partial(work.stacked, gradient=vmapped), fresh),
        "grouped convolution": Contender(partial(work.stacked, scores=scores), fresh),
    }
    if device == "cpu":
        in_processes = partial(loop_over_processes, arguments)
        contenders["module loop, a process a core"] = Contender(in_processes, fresh)
        contenders["module loop, torch threads"] = Contender(work.loop, fresh)
    if case in COMPILED[device] and shutil.which(os.environ.get("CXX", "g++")):  # which torch.compile calls
        compiled = torch.compile(vmapped)
        contenders["torch.compile of vmap"] = Contender(partial(work.stacked, gradient=compiled), fresh)
    with full_float32():
        race(contenders, flops=work.flops, roof=limit, same=close, rounds=9)


def test_masks(race: Callable[..., None], device: str) -> None:
    """SGD with masks at 80 % is as fast as without."""
    work = job(*sized(("cnn-s", "tanh", 64, 10, 10), device))
    kept = torch.rand(work.weights.shape, generator=torch.Generator().manual_seed(1)) > 0.8
    masks = ops.pack_mask(kept.to(device))
    race(
        {
            "with masks at 80 %": Contender(
                lambda w: work.ours(w, "sgd", packed_masks=masks), lambda: (work.weights.clone(),)
            ),
            "without masks": Contender(
                lambda w: work.ours(w, "sgd"), lambda: (work.weights.clone(),), validate=False
            ),
        },
        flops=work.flops,
        rounds=25,
    )


def test_variational_dropout(race: Callable[..., None], device: str) -> None:
    """The rivals draw their own noise, so they are compared with nothing; the rate counts the plain passes twice."""
    arguments = sized(("cnn-s", "tanh", 32, 10, 5), device)
    work = job(*arguments)
    limit, arithmetic = roof(device, 2 * work.flops)

    def fresh() -> tuple[Tensor]:
        return (work.weights.clone(),)

    contenders = {"train_steps_": Contender(work.ours_variational, fresh), limit: arithmetic}
    if device == "cpu":
        contenders["loop of ARD modules, a process a core"] = Contender(
            lambda w: loop_over_processes(arguments, w, True), fresh, validate=False
        )
        contenders["loop of ARD modules, torch threads"] = Contender(
            lambda w: work.loop(w, variational=True), fresh, validate=False
        )
    race(contenders, flops=2 * work.flops, roof=limit, rounds=9)


def test_growth(race: Callable[..., None], device: str) -> None:
    """Time is linear in the number of models: as many calls of few models as it takes to train as many as in one call.

    Models come in groups of one per lane, and a core works on a group; where groups are fewer than cores, two cores
    share its batches of ten.
    """
    if device != "cpu":
        pytest.skip("few models leave most of a GPU idle")
    total = 4096
    jobs = [job("cnn-s", "tanh", n, 10, 16) for n in (total, 1024, 256, 64, 32, 16)]

    def repeated(work: Job) -> None:
        for _ in range(total // work.n):
            work.ours(work.weights.clone())

    race(
        {
            f"{total // work.n} × {work.n} models": Contender(partial(repeated, work), validate=False)
            for work in jobs
        },
        flops=jobs[0].flops,
        rounds=5,
    )
