"""The executor for modules that are no chains: `torch.func`, slower, same results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.architecture import LAYERS, Architecture
from zoosparse_ext.population.forward import StepNoise, Variational

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
    variational: Variational | None = None,
) -> Tensor:
    """Class scores [N, B, classes] of any module: `vmap` over the models, or a loop where vmap cannot be used.

    The loop serves modules with buffers (batch norm), with random layers and with variational noise in training, whose
    generator is seeded by model and step, so that results depend neither on the chunk nor on the place of a model; and
    whatever vmap refuses: random functions, branches on values.

    Raises:
        InputError: the module returns something else than scores [B, classes]; training batch norm with
            ``momentum=None``: its count of batches is no column; variational noise for a layer that the module does
            not call.
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

    if noise is None or not (_needs_loop(module) or variational is not None):
        try:
            in_dims = (0, 0 if images.dim() == 5 else None)
            return torch.vmap(call, in_dims)(architecture.unflatten(weights), images)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _NO_VMAP):
                raise
            _tell(architecture.name, str(error))
    noisy = partial(_noisy, module, architecture, variational)
    return _one_by_one(architecture, call, weights, images, noise, noisy)


def _one_by_one(
    architecture: Architecture,
    call: Call,
    weights: Tensor,
    images: Tensor,
    noise: StepNoise | None,
    noisy: Callable[[int], contextlib.AbstractContextManager[None]],
) -> Tensor:
    logits = []
    for row in range(weights.shape[0]):
        tensors = architecture.unflatten(weights[row])
        buffers = {s.name: tensors[s.name].detach().clone() for s in architecture.segments if not s.trainable}
        with _seeded(noise, row), noisy(row):
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


@contextlib.contextmanager
def _noisy(
    module: nn.Module, architecture: Architecture, variational: Variational | None, row: int
) -> Iterator[None]:
    """While it lasts, every convolution and linear layer of the module adds the variational noise of a row."""
    if variational is None:
        yield
        return
    sigma2 = architecture.unflatten(variational.log_sigma2[row])
    silent = {name for name, child in module.named_modules() if isinstance(child, LAYERS)}

    def add_noise(name: str, layer: nn.Module, inputs: tuple[Tensor], mean: Tensor) -> Tensor:
        silent.discard(name)
        variance = _variance(layer, inputs[0], sigma2, f"{name}." if name else "", variational)
        return mean + (variance + vardrop.EPSILON).sqrt() * torch.randn_like(mean)

    layers = [(name, module.get_submodule(name)) for name in silent]
    hooks = [layer.register_forward_hook(partial(add_noise, name)) for name, layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if silent:
        raise InputError(
            f"{architecture.name!r} uses the weights of {min(silent)!r} without calling that layer, so variational "
            "dropout cannot put noise on it; call the layer, or prune by magnitude"
        )


def _variance(
    layer: nn.Module, inputs: Tensor, sigma2: dict[str, Tensor], prefix: str, variational: Variational
) -> Tensor:
    """Variance of what a layer computes: Σ exp(log α)·w²·x²."""
    assert isinstance(layer, LAYERS)
    clamp = variational.clamp(layer.weight.shape)
    alpha = vardrop.log_alpha(layer.weight, sigma2[f"{prefix}weight"], clamp)
    weight = alpha.exp() * layer.weight.square()
    if isinstance(layer, nn.Linear):
        return F.linear(inputs.square(), weight)
    bias = None
    if layer.bias is not None and variational.conv_biases:
        bias = vardrop.log_alpha(layer.bias, sigma2[f"{prefix}bias"], clamp).exp() * layer.bias.square()
    return layer._conv_forward(inputs.square(), weight, bias)
