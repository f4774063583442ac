"""What the columns of a population's matrix mean."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.likeness import COUNTER
from zoosparse_ext.population.operations import NotAProgram
from zoosparse_ext.population.plain import copy_module, plain_module
from zoosparse_ext.population.program import Program, Shape
from zoosparse_ext.population.program_module import ProgramModule
from zoosparse_ext.population.prunable import Prunable, left_out, prunable_names
from zoosparse_ext.population.trace import trace

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Segment:
    """One named tensor of a network: `shape` elements from column `offset` on, in row-major order."""

    name: str  # as in the state dict, e.g. "module_list.3.weight"
    offset: int
    shape: tuple[int, ...]
    prunable: bool  # a weight that pruning may remove; biases, norms and buffers are not
    trainable: bool = True  # False for frozen parameters, and for buffers such as running means
    output_axis: int | None = (
        0  # of `shape`; 1 in transposed convolutions, None where it is split over groups
    )

    @property
    def size(self) -> int:
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def slice(self) -> slice:
        return slice(self.offset, self.offset + self.size)

    @property
    def layer(self) -> str:
        """Name of the module that holds the tensor: "module_list.3"."""
        return self.name.rpartition(".")[0] or self.name


@dataclass(frozen=True, eq=False)
class Architecture:
    """The columns of a matrix of networks: which slice is which tensor, and the program that computes with them.

    Args:
        name: what tables and files call it, e.g. ``"cnn-s-tanh"``.
        segments: the columns, without gaps, in the order of the module's parameters.
        program: the operations; None when the module is no program, then `template` runs it.
        input_shape: channels, height, width of an image, or whatever a sample has; None if unknown.
        template: a module of this architecture: it runs what is no program, and is what models are given back as.
        reason: why there is no program.
        network: what makes the module of a ready architecture that is no chain, see `networks.network_module`; None
            for others.
        counters: names of the whole numbers that models count, such as the batches that batch norm has seen; they lie
            beside the matrix, in `Population.counts`.
        unproven: why scores were not compared with those of the modules; empty if they were, or if it came from disk.
        one_by_one: the module computes something else where `vmap` runs it for many models at once.

    >>> architecture = Architecture.from_module(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    >>> [(segment.name, segment.slice, segment.prunable) for segment in architecture.segments]
    [('1.weight', slice(0, 8, None), True), ('1.bias', slice(8, 10, None), False)]
    """

    name: str
    segments: tuple[Segment, ...]
    program: Program | None
    input_shape: Shape | None = None
    template: nn.Module | None = field(default=None, repr=False)
    reason: str = ""
    network: Mapping[str, Any] | None = None
    counters: tuple[str, ...] = ()
    unproven: str = ""
    one_by_one: bool = False

    @classmethod
    def from_module(
        cls,
        module: nn.Module,
        name: str = "",
        input_shape: Shape | None = None,
        prunable: Prunable | None = None,
    ) -> Architecture:
        """Read the columns and, where its operations are known, the program off a module.

        Parameters with `requires_grad=False` are frozen: no training changes them. The floating-point buffers of the
        state dict become columns that are neither trainable nor prunable; the batch counters of batch norm are counted
        beside the matrix.

        Args:
            module: wrappers such as `DataParallel` are taken off, masks and parametrizations are folded.
            name: default: that of the class.
            input_shape: channels, height, width of an image.
            prunable: names, patterns or a function that say which parameters pruning may remove, as
                :func:`~zoosparse_ext.population.prunable.prunable_names` takes them.

        Raises:
            InputError: the module has no parameters, or shares one tensor between two names; it is no module, or
                the name no text; what :func:`~zoosparse_ext.population.plain.plain_module` refuses.
        """
        require_kind("module", module, nn.Module, "an nn.Module")
        require_kind("name", name, str, "text; images of 1 × 28 × 28 are input_shape=(1, 28, 28)")
        module = plain_module(module).module
        segments, offset = [], 0
        parameters = dict(module.named_parameters())
        if not parameters:
            raise InputError(
                f"{type(module).__name__} has no parameters: there is nothing to put into a population"
            )
        for tensor_name, twice in module.named_parameters(remove_duplicate=False):
            if tensor_name not in parameters:
                other = next(known for known, parameter in parameters.items() if parameter is twice)
                raise InputError(
                    f"{type(module).__name__} shares one parameter as {other!r} and {tensor_name!r}; "
                    "populations cannot tie columns"
                )
        names = prunable_names(module, prunable)
        if prunable is None:
            _tell_left_out(name or type(module).__name__, tuple(left_out(module, names).items()))
        saved = module.state_dict()
        buffers = {n: b for n, b in module.named_buffers() if n in saved and b.is_floating_point()}
        for tensor_name, tensor in (parameters | buffers).items():
            trainable = tensor_name in parameters and tensor.requires_grad
            axis = _output_axis(module.get_submodule(tensor_name.rpartition(".")[0]), tensor)
            segment = Segment(tensor_name, offset, tuple(tensor.shape), tensor_name in names, trainable, axis)
            segments.append(segment)
            offset += segment.size
        counters = tuple(n for n in saved if n.rpartition(".")[2] == COUNTER)
        name = name or type(module).__name__
        template = copy_module(module)
        program, reason = None, ""
        try:
            program = trace(copy.deepcopy(template))  # which may keep what it saw
        except NotAProgram as error:
            reason = str(error)
        if program is not None and input_shape is not None:
            program.shapes(input_shape)
        return cls(name, tuple(segments), program, input_shape, template, reason, counters=counters)

    def __repr__(self) -> str:
        images = "" if self.input_shape is None else f", images {'×'.join(map(str, self.input_shape))}"
        return f"Architecture({self.name!r}, P = {self.n_parameters}{images})"

    @property
    def n_parameters(self) -> int:
        """P, the number of columns."""
        return self.segments[-1].offset + self.segments[-1].size

    @property
    def n_prunable(self) -> int:
        """The denominator of every sparsity: weights that pruning may remove."""
        return sum(segment.size for segment in self.prunable_segments)

    @cached_property
    def frozen_names(self) -> frozenset[str]:
        """Tensors that no training changes: frozen parameters, and buffers but for what the module itself does."""
        return frozenset(segment.name for segment in self.segments if not segment.trainable)

    @cached_property
    def prunable_segments(self) -> tuple[Segment, ...]:
        return tuple(segment for segment in self.segments if segment.prunable)

    @cached_property
    def prunable_names(self) -> frozenset[str]:
        return frozenset(segment.name for segment in self.prunable_segments)

    @cached_property
    def prunable_columns(self) -> Tensor:
        """Columns of all prunable weights, int64, ascending."""
        columns = [torch.arange(s.slice.start, s.slice.stop) for s in self.prunable_segments]
        return torch.cat([torch.empty(0, dtype=torch.int64), *columns])

    @cached_property
    def offsets(self) -> dict[str, int]:
        """First column of every named tensor."""
        return {segment.name: segment.offset for segment in self.segments}

    @cached_property
    def classes(self) -> int | None:
        """Number of scores, where the program alone says it."""
        return None if self.program is None else self.program.classes

    @property
    def why_not_chain(self) -> str:
        """Why native engines do not run the program as it is; empty if they do."""
        if self.program is None:
            return f"it is not a program: {self.reason}"
        return self.program.why_not_chain and f"they lack {self.program.why_not_chain}"

    def runs_program(self, *, training: bool = False, noisy: bool = False) -> bool:
        """Whether the program runs, rather than the module: not where random numbers are those of the module.

        `noisy` says that noise is put on what layers compute.
        """
        if self.program is None or self.program.has_streams:
            return self.program is not None
        return not (noisy or (training and self.program.draws))

    def module(self) -> nn.Module:
        """A fresh module of this architecture, with the names of the original.

        Raises:
            InputError: the zoo came from disk without a program, and its module is not at hand: pass it again.
        """
        if self.template is not None:
            return copy.deepcopy(self.template)
        if self.program is None:
            raise InputError(
                f"architecture {self.name!r} is not a program ({self.reason}) and its module is not at hand; "
                "give the module again with population.with_module(module)"
            )
        module = ProgramModule(self.program, self.frozen_names)
        for tensor_name, parameter in module.named_parameters():
            parameter.requires_grad_(tensor_name not in self.frozen_names)
        return module

    def flatten(self, state: Mapping[str, Tensor]) -> Tensor:
        """One row of the matrix, float32 [P], from a state dict.

        Raises:
            InputError: a tensor is missing, left over, or of another shape; names it.
        """
        row = []
        if len(state) != len(self.segments) or any(segment.name not in state for segment in self.segments):
            self._check_names(state)
        for segment in self.segments:
            tensor = state[segment.name]
            if not tensor.is_floating_point():
                raise InputError(f"{segment.name!r} is {tensor.dtype}; columns hold floating-point numbers")
            if tensor.shape != segment.shape:
                came = list(tensor.shape)
                raise InputError(
                    f"{segment.name!r} has shape {came}, architecture {self.name!r} expects {list(segment.shape)}"
                )
            row.append(tensor.reshape(-1))
        return torch.cat(row).detach().to(torch.float32)

    def _check_names(self, state: Mapping[str, Tensor]) -> None:
        known = {segment.name for segment in self.segments}
        extra = [n for n, tensor in state.items() if n not in known and tensor.is_floating_point()]
        if extra:
            raise InputError(f"state dict holds {extra[0]!r}, which architecture {self.name!r} lacks")
        missing = [segment.name for segment in self.segments if segment.name not in state]
        if missing:
            raise InputError(f"state dict lacks {missing[0]!r} of architecture {self.name!r}")

    def unflatten(self, rows: Tensor) -> dict[str, Tensor]:
        """Named tensors from rows [..., P]: views of shape [..., *shape]."""
        return {
            s.name: rows[..., s.slice].unflatten(-1, s.shape) if s.shape else rows[..., s.offset]
            for s in self.segments
        }

    def to_dict(self) -> dict[str, Any]:
        """As plain dictionaries, for JSON; the template module is not kept."""
        return {
            "name": self.name,
            "segments": [_plain(segment) for segment in self.segments],
            "program": None if self.program is None else self.program.to_list(),
            "input_shape": None if self.input_shape is None else list(self.input_shape),
            "reason": self.reason,
            **({} if self.network is None else {"network": dict(self.network)}),
            **({"counters": list(self.counters)} if self.counters else {}),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Architecture:
        """Inverse of :meth:`to_dict`; the module of a ready architecture comes back with it.

        Raises:
            KeyError, TypeError, ValueError: the dictionary is not one that :meth:`to_dict` made.
        """
        from zoosparse_ext.population.networks import network_module  # which makes architectures

        name, reason = data["name"], data.get("reason", "")
        if not isinstance(name, str) or not isinstance(reason, str):
            raise TypeError(
                f"name and reason of an architecture must be text, got {name!r:.80}, {reason!r:.80}"
            )
        segments = tuple(Segment(**{**row, "shape": tuple(row["shape"])}) for row in data["segments"])
        program = None if data["program"] is None else Program.from_list(data["program"])
        shape = None if data["input_shape"] is None else tuple(data["input_shape"])
        network = data.get("network")
        template = None if network is None else network_module(network)
        counters = tuple(map(str, data.get("counters", ())))
        stored = cls(name, segments, program, shape, template, reason, network, counters)
        return stored if program is not None or template is None else stored.retraced(template)

    def retraced(self, module: nn.Module) -> Architecture:
        """With the program of a module, where a zoo was stored without: its random numbers stay those of the module."""
        try:
            program = trace(copy.deepcopy(module)).without_streams()
        except NotAProgram as error:
            return replace(self, reason=str(error))
        return replace(self, program=program, reason="")

    def __eq__(self, other: object) -> bool:
        """Whether both have the same columns and compute the same, as far as both are known to."""
        if not isinstance(other, Architecture):
            return False
        ours, theirs = self.to_dict(), other.to_dict()
        if self.program is None or other.program is None or not self.program.is_chain:
            programs = [a.program and a.program.without_streams() for a in (self, other)]
            if None not in programs and programs[0] != programs[1]:
                return False
            for fields in (ours, theirs):
                del fields["program"], fields["reason"]
        return ours == theirs

    def __hash__(self) -> int:
        return hash((self.name, self.segments))


def _output_axis(layer: nn.Module, tensor: Tensor) -> int | None:
    """Where a tensor of a layer has its outputs."""
    if tensor.dim() < 2 or not isinstance(
        layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
    ):
        return 0
    return 1 if layer.groups == 1 else None


def _plain(segment: Segment) -> dict[str, Any]:
    """A segment for JSON; what is as in most layers is left out."""
    fields = asdict(segment)
    if segment.output_axis == 0:
        del fields["output_axis"]
    return fields


@lru_cache(maxsize=64)  # once a process
def _tell_left_out(name: str, kept: tuple[tuple[str, str], ...]) -> None:
    if kept:
        shown = ", ".join(f"{tensor} ({reason})" for tensor, reason in kept[:5]) + ", …" * (len(kept) > 5)
        log.warning("%s: not prunable are %s; prunable=… chooses others", name, shown)
