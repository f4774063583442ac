"""What two modules have beside their parameters, and where they differ in it.

The columns of a population hold parameters and floating-point buffers. Everything else (classes, hooks, other buffers,
attributes) is that of one module for all models, so a model that differs there computes something else.
"""

from __future__ import annotations

import functools
import types
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

_OWN = frozenset(vars(nn.Module()))  # what every module has: looked at one by one below
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_HOOK_NAMES = ("a forward hook", "a forward pre-hook", "a backward hook", "a backward pre-hook")
_OF_GRAPHS = frozenset(
    {"_graph", "_code", "_tracer_cls", "_tracer_extras", "meta", "_lineno_map", "_prologue_start"}
)
COUNTER = "num_batches_tracked"  # of batch norm: kept beside the matrix


@dataclass(frozen=True)
class Difference:
    """One place where a model differs from the first.

    Args:
        layer: name of the module that holds it, empty for the root.
        attribute: its name there; empty where the modules themselves differ.
        place: where within the attribute, e.g. ``"['mask']"``.
        theirs, ours: of this model and of the first, for people.
        certain: the values alone say that it matters if it is read: tensors anywhere, plain values as attributes.
    """

    layer: str
    attribute: str
    place: str
    theirs: str
    ours: str
    certain: bool

    def __str__(self) -> str:
        where = (
            f"{self.layer}.{self.attribute}"
            if self.layer and self.attribute
            else self.layer or self.attribute
        )
        return f"{where + self.place or 'it'} is {self.theirs} where model 0 has {self.ours}"


def own_behavior(module: nn.Module) -> str:
    """What a module does beside the forward of its class, such as hooks; empty if nothing.

    >>> layer = nn.Linear(2, 2)
    >>> _ = layer.register_forward_hook(lambda module, inputs, output: 2 * output)
    >>> own_behavior(nn.Sequential(layer))
    "'0' has a forward hook"
    """
    if torch.nn.modules.module._has_any_global_hook():
        return "a hook is registered for all modules"
    for name, layer in module.named_modules():
        shown = repr(name) if name else type(layer).__name__
        for hooks, what in zip(_HOOKS, _HOOK_NAMES, strict=True):
            if getattr(layer, hooks, None):
                return f"{shown} has {what}"
        patched = [key for key in vars(layer) if key not in _OWN and _is_method(type(layer), key)]
        if patched:
            return f"{shown} has a {patched[0]!r} of its own, put on the instance"
        if (
            type(layer).__call__ is not nn.Module.__call__
            or type(layer)._call_impl is not nn.Module._call_impl
        ):
            return f"the class of {shown}, {type(layer).__name__}, has a __call__ of its own"
    return ""


def differences(first: nn.Module, other: nn.Module, columns: Iterable[str]) -> list[Difference]:
    """Where two modules with the same columns differ beside them.

    Args:
        first, other: the modules.
        columns: names of the tensors that are columns, which may differ.
    """
    known = set(columns)
    layers, others = (dict(module.named_modules(remove_duplicate=False)) for module in (first, other))
    if list(layers) != list(others):
        layer = next((name for name in [*layers, *others] if (name in layers) != (name in others)), "")
        there, here = ("there" if layer in names else "missing" for names in (others, layers))
        return [Difference(layer, "", "", there, f"it {here}" if here == "missing" else "one", True)]
    found = []
    for name, mine in layers.items():
        its = others[name]
        if _kind(mine) != _kind(its):
            theirs, ours = f"{its!r:.200}", f"{mine!r:.200}"
            if theirs == ours:
                theirs, ours = f"of another class {type(its).__name__}, made anew,", f"{type(mine).__name__}"
            found.append(Difference(name, "", "", theirs, ours, True))
            continue
        found += _of_layer(name, mine, its, known)
    return found


