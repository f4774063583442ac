"""The executor for modules that are no chains: `torch.func`, slower, same results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import StepNoise

log = logging.getLogger(__name__)

# In what PyTorch raises, as a RuntimeError, where vmap cannot run a module that may well run alone.
_NO_VMAP = ("vmap", "atching rule")

Call = Callable[[Mapping[str, Tensor], Tensor], Tensor]


def forward_modules(
    architecture: Architecture,
    weights: Tensor,  # [N, P]; buffers among the columns are updated in place when training
    images: Tensor,  # [B, C, H, W] for all models, or [N, B, C, H, W]
    *,
    noise: StepNoise | None = None,
) -> Tensor:
    """Class scores [N, B, classes] of any module: `vmap` over the models, or a loop where vmap cannot be used.

    The loop serves modules with buffers (batch norm) and with random layers in training, whose generator is seeded by
    model and step, so that results depend neither on the chunk nor on the place of a model; and whatever vmap refuses:
    random functions, branches on values.

    Raises:
        InputError: the module returns something else than scores [B, classes]; training batch norm with
            ``momentum=None``: its count of batches is no column.
    """
    module = architecture.module().to(weights.device)
    module.train(noise is not None)

    def call(tensors: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        scores = functional_call(module, dict(tensors), (batch,))
        if isinstance(scores, Tensor) and scores.dim() == 2 and scores.shape[0] == batch.shape[0]:
            return scores
        came = list(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise InputError(
            f"{architecture.name!r} returns {came} for images {list(batch.shape)}; "
            f"a population needs scores [{batch.shape[0]}, classes]"
        )

    if noise is None or not _needs_loop(module):
        try:
            in_dims = (0, 0 if images.dim() == 5 else None)
            return torch.vmap(call, in_dims)(architecture.unflatten(weights), images)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _NO_VMAP):
                raise
            _tell(architecture.name, str(error))
    return _one_by_one(architecture, call, weights, images, noise)


def _one_by_one(
    architecture: Architecture, call: Call, weights: Tensor, images: Tensor, noise: StepNoise | None
) -> Tensor:
    logits = []
    for row in range(weights.shape[0]):
        tensors = architecture.unflatten(weights[row])
        buffers = {s.name: tensors[s.name].detach().clone() for s in architecture.segments if not s.trainable}
        with _seeded(noise, row):
            logits.append(call({**tensors, **buffers}, images[row] if images.dim() == 5 else images))
        if noise is None:
            continue
        with torch.no_grad():
            for segment in architecture.segments:
                if not segment.trainable:
                    weights.data[row, segment.slice] = buffers[segment.name].reshape(-1)
    return torch.stack(logits)


@lru_cache(maxsize=64)  # once a process, not once a batch
def _tell(name: str, reason: str) -> None:
    log.info("running %s model by model: %s", name, reason)


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
def _seeded(noise: StepNoise | None, row: int) -> Iterator[None]:
    key = 0  # what is random even in evaluation mode, is so in the same way each time
    if noise is not None:
        key = (int(noise.seeds[row]) * 1_000_003 + noise.seed) * 1_000_003 + noise.step
    with torch.random.fork_rng():
        torch.manual_seed(key % 2**63)
        yield
