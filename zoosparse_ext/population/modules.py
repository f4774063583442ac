"""The executor for modules that are no programs: `torch.func`, slower, same results."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import vardrop
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import StepNoise
from zoosparse_ext.population.graph import no_noise
from zoosparse_ext.population.learning import Variances

log = logging.getLogger(__name__)

# In what PyTorch raises, as a RuntimeError, where vmap cannot run a module that may well run alone.
_NO_VMAP = ("vmap", "atching rule")

# On which variational noise can be put: what they compute is linear in their weight.
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (*CONVOLUTIONS, nn.Linear)

Call = Callable[[Mapping[str, Tensor], Tensor], Tensor]


def forward_modules(
    architecture: Architecture,
    weights: Tensor,  # [N, P]; buffers among the columns are updated in place when training
    images: Tensor,  # [B, …] for all models, or [N, B, …]
    *,
    each: bool = False,
    counts: Tensor | None = None,
    noise: StepNoise | None = None,
    variances: Variances | None = None,
) -> Tensor:
    """Class scores [N, B, classes] of any module: `vmap` over the models, or a loop where vmap cannot be used.

    `each` says that the images are every model's own. `counts`, int64 [N, counters], go up in place when training.

    The loop serves modules with buffers (batch norm), with random layers and with variational noise in training, whose
    generator is seeded by model and step, so that results depend neither on the chunk nor on the place of a model; and
    whatever vmap refuses: random functions, branches on values.

    Raises:
        InputError: the module returns something else than scores [B, classes]; variational noise for a weight that is
            not used by calling a convolution or linear layer; a `torch.vmap` of the caller's goes over a module that
            runs model by model.
    """
    module = architecture.module().train(noise is not None)
    if any(tensor.device != weights.device for tensor in (*module.parameters(), *module.buffers())):
        module.to(weights.device)

    def call(tensors: Mapping[str, Tensor], batch: Tensor) -> Tensor:
        scores = functional_call(module, dict(tensors), (batch,))
        if (
            isinstance(scores, Tensor)
            and scores.dim() >= 2
            and scores.shape[0] == batch.shape[0]
            and scores.shape[2:].numel() == 1  # not always one axis: of global pooling, say
        ):
            return scores.flatten(1)
        came = list(scores.shape) if isinstance(scores, Tensor) else f"a {type(scores).__name__}"
        raise InputError(
            f"{architecture.name!r} returns {came} for images {list(batch.shape)}; "
            f"a population needs scores [{batch.shape[0]}, classes]"
        )

    loop = architecture.one_by_one or (noise is not None and (_needs_loop(module) or variances is not None))
    if architecture.one_by_one and (_is_batched(weights) or _is_batched(images)):
        raise _no_vmap_around(architecture, "under vmap it computes something else")
    if not loop:
        try:
            in_dims = (0, 0 if each else None)
            tensors = architecture.unflatten(weights)
            frozen = {name: tensors[name].detach() for name in architecture.frozen_names}
            return torch.vmap(call, in_dims)({**tensors, **frozen}, images)
        except RuntimeError as error:
            if not any(sign in str(error) for sign in _NO_VMAP):
                raise
            _tell(architecture.name, str(error))
    noisy, dropout = partial(_noisy, module, architecture, variances), partial(set_dropout, module)
    try:
        return _one_by_one(architecture, call, weights, images, each, counts, noise, noisy, dropout)
    except RuntimeError as error:
        if not _is_under_vmap() or not any(sign in str(error) for sign in _NO_VMAP):
            raise
        raise _no_vmap_around(architecture, str(error)) from error


def _is_under_vmap() -> bool:
    levels = torch._C._functorch.get_interpreter_stack() or []
    return any(level.key() == torch._C._functorch.TransformType.Vmap for level in levels)


def _is_batched(tensor: Tensor) -> bool:
    """Whether a `torch.vmap` that is under way goes over a tensor."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if torch._C._functorch.is_batchedtensor(tensor):
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return False


def _no_vmap_around(architecture: Architecture, reason: str) -> InputError:
    why = reason.split(". ")[0]
    return InputError(
        f"torch.vmap cannot go over {architecture.name!r}, which runs model by model ({why}); call it in a loop, "
        "torch.stack([population(images) for images in batch])"
    )