def _kind(module: nn.Module) -> object:
    """The class of a module; of one that torch.fx made, which has a class of its own, what it computes."""
    return module.code if isinstance(module, torch.fx.GraphModule) else type(module)


def _of_layer(name: str, mine: nn.Module, its: nn.Module, columns: set[str]) -> Iterator[Difference]:
    for hooks, what in zip(_HOOKS, _HOOK_NAMES, strict=True):
        values = [list(getattr(layer, hooks).values()) for layer in (mine, its)]
        if len(values[0]) != len(values[1]):
            ours, theirs = (what if value else f"without {what}" for value in values)
            yield Difference(name, "", "", theirs, ours, True)
        elif not all(map(_Same(mine, its), *values)):
            yield Difference(
                name, hooks, "", f"{what} of its own", f"another {what.removeprefix('a ')}", False
            )
    states = [_state(layer, name, columns) for layer in (mine, its)]
    for key in dict.fromkeys([*states[0], *states[1]]):
        same = _Same(mine, its)
        if not same(states[0].get(key, _MISSING), states[1].get(key, _MISSING)):
            assert same.place is not None
            place, left, right = same.place
            yield Difference(name, key, place, _short(right), _short(left), _is_certain(place, left, right))


def attributes_read(
    module: nn.Module, wanted: Iterable[Difference], runs: Iterable[Callable[[nn.Module], object]]
) -> set[tuple[str, str]]:
    """Which of the differing attributes one of the runs of a module reads before it writes them: (layer, attribute)."""
    read: set[tuple[str, str]] = set()
    layers: dict[str, set[str]] = {}
    for difference in wanted:
        layers.setdefault(difference.layer, set()).add(difference.attribute)
    for run in runs:
        written: set[tuple[str, str]] = set()
        swapped = [(module.get_submodule(name), type(module.get_submodule(name))) for name in layers]
        for (layer, kind), (name, attributes) in zip(swapped, layers.items(), strict=True):
            layer.__class__ = _recording(kind, name, attributes, read, written)
        try:
            run(module)
        finally:
            for layer, kind in swapped:
                layer.__class__ = kind
    return read


def _recording(
    kind: type, name: str, attributes: set[str], read: set[tuple[str, str]], written: set[tuple[str, str]]
) -> Any:
    def get(self: Any, key: str) -> Any:
        if key in attributes and (name, key) not in written:
            read.add((name, key))
        return kind.__getattribute__(self, key)  # type: ignore[call-arg]

    def put(self: Any, key: str, value: Any) -> None:
        written.add((name, key))
        kind.__setattr__(self, key, value)  # type: ignore[call-arg]

    methods = {"__getattribute__": get, "__setattr__": put, "__module__": kind.__module__}
    return type(kind.__name__, (kind,), methods)


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING = _Missing()


def _state(layer: nn.Module, name: str, columns: set[str]) -> dict[str, Any]:
    """What a layer holds beside columns, hooks and child modules."""
    dot = f"{name}." if name else ""
    if isinstance(layer, torch.jit.ScriptModule):
        return {}  # what it holds is compiled in
    made = _OF_GRAPHS if isinstance(layer, torch.fx.GraphModule) else frozenset()
    state = {key: value for key, value in vars(layer).items() if key not in _OWN and key not in made}
    state |= {
        key: buffer for key, buffer in layer._buffers.items() if dot + key not in columns and key != COUNTER
    }
    return state


def _is_method(kind: type, key: str) -> bool:
    return isinstance(getattr(kind, key, None), types.FunctionType)


def _is_certain(place: str, ours: object, theirs: object) -> bool:
    if isinstance(ours, Tensor | np.ndarray) or isinstance(theirs, Tensor | np.ndarray):
        return True
    plain = (bool, int, float, complex, str, bytes, type(None), _Missing)
    return not place and isinstance(ours, plain) and isinstance(theirs, plain)


