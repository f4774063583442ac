"""From the module that a user has to the plain one that a population can hold: unwrapped, folded, in float32."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
import torch.fx
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune, remove_spectral_norm, remove_weight_norm
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.trace import in_mode

_WRAPPERS = {  # class → where it keeps the module that it wraps
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "OptimizedModule": "_orig_mod",  # torch.compile
}
_LAYERS = tuple(
    f"torch.nn.modules.{name}"
    for name in (
        "activation",
        "batchnorm",
        "conv",
        "instancenorm",
        "linear",
        "normalization",
        "rnn",
        "sparse",
    )
)
_ORDER = (  # of the parameters in a layer of PyTorch; those of nn.MultiheadAttention, and of all others
    "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight", "in_proj_bias", "bias_k", "bias_v",
    "weight", "bias",
)  # fmt: skip
_QUANTIZED = ("torch.ao.quantization", "torch.ao.nn.quantized", "torch.ao.nn.qat", "torch.ao.nn.intrinsic")


@dataclass(frozen=True)
class Plain:
    """A module as a population holds it.

    Args:
        module: the user's own where nothing had to be changed, else a changed copy.
        masks: what pruning removed, by the name of the tensor: bool of its shape, True = kept.
        changes: what was changed, for people.
    """

    module: nn.Module
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    changes: tuple[str, ...] = ()


def plain_module(module: nn.Module) -> Plain:
    """Unwrap a module, fold its masks and parametrizations, and bring it to float32.

    >>> from torch.nn.utils import prune
    >>> plain = plain_module(prune.l1_unstructured(nn.Linear(4, 2), "weight", amount=3))
    >>> dict(plain.module.named_parameters()).keys(), int((~plain.masks["weight"]).sum())
    (dict_keys(['weight', 'bias']), 3)

    Raises:
        InputError: a scripted or lazy module, parameters that are complex, quantized, sparse or without data, or that
            share memory; a gradient hook on a parameter. It names the parameter and the way out.
    """
    module, changes = unwrapped(module), []
    _check_layers(module)
    _check_tensors(module)
    masks: dict[str, Tensor] = {}
    if _is_folded(module):
        module = copy_module(module).eval()
        changes += _fold_(module, masks)
    if told := conversions(tensor for _, tensor in _tensors(module)):
        module = copy_module(module).float()
        changes += told
    return Plain(module, masks, tuple(changes))


def tell(changes: Iterator[str] | tuple[str, ...]) -> None:
    """Warn of every kind of change once."""
    for change in dict.fromkeys(changes):
        warnings.warn(change, UserWarning, stacklevel=4)


def conversions(tensors: Iterable[Tensor]) -> list[str]:
    """What is said of weights in other types than float32."""
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
    return [f"weights in {names} were converted to float32"] if dtypes - {torch.float32} else []


def unwrapped(module: nn.Module) -> nn.Module:
    """The module in wrappers such as `DataParallel` and `torch.compile`."""
    while (place := _WRAPPERS.get(type(module).__name__)) is not None and isinstance(
        getattr(module, place, None), nn.Module
    ):
        module = getattr(module, place)
    return module


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


def _check_layers(module: nn.Module) -> None:
    try:
        if isinstance(module, torch.fx.GraphModule):
            with in_mode(module, False):
                pass
    except NotImplementedError as error:  # of torch.export
        raise InputError(
            f"{type(module).__name__} cannot be put into evaluation mode ({error}); a population needs the module that "
            "it was made from"
        ) from error
    for name, layer in module.named_modules():
        shown = f"{name!r} of {type(module).__name__}" if name else type(layer).__name__
        if isinstance(layer, torch.jit.ScriptModule) and (
            layer is module or any(True for _ in layer.parameters())
        ):
            raise InputError(f"{shown} is scripted; a population needs the module that it was made from")
        if type(layer).__module__.startswith(_QUANTIZED):
            raise InputError(
                f"{shown} is quantized, or made ready for it: a {type(layer).__name__} of {type(layer).__module__}; "
                "a population needs the module before that"
            )


def _check_tensors(module: nn.Module) -> None:
    def refuse(name: str, what: str, way_out: str) -> None:
        raise InputError(f"{name!r} of {type(module).__name__} {what}; {way_out}")

    for name, tensor in _tensors(module):
        if torch.nn.parameter.is_lazy(tensor):
            refuse(name, "is not initialized yet", "run the lazy module once before")
        if tensor.is_complex():
            refuse(
                name,
                f"is {tensor.dtype}",
                "populations hold real numbers: keep real and imaginary part apart",
            )
        if tensor.is_meta:
            refuse(
                name, "is on the meta device, without data", "give it values with module.to_empty(device=…)"
            )
        if tensor.is_quantized or tensor.layout != torch.strided:
            kind = "quantized" if tensor.is_quantized else f"of layout {tensor.layout}"
            refuse(
                name, f"is {kind}", "populations hold dense numbers: give the module before it was converted"
            )
        # 0 strides and overlaps: a step of the optimizer would change several columns at once.
        if 0 in [step for step, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]:
            refuse(
                name, "repeats one number by a stride of 0", "give it memory of its own: parameter.clone()"
            )
    places: dict[
        int, list[tuple[int, int, str]]
    ] = {}  # storage → first and last element of each parameter there
    for name, parameter in module.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            refuse(name, "has a gradient hook, which a population cannot run", "remove it, or use masks=…")
        if not parameter.is_floating_point():
            refuse(name, f"is {parameter.dtype}", "make it a buffer, or a floating-point parameter")
        first = int(parameter.storage_offset())
        end = first + parameter.numel()
        neighbors = places.setdefault(parameter.untyped_storage().data_ptr(), [])
        for start, stop, other in neighbors:
            if first < stop and start < end:
                refuse(
                    name, f"shares memory with {other!r}", "populations cannot tie columns: clone one of them"
                )
        neighbors.append((first, end, name))


def _pruning_of(layer: nn.Module) -> list[str]:
    """Names of the tensors of a layer that `torch.nn.utils.prune` masks."""
    hooks = layer._forward_pre_hooks.values()
    return [hook._tensor_name for hook in hooks if isinstance(hook, prune.BasePruningMethod)]


def _is_folded(module: nn.Module) -> bool:
    return any(_is_folded_itself(layer) for layer in module.modules())


def _is_folded_itself(layer: nn.Module) -> bool:
    kinds = (prune.BasePruningMethod, WeightNorm, SpectralNorm)
    hooks = layer._forward_pre_hooks.values()
    return parametrize.is_parametrized(layer) or any(isinstance(hook, kinds) for hook in hooks)


def copy_module(module: nn.Module) -> nn.Module:
    """A deep copy, also of tensors that are results of others and that PyTorch does not copy.

    Raises:
        InputError: something cannot be copied; names the attribute.
    """
    memo: dict[int, Tensor] = {}
    for layer in module.modules():
        for value in vars(layer).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, memo)
    except Exception as error:  # whatever an attribute of the user's raises
        names = (
            f"{key!r} of {type(layer).__name__}" for layer, key in _attributes(module) if _fails(layer, key)
        )
        raise InputError(
            f"{next(names, type(module).__name__)} cannot be copied ({error}), and a population keeps a copy of its "
            "module: take the attribute off, or make it when it is needed"
        ) from error


def _attributes(module: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    return ((layer, key) for layer in module.modules() for key in vars(layer) if not key.startswith("_"))


def _fails(layer: nn.Module, key: str) -> bool:
    try:
        copy.deepcopy(vars(layer)[key])
    except Exception:  # which copy_module tells
        return not isinstance(vars(layer)[key], Tensor)
    return False


def _fold_(module: nn.Module, masks: dict[str, Tensor]) -> list[str]:
    """Make plain parameters of everything that is computed from others; what was changed, for people."""
    changes = []

    def said(what: str, name: str) -> str:
        return f"{what} of {name!r} was folded into the weight: training goes on without it"

    for prefix, layer in list(module.named_modules()):
        if not _is_folded_itself(layer):
            continue
        dot = f"{prefix}." if prefix else ""
        for name in _pruning_of(layer):
            masks[dot + name] = getattr(layer, f"{name}_mask") != 0
            prune.remove(layer, name)
        for hook in list(layer._forward_pre_hooks.values()):
            if isinstance(hook, WeightNorm):
                remove_weight_norm(layer, hook.name)
                changes.append(said("weight norm", dot + hook.name))
            elif isinstance(hook, SpectralNorm):
                remove_spectral_norm(layer, hook.name)
                changes.append(said("spectral norm", dot + hook.name))
        if parametrize.is_parametrized(layer):
            changes += [said(what, dot + name) for what, name in _fold_parametrizations_(layer, dot, masks)]
        _restore_order_(layer)
        if isinstance(layer, nn.RNNBase):
            layer._init_flat_weights()  # which hold the tensors once more
    return changes


def _restore_order_(layer: nn.Module) -> None:
    """Put the parameters of a layer of PyTorch into the order in which its class makes them.

    Pruning and parametrizations move what they are put on to the end. Columns then would be in another order than those
    of the same network from a state dict, which is loaded into a fresh module. What a class of the user's own makes
    stays behind: its order is not known.
    """
    if not any(kind.__module__.startswith(_LAYERS) for kind in type(layer).__mro__):
        return
    first = layer._flat_weights_names if isinstance(layer, nn.RNNBase) else _ORDER
    names = [name for name in first if name in layer._parameters]
    names += [name for name in layer._parameters if name not in first]
    parameters = dict(layer._parameters)
    layer._parameters.clear()
    layer._parameters.update({name: parameters[name] for name in names})


def _fold_parametrizations_(layer: nn.Module, dot: str, masks: dict[str, Tensor]) -> list[tuple[str, str]]:
    """Make plain parameters of a layer's parametrized tensors; (what was folded, name) but for masks.

    `remove_parametrizations` would take the property off the class, which the copied layer shares with the original.
    """
    assert isinstance(layer.parametrizations, nn.ModuleDict)
    folded, tensors = [], {}
    for name, chain in layer.parametrizations.items():
        parts = list(chain.children())
        tensors[name] = getattr(layer, name).detach().clone()
        sparse = [part for part in parts if type(part).__name__ == "FakeSparsity"]  # torch.ao.pruning
        if sparse:
            masks[dot + name] = (
                torch.stack([part.get_buffer("mask") != 0 for part in sparse]).all(0).expand_as(tensors[name])
            )
        if len(sparse) < len(parts):
            others = ", ".join(type(part).__name__ for part in parts if part not in sparse)
            folded.append((f"parametrization {others}", name))
    trained = {
        name: any(parameter.requires_grad for parameter in chain.parameters())
        for name, chain in layer.parametrizations.items()
    }
    layer.__class__ = parametrize.type_before_parametrizations(layer)
    del layer.parametrizations
    for name, tensor in tensors.items():
        layer.register_parameter(name, nn.Parameter(tensor, trained[name]))
    return folded
