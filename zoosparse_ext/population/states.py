"""From the state dict of one model to the plain tensors of a row: unwrapped, masks and parametrizations folded."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.plain import conversions, copy_module, plain_module, unwrapped

_WRAPPED_NAMES = ("module.", "_orig_mod.")  # what wrappers put before the names of a state dict

# What stands in a state dict for a tensor that is computed from others: prefix of the layer, name, the part's own name.
_PARAMETRIZED = re.compile(r"(|.*\.)parametrizations\.([^.]+)\.(.+)")
_NORMED = re.compile(r"(|.*\.)([^.]+)_([guv]|orig)")  # weight_norm: g, v; spectral_norm: orig, u, v


def plain_state(
    state: Mapping[str, Tensor],
    changes: list[str] | None = None,
    module: nn.Module | None = None,
    columns: Collection[str] = (),
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Tensors of a state dict without the names of wrappers, with masks and parametrizations folded; and the masks.

    What has to be told is added to `changes`. `columns` are the names that are needed. A `module` that is
    parametrized as the one that was saved computes its tensors; without it only those of weight norm can be known.

    >>> state = {"module.weight_orig": torch.ones(2), "module.weight_mask": torch.tensor([0.0, 1.0])}
    >>> plain_state(state)
    ({'weight': tensor([0., 1.])}, {'weight': tensor([False,  True])})
    >>> state = {"weight_g": torch.tensor([[10.0]]), "weight_v": torch.tensor([[3.0, 4.0]])}
    >>> plain_state(state)[0]
    {'weight': tensor([[6., 8.]])}

    Raises:
        InputError: something that is no tensor of real numbers with data; a parametrization that the dict alone does
            not tell.
    """
    for name, value in state.items():
        if not name.endswith("_extra_state"):
            _check_value(name, value)
    tensors = {name: tensor for name, tensor in state.items() if isinstance(tensor, Tensor)}
    told = [] if changes is None else changes
    told += conversions(tensors.values())
    for prefix in _WRAPPED_NAMES:
        if tensors and all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    masks = {}
    for name in [name.removesuffix("_orig") for name in tensors if name.endswith("_orig")]:
        if f"{name}_mask" in tensors:
            masks[name] = tensors.pop(f"{name}_mask") != 0
            tensors[name] = torch.where(masks[name], tensors.pop(f"{name}_orig"), 0.0)
    computed = _computed(tensors, columns)
    if computed and module is not None and _is_parametrized(unwrapped(module), computed, columns):
        _fold_as_module_(tensors, masks, computed, module, told)
    else:
        for name, parts in computed.items():
            _fold_alone_(tensors, name, parts, told)
    return tensors, masks


def _check_value(name: str, value: object) -> None:
    if not isinstance(value, Tensor):
        inside = f"; pass item[{name!r}]" if isinstance(value, Mapping) else ", expected a tensor"
        raise InputError(f"{name!r} of a state dict is a {type(value).__name__}{inside}")
    if value.is_complex() or value.is_meta or value.is_quantized or value.layout != torch.strided:
        kind = "without data, on the meta device" if value.is_meta else f"{value.dtype}, {value.layout}"
        raise InputError(f"{name!r} of a state dict is {kind}; populations hold dense real numbers")


def _computed(tensors: Mapping[str, Tensor], columns: Collection[str]) -> dict[str, dict[str, str]]:
    """Names of tensors that are computed from others, with the names of those by what they are: g, v, original0 …"""
    computed: dict[str, dict[str, str]] = {}
    for key in tensors:
        if key not in columns and (found := _PARAMETRIZED.fullmatch(key) or _NORMED.fullmatch(key)):
            prefix, name, part = found.groups()
            computed.setdefault(prefix + name, {})[part] = key
    wanted = columns or computed
    return {name: parts for name, parts in computed.items() if name in wanted and name not in tensors}


def _is_parametrized(
    module: nn.Module, computed: Mapping[str, Mapping[str, str]], columns: Collection[str]
) -> bool:
    """Whether a module computes the same tensors, from tensors of the same names among others."""
    its = _computed(_values(module), columns)
    return all(parts.items() <= its.get(name, {}).items() for name, parts in computed.items())


def _values(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _fold_as_module_(
    tensors: dict[str, Tensor],
    masks: dict[str, Tensor],
    computed: Mapping[str, Mapping[str, str]],
    module: nn.Module,
    changes: list[str],
) -> None:
    """Let a module that is parametrized in the same way compute what is computed."""
    loaded = copy_module(unwrapped(module)).eval()
    taken = {key: tensors.pop(key) for parts in computed.values() for key in parts.values()}
    for key in _values(loaded):
        found = _PARAMETRIZED.fullmatch(key)
        if found and key not in taken and (name := found[1] + found[2]) in computed:
            raise InputError(
                f"{name!r} is computed with {key!r}, which the state dict lacks; pass the modules themselves"
            )
    loaded.load_state_dict(taken, strict=False)
    plain = plain_module(loaded)
    values = _values(plain.module)
    for name in computed:
        tensors[name] = values[name].detach()
        if name in plain.masks:
            masks[name] = plain.masks[name]
    changes += plain.changes


def _fold_alone_(tensors: dict[str, Tensor], name: str, parts: Mapping[str, str], changes: list[str]) -> None:
    """Fold weight norm, which its tensors alone tell."""
    kinds = [("g", "v"), ("original0", "original1")]
    if tuple(sorted(parts)) in kinds:
        magnitude, direction = (tensors[parts[part]] for part in sorted(parts))
        if (axis := _axis_of_norm(magnitude, direction)) is not None:
            for key in parts.values():
                del tensors[key]
            tensors[name] = torch._weight_norm(direction.float(), magnitude.float(), axis)
            doubt = "" if "g" in parts else "; pass module= if it is another parametrization"
            changes.append(
                f"weight norm of {name!r} was folded into the weight: training goes on without it{doubt}"
            )
            return
    raise InputError(
        f"{name!r} is computed from {', '.join(map(repr, parts.values()))} by a parametrization that a state dict does "
        "not tell; pass module=, parametrized as the one that was saved, or the modules themselves"
    )


def _axis_of_norm(magnitude: Tensor, direction: Tensor) -> int | None:
    """The axis along which each slice of `direction` has a norm of its own; -1 for one norm of all."""
    if magnitude.dim() == 0:
        return -1
    for axis, size in enumerate(direction.shape):
        expected = [1] * direction.dim()
        expected[axis] = size
        if list(magnitude.shape) == expected:
            return axis
    return None
