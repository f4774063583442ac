"""The `nn.Module` of a program, for networks whose own module is not at hand."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zoosparse_ext.population.operations.joining import FUNCTIONS, WithColumn
from zoosparse_ext.population.program import Program


class ProgramModule(nn.Module):
    """The `nn.Module` of a program; its state dict has the names of the module the program was traced from.

    Args:
        program: what it computes.
        buffers: names of the columns that are buffers of the module itself, such as tables of positions.
    """

    def __init__(self, program: Program, buffers: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.program = [program]  # in a list: what it holds is nobody's child
        self.steps: list[nn.Module] = []
        known: dict[str, nn.Module] = {}
        for op in program.operations:
            name = getattr(op, "name", None)
            if isinstance(op, WithColumn):
                module: nn.Module = _WithColumn(op, self)
                self._attach_column(op, op.name in buffers)
            elif name is None:
                module = op.module()
            else:
                module = known.setdefault(name, op.module())
                self._attach(name, module)
            self.steps.append(module)

    def _parent(self, name: str) -> tuple[nn.Module, str]:
        """The module that holds what has a dotted name, made where it is missing; and its last part."""
        parent: nn.Module = self
        *path, last = name.split(".")
        for part in path:
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        return parent, last

    def _attach(self, name: str, module: nn.Module) -> None:
        parent, last = self._parent(name)
        parent._modules[last] = module

    def _attach_column(self, op: WithColumn, is_buffer: bool) -> None:
        parent, last = self._parent(op.name)
        if is_buffer:
            parent.register_buffer(last, torch.zeros(op.shape))
        else:
            parent.register_parameter(last, nn.Parameter(torch.zeros(op.shape)))

    def train(self, mode: bool = True) -> ProgramModule:
        super().train(mode)
        for module in self.steps:
            module.train(mode)
        return self

    def forward(self, images: Tensor) -> Tensor:
        values = [images]
        for module, taken in zip(self.steps, self.program[0].inputs, strict=True):
            values.append(module(*(values[number] for number in taken)))
        return values[-1]


class _WithColumn(nn.Module):
    """A value and a tensor of another module, which is looked up when it runs: it may be another by then."""

    def __init__(self, op: WithColumn, owner: nn.Module) -> None:
        super().__init__()
        self.op, self.owner = op, [owner]

    def forward(self, x: Tensor) -> Tensor:
        column: Any = self.owner[0]
        for part in self.op.name.split("."):
            column = getattr(column, part)
        pair = (column, x) if self.op.reverse else (x, column)
        return FUNCTIONS[self.op.function](*pair)