def _short(value: object) -> str:
    if isinstance(value, Tensor):
        numbers = value.tolist() if value.numel() <= 4 and not value.is_meta else "…"
        return f"a tensor {value.dtype} {list(value.shape)} {numbers}"
    return f"{value!r:.60}"


class _Same:
    """Whether two values are the same, one of each module; `place` is where they are not, with both values."""

    def __init__(self, mine: nn.Module, its: nn.Module) -> None:
        self.modules = (mine, its)
        self.parameters = {id(p) for module in self.modules for p in module._parameters.values()}
        self.seen: set[tuple[int, int]] = set()
        self.place: tuple[str, object, object] | None = None

    def __call__(self, ours: object, theirs: object, place: str = "") -> bool:
        if ours is theirs or (id(ours), id(theirs)) in self.seen:
            return True
        self.seen.add((id(ours), id(theirs)))
        same = self._compare(ours, theirs, place)
        if not same and self.place is None:
            self.place = (place, ours, theirs)
        return same

    def _compare(self, ours: Any, theirs: Any, place: str) -> bool:
        if isinstance(ours, weakref.ref) and isinstance(theirs, weakref.ref):
            return self(ours(), theirs(), place)
        if ours is self.modules[0] and theirs is self.modules[1]:
            return True
        if id(ours) in self.parameters and id(theirs) in self.parameters:
            return True  # those of the layer, kept in a second place
        if type(ours) is not type(theirs):
            return False
        if isinstance(ours, Tensor):
            return ours.shape == theirs.shape and ours.dtype == theirs.dtype and _equal_tensors(ours, theirs)
        if isinstance(ours, np.ndarray):
            return np.array_equal(ours, theirs, equal_nan=ours.dtype.kind in "fc")
        if isinstance(ours, float):
            return ours == theirs or (ours != ours and theirs != theirs)
        if isinstance(ours, list | tuple):
            return len(ours) == len(theirs) and all(
                self(a, b, f"{place}[{i}]") for i, (a, b) in enumerate(zip(ours, theirs, strict=True))
            )
        if isinstance(ours, dict):
            return list(ours) == list(theirs) and all(
                self(v, theirs[k], f"{place}[{k!r}]") for k, v in ours.items()
            )
        if isinstance(ours, functools.partial):
            mine, its = ((call.func, call.args, call.keywords) for call in (ours, theirs))
            return self(mine, its, place)
        if isinstance(ours, types.MethodType):
            return ours.__func__ is theirs.__func__ and self(ours.__self__, theirs.__self__, place)
        if isinstance(ours, types.FunctionType):
            return self._same_function(ours, theirs, place)
        if isinstance(ours, nn.Module):
            saved = ours.state_dict()
            return self(saved, theirs.state_dict(), place) and not differences(ours, theirs, saved)
        if getattr(ours, "__dict__", None) and not isinstance(ours, type):  # what == looks at may not be all
            plain = type(ours).__eq__ is object.__eq__
            return self(vars(ours), vars(theirs), place) and (plain or self._are_equal(ours, theirs))
        return self._are_equal(ours, theirs)

    @staticmethod
    def _are_equal(ours: Any, theirs: Any) -> bool:
        try:
            return bool(ours == theirs)
        except Exception:  # whatever a class of the user's raises
            return False

    def _same_function(self, ours: types.FunctionType, theirs: types.FunctionType, place: str) -> bool:
        if ours.__code__ is not theirs.__code__ or ours.__globals__ is not theirs.__globals__:
            return False
        mine, its = (
            (
                [cell.cell_contents for cell in function.__closure__ or ()],
                function.__defaults__,
                function.__kwdefaults__,
            )
            for function in (ours, theirs)
        )
        return self(mine, its, place)


def _equal_tensors(ours: Tensor, theirs: Tensor) -> bool:
    if torch.equal(ours, theirs):
        return True
    return ours.is_floating_point() and bool(((ours == theirs) | (ours.isnan() & theirs.isnan())).all())
