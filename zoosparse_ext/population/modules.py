"""The executor for modules that are no chains: `torch.func`, slower, same results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import StepNoise


def forward_modules(
    architecture: Architecture,
    weights: Tensor,  # [N, P]; buffers among the columns are updated in place when training
    images: Tensor,  # [B, C, H, W] for all models, or [N, B, C, H, W]
    *,
    noise: StepNoise | None = None,
) -> Tensor:
    """Class scores [N, B, classes] of any module: `vmap` over the models, or a loop where vmap cannot be used.

    The loop serves modules with buffers (batch norm) and with random layers, whose generator is seeded by model and
    step, so that results depend neither on the chunk nor on the place of a model.

    Raises:
        InputError: training batch norm with ``momentum=None``: its count of batches is no column.
    """
    module = architecture.module().to(weights.device)
    module.train(noise is not None)
    per_model = images.dim() == 5
    if noise is None or not _needs_loop(module):
        tensors = architecture.unflatten(weights)
        call = torch.vmap(
            lambda t, x: functional_call(module, t, (x,)), in_dims=(0, 0 if per_model else None)
        )
        return call(tensors, images)
    logits = []
    for row in range(weights.shape[0]):
        model_weights = weights[row]
        tensors = architecture.unflatten(model_weights)
        buffers = {s.name: tensors[s.name].detach().clone() for s in architecture.segments if not s.trainable}
        with _seeded(noise, row):
            logits.append(
                functional_call(module, {**tensors, **buffers}, (images[row] if per_model else images,))
            )
        with torch.no_grad():
            for segment in architecture.segments:
                if not segment.trainable:
                    weights.data[row, segment.slice] = buffers[segment.name].reshape(-1)
    return torch.stack(logits)


def _needs_loop(module: nn.Module) -> bool:
    for name, child in module.named_modules():
        if getattr(child, "momentum", 0.1) is None and getattr(child, "track_running_stats", False):
            raise InputError(
                f"{name!r} averages over all batches (momentum=None), which a population cannot count; "
                "give it a momentum to train it"
            )
    random_layers = any("dropout" in type(child).__name__.lower() for child in module.modules())
    return random_layers or next(module.buffers(), None) is not None


@contextlib.contextmanager
def _seeded(noise: StepNoise, row: int) -> Iterator[None]:
    key = (int(noise.seeds[row]) * 1_000_003 + noise.seed) * 1_000_003 + noise.step
    with torch.random.fork_rng():
        torch.manual_seed(key % 2**63)
        yield
