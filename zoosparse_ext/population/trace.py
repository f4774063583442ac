"""From an `nn.Module` to a :class:`Program`: torch.fx finds the operations, `operations` says what each of them is."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch.fx
from torch import nn

from zoosparse_ext.population.likeness import own_behavior
from zoosparse_ext.population.operations.base import (
    CALLED,
    CALLED_MODULES,
    MODULES,
    BatchSize,
    Call,
    NotAProgram,
    Operation,
    Shape,
    Value,
)
from zoosparse_ext.population.operations.joining import Column
from zoosparse_ext.population.operations.shape import Sizes
from zoosparse_ext.population.program import Program

Found = Value | Column | BatchSize | Sizes  # what a node of torch.fx gives
_BY_MODE = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)


def trace(module: nn.Module) -> Program:
    """The program of a module.

    >>> trace(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Tanh())).operations[1]
    Linear(name='1', in_features=4, out_features=2, bias=True)

    Raises:
        NotAProgram: the module uses an operation that programs lack, has hooks or methods of its own, or computes
            something else while it is trained.
    """
    if behavior := own_behavior(module):
        raise NotAProgram(behavior)
    saved = module.state_dict()
    columns = {name: tuple(parameter.shape) for name, parameter in module.named_parameters()}
    parameters = tuple(columns)
    columns |= {
        name: tuple(buffer.shape)
        for name, buffer in module.named_buffers()
        if name in saved and buffer.is_floating_point()
    }
    programs = []
    for training in (False, True):
        with in_mode(module, training):
            program = _Tracing(module, training, columns).program()
        used = program.tensors()
        if unused := [name for name in parameters if name not in used]:
            raise NotAProgram(f"parameter {unused[0]!r} belongs to no operation")
        if not program.layers:
            raise NotAProgram("the module has no layer with weights")
        programs.append(program)
    if programs[0] != programs[1]:
        raise NotAProgram("the module computes something else while it is trained")
    return programs[0]


@contextlib.contextmanager
def in_mode(module: nn.Module, training: bool) -> Iterator[None]:
    """A module in training or evaluation mode, each layer back in its own afterwards."""
    modes = [(layer, layer.training) for layer in module.modules()]
    try:
        module.train(training)
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


class _Tracing:
    """The operations of a module in one of its modes, node by node."""

    def __init__(self, module: nn.Module, training: bool, columns: Mapping[str, Shape]) -> None:
        self.module, self.training, self.columns = module, training, columns
        self.operations: list[Operation] = []
        self.inputs: list[tuple[int, ...]] = []
        self.found: dict[torch.fx.Node, Found] = {}

    def program(self) -> Program:
        try:
            graph = torch.fx.symbolic_trace(self.module).graph
        except Exception as error:  # torch.fx raises whatever the module's own code raises on a proxy
            raise NotAProgram(f"torch.fx cannot trace {type(self.module).__name__}: {error}") from error
        result: Any = None
        for node in graph.nodes:
            if node.op == "output":
                result = self._known(node.args[0])
            else:
                self.found[node] = self._node(node)
        if not isinstance(result, Value):
            raise NotAProgram("the module returns something else than the result of an operation")
        return self._needed(result.number)

    def _node(self, node: torch.fx.Node) -> Found:
        if node.op == "placeholder":
            if self.found:
                raise NotAProgram("the module takes more than one input")
            return Value(0)
        if node.op == "get_attr":
            return self._column(str(node.target))
        args, kwargs = self._known(node.args), self._known(node.kwargs)
        if node.op == "call_module":
            if len(args) != 1 or kwargs or not isinstance(args[0], Value):
                raise NotAProgram(f"{node.target!r} is called with something else than one result")
            return self._of_module(str(node.target), self.module.get_submodule(str(node.target)), args[0])
        shown = getattr(node.target, "__name__", node.target)
        call = Call(f"the call of {shown}", args, kwargs, self.training)
        if node.target in CALLED:
            return self._add(CALLED[node.target](call))
        if node.target not in CALLED_MODULES:
            raise NotAProgram(f"the call of {node.target} is not supported; use the module of the same name")
        options = {name: value for name, value in kwargs.items() if name != "input"}
        x, *settings = args or (kwargs.get("input"),)
        if not isinstance(x, Value) or any(_is_found(value) for value in (*settings, *options.values())):
            raise NotAProgram(f"{call.name} takes something else than one result and numbers")
        try:
            standing_for = CALLED_MODULES[node.target](*settings, **options).train(self.training)
        except TypeError as error:
            raise NotAProgram(f"{call.name}: {error}") from error
        return self._of_module(node.name, standing_for, x)

    def _of_module(self, name: str, module: nn.Module, x: Value) -> Value:
        recognize = MODULES.get(type(module))
        if recognize is None:
            raise NotAProgram(f"{name!r} is a {type(module).__name__}, which programs lack")
        if isinstance(module, _BY_MODE) and module.training is not self.training:
            mode = "evaluation" if self.training else "training"
            raise NotAProgram(f"{name!r} stays in {mode} mode when the module leaves it")
        for operation in recognize(name, module):
            x = self._append(operation, (x,))
        return x

    def _add(self, steps: Any) -> Found:
        """The result of operations, each of which takes the values that are named or the result before it."""
        if isinstance(steps, Found):
            return steps
        x: Value | None = None
        for operation, taken in steps:
            if any(not isinstance(value, Value) for value in taken):
                raise NotAProgram(f"{operation.told} of something else than results")
            x = self._append(operation, taken or (x,))
        assert x is not None
        return x

    def _append(self, operation: Operation, taken: Any) -> Value:
        self.operations.append(operation)
        self.inputs.append(tuple(value.number for value in taken))
        return Value(len(self.operations))

    def _known(self, argument: Any) -> Any:
        """An argument of a node, with what is known of the nodes in it."""
        if isinstance(argument, torch.fx.Node):
            return self.found[argument]
        if isinstance(argument, tuple | list):
            return type(argument)(map(self._known, argument))
        if isinstance(argument, dict):
            return {key: self._known(value) for key, value in argument.items()}
        if isinstance(argument, slice):
            return slice(*map(self._known, (argument.start, argument.stop, argument.step)))
        return argument

    def _column(self, name: str) -> Column:
        if name not in self.columns:
            raise NotAProgram(
                f"{name!r} is a tensor that is no column: no parameter, and no buffer that is saved"
            )
        return Column(name, self.columns[name])

    def _needed(self, result: int) -> Program:
        """The program of the operations that a result depends on, which is the last of them."""
        needed = {result}
        for place in range(result, 0, -1):
            if place in needed:
                needed |= set(self.inputs[place - 1])
        kept = [place for place in range(1, result + 1) if place in needed]
        number = {0: 0} | {place: new for new, place in enumerate(kept, start=1)}
        return Program(
            tuple(self.operations[place - 1] for place in kept),
            tuple(tuple(number[taken] for taken in self.inputs[place - 1]) for place in kept),
        )


def _is_found(value: Any) -> bool:
    return isinstance(value, Found) or (isinstance(value, tuple | list) and any(map(_is_found, value)))