def _one_by_one(
    architecture: Architecture,
    call: Call,
    weights: Tensor,
    images: Tensor,
    each: bool,
    counts: Tensor | None,
    noise: StepNoise | None,
    noisy: Callable[[int], contextlib.AbstractContextManager[None]],
    with_dropout: Callable[[float], None],
) -> Tensor:
    logits = []
    rates = None if noise is None else noise.dropout
    for row in range(weights.shape[0]):
        if rates is not None:
            with_dropout(float(rates[row]))
        tensors = architecture.unflatten(weights[row])
        buffers = {name: tensors[name].detach().clone() for name in architecture.frozen_names}
        counters = (
            {} if counts is None else dict(zip(architecture.counters, counts[row].clone(), strict=True))
        )
        with seeded(noise, row), noisy(row):
            logits.append(call({**tensors, **buffers, **counters}, images[row] if each else images))
        if noise is None:
            continue
        with torch.no_grad():
            for segment in architecture.segments:
                if not segment.trainable:
                    weights.data[row, segment.slice] = buffers[segment.name].reshape(-1)
            for place, name in enumerate(architecture.counters):
                if counts is not None:
                    counts[row, place] = counters[name]
    return torch.stack(logits)


def set_dropout(module: nn.Module, rate: float) -> None:
    """Give all layers with dropout one rate.

    Raises:
        InputError: a rate above 0, and no layer that takes one.
    """
    found = False
    for layer in module.modules():
        if isinstance(layer, nn.modules.dropout._DropoutNd):
            layer.p, found = rate, True
        elif isinstance(layer, nn.RNNBase | nn.MultiheadAttention):
            layer.dropout, found = rate, True
    if rate and not found:
        raise InputError(
            f"the table gives a dropout rate of {rate:g}, and no layer of {type(module).__name__} takes one: use "
            "nn.Dropout instead of functions, or drop the column 'dropout'"
        )


@lru_cache(maxsize=64)  # once a process, not once a batch
def _tell(name: str, reason: str) -> None:
    log.info("running %s model by model: %s", name, reason)


def _needs_loop(module: nn.Module) -> bool:
    random_layers = any("dropout" in type(child).__name__.lower() for child in module.modules())
    return random_layers or next(module.buffers(), None) is not None


@contextlib.contextmanager
def seeded(noise: StepNoise | None, row: int) -> Iterator[None]:
    key = 0  # what is random even in evaluation mode, is so in the same way each time
    if noise is not None:
        key = (int(noise.seeds[row]) * 1_000_003 + noise.seed) * 1_000_003 + noise.step
    with torch.random.fork_rng():
        torch.manual_seed(key % 2**63)
        yield


@contextlib.contextmanager
def _noisy(
    module: nn.Module, architecture: Architecture, variances: Variances | None, row: int
) -> Iterator[None]:
    """While it lasts, every layer with a prunable weight adds the noise of a row."""
    if variances is None:
        yield
        return
    layers = _noisy_layers(module, architecture)
    silent = set(layers)

    def add_noise(name: str, layer: nn.Module, inputs: tuple[Tensor], mean: Tensor) -> Tensor:
        silent.discard(name)
        variance = _variance(layer, inputs, variances, f"{name}." if name else "", row)
        return mean + (variance + vardrop.EPSILON).sqrt() * torch.randn_like(mean)

    hooks = [layer.register_forward_hook(partial(add_noise, name)) for name, layer in layers.items()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if silent:
        raise no_noise(architecture, f"{min(silent)}.weight")


def _noisy_layers(module: nn.Module, architecture: Architecture) -> dict[str, nn.Module]:
    """The layers whose weights are prunable, by name.

    Raises:
        InputError: a prunable tensor is not the weight of a layer that computes what PyTorch's own does.
    """
    layers = {}
    for segment in architecture.prunable_segments:
        name, _, tensor = segment.name.rpartition(".")
        layer = module.get_submodule(name)
        plain = any(type(layer).forward is kind.forward for kind in LAYERS) and "forward" not in vars(layer)
        if tensor != "weight" or not plain:
            raise no_noise(architecture, segment.name)
        layers[name] = layer
    return layers


def _variance(
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    variances: Variances,
    prefix: str,
    row: int,
) -> Tensor:
    """Variance of what a layer computes: Σ Var(w)·x², which is the layer itself with other tensors."""
    assert isinstance(layer, LAYERS)
    tensors = dict(layer._parameters)  # those of a model, while `functional_call` lasts
    found = {
        name: None if tensor is None else variances.of(f"{prefix}{name}", tensor, slice(row, row + 1))
        for name, tensor in (("weight", layer.weight), ("bias", layer.bias))
    }
    try:
        layer._parameters.update(found)  # type: ignore[arg-type]
        return layer.forward(inputs[0].square(), *inputs[1:])  # type: ignore[arg-type]
    finally:
        layer._parameters.update(tensors)
