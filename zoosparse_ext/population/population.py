"""A population: the matrix of networks, the meaning of its columns, and a table of its rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.devices import device_of
from zoosparse_ext.population.initialise import initialise
from zoosparse_ext.population.model_table import number_rows, require_own_ids
from zoosparse_ext.population.optimizer_state import OptimizerState
from zoosparse_ext.population.plain import plain_module
from zoosparse_ext.population.plan import Plan, as_images, where_it_runs
from zoosparse_ext.population.program import Shape
from zoosparse_ext.population.prunable import Prunable
from zoosparse_ext.population.stacking import Models, proven_rows, stack
from zoosparse_ext.population.tensors import tensors_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Population:
    """Many networks of one architecture: `weights [N, P]`, one row per model, one column per parameter.

    A twin population (from pruning or variational dropout) also has masks, and a table whose rows name the twin and
    the model it came from.

    >>> models = [nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(3)]
    >>> population = Population.from_modules(models)
    >>> population.weights.shape, population(torch.rand(5, 1, 2, 2)).shape
    (torch.Size([3, 10]), torch.Size([3, 5, 2]))

    Args:
        weights: [N, P] float32 (or float64, on the PyTorch reference alone).
        architecture: what the columns mean.
        models: one row per model; missing `model_id` and `seed` columns are numbered. None: numbers only.
        packed_masks: uint8 [N, ceil(P/8)], True = kept; None: nothing is pruned.
        log_sigma2: [N, P] of variational dropout; stands in `learned`.
        learned: [N, P] each, by name: what the training that made this population learned beside the weights, such as
            ``{"log_sigma2": …}``.
        predictions: classes predicted on the test images [N, M].
        history: one row per model and epoch of the training that made this population.
        counts: int64 [N, C], the counters of `architecture.counters`: how many batches each batch norm has seen.
            Default: zeros.
        optimizer_state: of the training that made this population, where it was asked to keep it. A zoo on disk has it
            as well, exports have not.
        kept: this population at earlier epochs of that training, by epoch, where it was asked to keep them. In a zoo
            they are populations of their own: ``"original@5"``.

    Attributes:
        trained_by: the options of the last :func:`zoosparse_ext.train` as plain values; None where there was none. A
            selection of rows has neither history nor these.

    Raises:
        InputError: weights that are no matrix of as many columns as the architecture has, or of another type; a table,
            masks or predictions of another number of rows; a table that gives two networks one id.
    """

    def __init__(
        self,
        weights: Tensor,
        architecture: Architecture,
        models: pd.DataFrame | None = None,
        *,
        packed_masks: Tensor | None = None,
        log_sigma2: Tensor | None = None,
        predictions: Tensor | None = None,
        history: pd.DataFrame | None = None,
        counts: Tensor | None = None,
        optimizer_state: OptimizerState | None = None,
        kept: Mapping[int, Population] | None = None,
        learned: Mapping[str, Tensor] | None = None,
    ) -> None:
        beside = (packed_masks, log_sigma2, predictions, history, counts, optimizer_state, kept, learned)
        self._hold(weights, architecture, models, *beside)
        if models is not None:
            require_own_ids(self.models)

    def _hold(
        self,
        weights: Tensor,
        architecture: Architecture,
        models: pd.DataFrame | None,
        packed_masks: Tensor | None = None,
        log_sigma2: Tensor | None = None,
        predictions: Tensor | None = None,
        history: pd.DataFrame | None = None,
        counts: Tensor | None = None,
        optimizer_state: OptimizerState | None = None,
        kept: Mapping[int, Population] | None = None,
        learned: Mapping[str, Tensor] | None = None,
    ) -> None:
        require_kind(
            "architecture", architecture, Architecture, "an Architecture, such as zs.architecture('cnn-s')"
        )
        require_kind("weights", weights, Tensor, f"a tensor [N, {architecture.n_parameters}]")
        if weights.dtype not in (torch.float32, torch.float64):
            raise InputError(f"weights are {weights.dtype}, populations take float32; pass weights.float()")
        if weights.dim() != 2 or weights.shape[1] != architecture.n_parameters:
            raise InputError(
                f"weights have shape {list(weights.shape)}, architecture {architecture.name!r} expects "
                f"[N, {architecture.n_parameters}]"
            )
        self.weights = weights
        self.architecture = architecture
        self.models = number_rows(models, weights.shape[0], architecture)
        self.packed_masks = packed_masks
        self.learned: dict[str, Tensor] = dict(learned or {})
        if log_sigma2 is not None:
            self.log_sigma2 = log_sigma2
        self.predictions = predictions
        self.history = history
        self.counts = counts
        self.optimizer_state = optimizer_state
        self.kept: dict[int, Population] = dict(kept or {})
        self.trained_by: dict[str, Any] | None = None  # the options of the last `zs.train`, as plain values
        if counts is None and architecture.counters:
            self.counts = torch.zeros(len(self), len(architecture.counters), dtype=torch.int64)
        for name, tensor in tensors_of(self).items():
            if tensor.shape[0] != len(self):
                raise InputError(f"{name} has {tensor.shape[0]} rows for a population of {len(self)} models")
        beside = {f"kept epoch {epoch}": len(population) for epoch, population in self.kept.items()}
        if optimizer_state is not None:
            beside["optimizer_state"] = len(optimizer_state.first)
        for name, rows in beside.items():
            if rows != len(self):
                raise InputError(f"{name} has {rows} rows for a population of {len(self)} models")

    @classmethod
    def from_rows(
        cls, weights: Tensor, architecture: Architecture, models: pd.DataFrame, **rest: Any
    ) -> Population:
        """Rows of populations that exist: as the constructor, but ids may repeat.

        A selection may take a row twice, and zoos of version 0.1 may hold two twins of one id.

        >>> from zoosparse_ext import architecture
        >>> population = Population.initialise(architecture("cnn-s"), seeds=range(2))
        >>> population[[0, 0]].ids
        ['cnn-s-tanh-0000', 'cnn-s-tanh-0000']

        Raises:
            InputError: as the constructor, but for ids.
        """
        population = cls.__new__(cls)
        population._hold(weights, architecture, models, **rest)
        return population

    @classmethod
    def from_modules(
        cls,
        models: Models,
        module: nn.Module | None = None,
        *,
        name: str = "",
        input_shape: Shape | None = None,
        example: Tensor | None = None,
        prunable: Prunable | None = None,
        table: pd.DataFrame | None = None,
    ) -> Population:
        """Stack modules of one architecture; the population then computes what they compute.

        That is proven: scores of up to eight models, and of all that differ in anything but parameters, and a gradient
        of one, are compared with the modules' own on random inputs.

        >>> from torch.nn.utils import prune
        >>> models = [nn.Sequential(nn.Flatten(), nn.Linear(4, 2)) for _ in range(3)]
        >>> _ = [prune.random_unstructured(model[1], "weight", amount=6) for model in models]
        >>> Population.from_modules(models, input_shape=(1, 2, 2)).sparsity()
        tensor([0.7500, 0.7500, 0.7500], dtype=torch.float64)

        Args:
            models: modules, or their state dicts, or what `torch.func.stack_module_state` makes of them. Wrappers such
                as `DataParallel` and `torch.compile` are taken off, pruning masks become masks of the population,
                parametrizations and half-precision weights are folded and converted with a warning.
            module: what state dicts belong to.
            name: of the architecture; default: that of the class.
            input_shape: channels, height, width of an image.
            example: inputs [B, …] as the modules take them, for those whose shape cannot be told from their layers.
                Without it, where it is needed, `repr` says "unproven".
            prunable: names, patterns such as ``"encoder.*.weight"``, or a function of name and parameter that says
                which parameters pruning may remove. Default: every trained matrix of weights but embeddings.
            table: one row per model.

        Raises:
            InputError: no models; a table of another number of rows, or with one `model_id` twice; models that differ
                in architecture, frozen flags, hooks, or in values that their forward reads and that are no columns;
                modules that a population cannot compute (says which and why); tied, scripted, lazy, complex or
                quantized parameters; inputs that the modules do not take.
        """
        stacked = stack(models, module, name, input_shape, example, prunable)
        return cls(
            stacked.weights,
            stacked.architecture,
            table,
            packed_masks=stacked.packed_masks,
            counts=stacked.counts if stacked.architecture.counters else None,
        )

    @classmethod
    def initialise(
        cls,
        architecture: Architecture,
        seeds: Sequence[int] | range,
        init: str | Sequence[str] = "kaiming_uniform",
        table: pd.DataFrame | None = None,
    ) -> Population:
        """Fresh networks, one per seed; biases start at 0.01, as in the published zoos.

        Raises:
            InputError: no seeds, an unknown initialisation; a seed twice, unless `table` gives both an id.
        """
        require_kind(
            "architecture", architecture, Architecture, "an Architecture, such as zs.architecture('cnn-s')"
        )
        require_kind("seeds", seeds, (Sequence, Tensor, np.ndarray), "one per model, such as range(1, 17)")
        if len(seeds) == 0:
            raise InputError("no seeds were given: a population needs at least one model")
        weights = initialise(architecture, seeds, init)
        table = pd.DataFrame(index=range(len(seeds))) if table is None else table.copy()
        table["seed"], table["init"] = list(seeds), init
        if "model_id" not in table:
            table["model_id"] = [f"{architecture.name}-{seed:04d}" for seed in seeds]
        return cls(weights, architecture, table)

    def __len__(self) -> int:
        return self.weights.shape[0]

    def __repr__(self) -> str:
        architecture = self.architecture
        size = f"P = {self.weights.shape[1]} ({architecture.n_prunable} prunable)"
        pruned = "" if self.packed_masks is None else ", pruned"
        unproven = f", unproven: {architecture.unproven}" if architecture.unproven else ""
        where = where_it_runs(architecture)
        told = f", {where}" if where else ""
        return f"Population({len(self)} × {architecture.name}, {size}{pruned}{told}{unproven})"

    def __call__(self, images: Tensor) -> Tensor:
        """Class scores [N, B, classes] of normalized images [B, C, H, W], in evaluation mode.

        Features [B, F] do for chains that begin with them, and whatever the module takes for what is no chain. Where
        gradients are asked for, scores are differentiable in images and weights, see `Plan`.

        Raises:
            InputError: images of a size or a number of channels that the architecture does not take, or stored pixels
                that were not normalised.
        """
        return self.scores(self.weights, images)

    def scores(self, weights: Tensor, images: Tensor) -> Tensor:
        """Class scores of other rows [n, P] of the same architecture.

        Raises:
            InputError: as :meth:`__call__`; weights of another shape, or that are no floating-point numbers.
        """
        p = self.architecture.n_parameters
        require_kind("weights", weights, Tensor, f"a tensor [n, {p}]")
        if weights.dim() != 2 or weights.shape[1] != p or not weights.is_floating_point():
            raise InputError(
                f"weights are {weights.dtype} {list(weights.shape)}, architecture {self.architecture.name!r} expects "
                f"floating-point numbers [n, {p}]"
            )
        self.check_images(images)
        return Plan(self.architecture, weights)(images)

    def compile(self, sparse: str = "auto", device: torch.device | str | None = None) -> Plan:
        """A plan that runs this population on images.

        `sparse` says what it does with zero weights, `device` where it runs: ``"cpu"``, ``"cuda"``, or None, where the
        weights are. Elsewhere it runs on a copy of the weights, made anew each time.

        >>> from zoosparse_ext import architecture
        >>> population = Population.initialise(architecture("cnn-s"), seeds=range(2))
        >>> population.compile(sparse="dense")(torch.rand(3, 1, 28, 28)).shape
        torch.Size([2, 3, 10])

        Raises:
            InputError: `sparse` is not ``"auto"``, ``"dense"`` or ``"sparse"``; there is no such device.
        """
        return Plan(self.architecture, self.weights, sparse, device)

    def check_images(self, images: Tensor) -> None:
        """Raise InputError unless images [B, C, H, W] fit the architecture, as far as it is known to what fits."""
        program = self.architecture.program
        require_kind("images", images, Tensor, "a tensor [B, C, H, W]")
        if images.is_meta and not self.weights.is_meta:
            raise InputError(
                f"images are on the meta device, which holds no data; the weights are on {self.weights.device}"
            )
        if program is not None and not images.is_floating_point() and images.dtype != torch.uint8:
            raise InputError(
                f"images are {images.dtype}, networks take floating-point numbers: images.float()"
            )
        given = tuple(images.shape[1:])
        if program is not None:
            images = as_images(images, program)
        if images.dim() != 4 if program is not None and program.takes_images else images.dim() < 2:
            raise InputError(f"images must be [B, C, H, W], got shape {list(images.shape)}")
        size = tuple(images.shape[1:])
        expected = self.architecture.input_shape
        if expected is not None and expected not in (size, given):
            came, wanted = ("×".join(map(str, shape)) for shape in (size, expected))
            raise InputError(f"images are {came}, architecture {self.architecture.name!r} expects {wanted}")
        if program is not None:
            program.shapes(size)

    def __getitem__(
        self, rows: int | slice | Sequence[int] | Sequence[bool] | Tensor | np.ndarray
    ) -> Population:
        """The population of some rows, without history: a number, a slice, positions, or one bool per row.

        Kept epochs and optimizer state are of these rows. A slice shares memory with this population, everything else
        copies.
        """
        index = rows if isinstance(rows, slice) else _positions(rows, len(self))

        def take(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[index]

        return Population.from_rows(
            self.weights[index],
            self.architecture,
            self.models.iloc[index].reset_index(drop=True),
            packed_masks=take(self.packed_masks),
            predictions=take(self.predictions),
            counts=take(self.counts),
            optimizer_state=self._state(lambda moments: moments[index]),
            kept={epoch: population[index] for epoch, population in self.kept.items()},
            learned={name: matrix[index] for name, matrix in self.learned.items()},
        )

    def clone(self) -> Population:
        """A copy that shares no memory."""

        def copy(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.clone()

        cloned = Population.from_rows(
            self.weights.clone(),
            self.architecture,
            self.models.copy(),
            packed_masks=copy(self.packed_masks),
            predictions=copy(self.predictions),
            history=None if self.history is None else self.history.copy(),
            counts=copy(self.counts),
            optimizer_state=self._state(Tensor.clone),
            kept={epoch: population.clone() for epoch, population in self.kept.items()},
            learned={name: matrix.clone() for name, matrix in self.learned.items()},
        )
        cloned.trained_by = self.trained_by
        return cloned

    def _state(self, change: Callable[[Tensor], Tensor]) -> OptimizerState | None:
        return None if self.optimizer_state is None else self.optimizer_state.map(change)

    def to(self, device: torch.device | str) -> Population:
        """Move weights, masks, `learned` and `kept` to a device; returns the population itself.

        Predictions stay on the CPU.

        Raises:
            InputError: no such device, or not on this machine.
        """
        device = device_of(device, self.weights)
        require_data(self)
        self.weights = self.weights.to(device)
        if self.packed_masks is not None:
            self.packed_masks = self.packed_masks.to(device)
        self.learned = {name: matrix.to(device) for name, matrix in self.learned.items()}
        self.optimizer_state = self._state(lambda moments: moments.to(device))
        for population in self.kept.values():
            population.to(device)
        return self

    def with_module(self, module: nn.Module) -> Population:
        """This population with a module to run it and to give models back, for those that came from disk.

        Raises:
            InputError: a module with other tensors, or that computes something else than the stored chain.
        """
        plain = plain_module(module).module
        its = Architecture.from_module(plain, self.architecture.name, prunable=())
        ours = [(segment.name, segment.shape) for segment in self.architecture.segments]
        theirs = [(segment.name, segment.shape) for segment in its.segments]
        for expected, came in zip_longest(ours, theirs, fillvalue=("nothing more", ())):
            if expected != came and dict(ours) != dict(theirs):  # columns may be in another order
                raise InputError(
                    f"the module has {came[0]!r} {list(came[1])} where {self.architecture.name!r} has {expected[0]!r} "
                    f"{list(expected[1])}"
                )
        template = its.module()
        for segment in self.architecture.segments:  # frozen is what the zoo says
            if isinstance(parameter := dict(template.named_parameters()).get(segment.name), nn.Parameter):
                parameter.requires_grad_(segment.trainable)
        architecture = replace(self.architecture, template=template, counters=its.counters, unproven="")
        anew = architecture.program is None
        if anew:
            architecture = architecture.retraced(template)
        self.architecture = proven_rows(architecture, template, self.weights, may_run_as_module=anew)
        if self.counts is None and its.counters:
            self.counts = torch.zeros(len(self), len(its.counters), dtype=torch.int64)
        return self

    def layers(self) -> tuple[Segment, ...]:
        """The named columns: records with `name`, `slice`, `shape`, `prunable`."""
        return self.architecture.segments

    def to_modules(self) -> list[nn.Module]:
        """One independent `nn.Module` per row, of the class that the population was made from, in evaluation mode."""
        require_data(self)
        modules = []
        for number, row in enumerate(self.weights.detach().cpu()):
            module = self.architecture.module()
            state = {n: t.clone() for n, t in self.architecture.unflatten(row).items()}
            if self.counts is not None:
                state |= dict(zip(self.architecture.counters, self.counts[number].clone(), strict=True))
            module.load_state_dict(state, strict=False)
            modules.append(module.eval())
        return modules

    @property
    def log_sigma2(self) -> Tensor | None:
        """[N, P] of variational dropout; None: of other networks."""
        return self.learned.get("log_sigma2")

    @log_sigma2.setter
    def log_sigma2(self, matrix: Tensor | None) -> None:
        if matrix is None:
            self.learned.pop("log_sigma2", None)
        else:
            self.learned["log_sigma2"] = matrix

    @property
    def ids(self) -> list[str]:
        """`twin_id` of every row of a twin population, else `model_id`."""
        return list(self.models["twin_id" if "twin_id" in self.models else "model_id"])

    @property
    def seeds(self) -> Tensor:
        """int64 [N], the key of each model's random numbers."""
        try:
            return torch.tensor(self.models["seed"].to_numpy(dtype=np.int64))
        except (TypeError, ValueError) as error:
            raise InputError(f"the column 'seed' of the models must hold whole numbers: {error}") from error

    @property
    def dropout(self) -> Tensor | None:
        """Dropout rate of each model, float32 [N], where the table has one."""
        if "dropout" not in self.models or self.models["dropout"].isna().any():
            return None
        rates = torch.tensor(self.models["dropout"].to_numpy(dtype=np.float32))
        if bool(((rates < 0) | (rates >= 1)).any()):
            worst = self.models.loc[int(((rates < 0) | (rates >= 1)).int().argmax())]
            raise InputError(
                f"dropout rate of model {worst['model_id']!r} is {worst['dropout']}; rates lie in [0, 1): "
                "a rate of 1 drops everything"
            )
        return rates

    @property
    def masks(self) -> Tensor | None:
        """bool [N, P], True = kept; None if nothing was pruned."""
        if self.packed_masks is None:
            return None
        return ops.unpack_mask(self.packed_masks, self.weights.shape[1])

    def sparsity(self, by_layer: bool = False) -> Tensor:
        """Share of exact zeros among the prunable weights: float64 [N], or [N, prunable tensors] by layer.

        The denominator is `architecture.n_prunable`; biases, norms and buffers do not count.
        """
        segments = self.architecture.prunable_segments
        if not segments:
            raise InputError(
                f"{self.architecture.name!r} has nothing that is prunable, so it has no sparsity"
            )
        zeros = torch.stack(
            [(self.weights[:, s.slice] == 0).sum(1, dtype=torch.int32) for s in segments], dim=1
        ).to(torch.float64)
        sizes = torch.tensor([s.size for s in segments], dtype=torch.float64, device=zeros.device)
        return zeros / sizes if by_layer else zeros.sum(1) / sizes.sum()


def require_data(population: Population) -> None:
    """Raise InputError if the weights are on the meta device, where there are shapes alone."""
    if population.weights.is_meta:
        raise InputError(
            "weights are on the meta device, which holds no data; make the population of weights on the CPU or a GPU"
        )


def require_numbers(population: Population) -> None:
    """Raise InputError with the first row and layer that hold NaN, if any do; or without data."""
    require_data(population)
    bad = torch.isnan(population.weights)
    if not bool(bad.any()):
        return
    row = int(bad.any(1).int().argmax())
    column = int(bad[row].int().argmax())
    segment = next(s for s in population.layers() if s.slice.start <= column < s.slice.stop)
    models = int(bad.any(1).sum())
    raise InputError(
        f"weights are NaN: row {row} (model {population.ids[row]!r}), layer {segment.name!r}; {models} of "
        f"{len(population)} models; pass allow_nan=True (--allow-nan) to keep them"
    )


def _positions(rows: int | Sequence[int] | Sequence[bool] | Tensor | np.ndarray, n: int) -> np.ndarray:
    index = np.atleast_1d(np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows))
    return np.arange(n)[index if index.size else index.astype(np.int64)]


def chunks(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
