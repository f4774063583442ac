"""A population: the matrix of networks, the meaning of its columns, and a table of its rows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from zoosparse_ext import ops
from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.population.architecture import Architecture, Segment
from zoosparse_ext.population.devices import device_of
from zoosparse_ext.population.initialise import initialise
from zoosparse_ext.population.plan import Plan
from zoosparse_ext.population.program import Shape

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
        log_sigma2: [N, P] of variational dropout.
        predictions: classes predicted on the test images [N, M].
        history: one row per model and epoch of the training that made this population.

    Raises:
        InputError: weights that are no matrix of as many columns as the architecture has, or of another type; a table,
            masks or predictions of another number of rows.
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
        self.models = _number_rows(models, weights.shape[0], architecture)
        self.packed_masks = packed_masks
        self.log_sigma2 = log_sigma2
        self.predictions = predictions
        self.history = history
        for name in ("packed_masks", "log_sigma2", "predictions"):
            tensor = getattr(self, name)
            if tensor is not None and tensor.shape[0] != len(self):
                raise InputError(f"{name} has {tensor.shape[0]} rows for a population of {len(self)} models")

    @classmethod
    def from_modules(
        cls,
        models: Iterable[nn.Module | Mapping[str, Tensor]],
        module: nn.Module | None = None,
        *,
        name: str = "",
        input_shape: Shape | None = None,
        table: pd.DataFrame | None = None,
    ) -> Population:
        """Stack modules of one architecture, or state dicts and one `module` that says what they belong to.

        Raises:
            InputError: no models; models that differ in architecture (says which, and where); tied parameters.
        """
        if isinstance(models, nn.Module):
            raise InputError("from_modules takes a list of modules; write from_modules([module]) for one")
        items = list(models)
        if not items:
            raise InputError("no models were given: a population needs at least one")
        first = module if module is not None else items[0]
        if not isinstance(first, nn.Module):
            raise InputError("state dicts alone do not say what computes with them; pass module=… as well")
        architecture = Architecture.from_module(first, name, input_shape)
        rows = []
        for index, item in enumerate(items):
            if isinstance(item, nn.Module):
                _require_same(architecture, item, index)
            state = item.state_dict() if isinstance(item, nn.Module) else item
            try:
                rows.append(architecture.flatten(state))
            except InputError as error:
                raise InputError(f"model {index} differs from model 0: {error}") from None
        return cls(torch.stack(rows), architecture, table)

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
            InputError: no seeds, an unknown initialisation.
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
        pruned = "" if self.packed_masks is None else ", pruned"
        return f"Population({len(self)} × {self.architecture.name}, P = {self.weights.shape[1]}{pruned})"

    def __call__(self, images: Tensor) -> Tensor:
        """Class scores [N, B, classes] of normalised images [B, C, H, W], in evaluation mode.

        Raises:
            InputError: images of a size or a number of channels that the architecture does not take, or stored pixels
                that were not normalised.
        """
        return self.scores(self.weights, images)

    def scores(self, weights: Tensor, images: Tensor) -> Tensor:
        """Class scores of other rows of the same architecture."""
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
        if images.dim() != 4:
            raise InputError(f"images must be [B, C, H, W], got shape {list(images.shape)}")
        size = (int(images.shape[-3]), int(images.shape[-2]), int(images.shape[-1]))
        expected = self.architecture.input_shape
        if expected is not None and size != expected:
            came, wanted = ("×".join(map(str, shape)) for shape in (size, expected))
            raise InputError(f"images are {came}, architecture {self.architecture.name!r} expects {wanted}")
        if self.architecture.program is not None:
            self.architecture.program.shapes(size)

    def __getitem__(
        self, rows: int | slice | Sequence[int] | Sequence[bool] | Tensor | np.ndarray
    ) -> Population:
        """The population of some rows, without history: a number, a slice, positions, or one bool per row.

        A slice shares memory with this population, everything else copies.
        """
        index = rows if isinstance(rows, slice) else _positions(rows, len(self))

        def take(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor[index]

        return Population(
            self.weights[index],
            self.architecture,
            self.models.iloc[index].reset_index(drop=True),
            packed_masks=take(self.packed_masks),
            log_sigma2=take(self.log_sigma2),
            predictions=take(self.predictions),
        )

    def clone(self) -> Population:
        """A copy that shares no memory."""

        def copy(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.clone()

        return Population(
            self.weights.clone(),
            self.architecture,
            self.models.copy(),
            packed_masks=copy(self.packed_masks),
            log_sigma2=copy(self.log_sigma2),
            predictions=copy(self.predictions),
            history=None if self.history is None else self.history.copy(),
        )

    def to(self, device: torch.device | str) -> Population:
        """Move weights, masks and log σ² to a device; returns the population itself. Predictions stay on the CPU.

        Raises:
            InputError: no such device, or not on this machine.
        """
        device = device_of(device, self.weights)
        for name in ("weights", "packed_masks", "log_sigma2"):
            tensor = getattr(self, name)
            if tensor is not None:
                setattr(self, name, tensor.to(device))
        return self

    def with_module(self, module: nn.Module) -> Population:
        """The same population with a module to run it, for architectures that are no chains and came from disk."""
        architecture = replace(self.architecture, template=module)
        _require_same(architecture, module, 0)
        self.architecture = architecture
        return self

    def layers(self) -> tuple[Segment, ...]:
        """The named columns: records with `name`, `slice`, `shape`, `prunable`."""
        return self.architecture.segments

    def to_modules(self) -> list[nn.Module]:
        """One independent `nn.Module` per row, in evaluation mode."""
        modules = []
        for row in self.weights.detach().cpu():
            module = self.architecture.module()
            module.load_state_dict(
                {n: t.clone() for n, t in self.architecture.unflatten(row).items()}, strict=False
            )
            modules.append(module.eval())
        return modules

    @property
    def ids(self) -> list[str]:
        """`twin_id` of every row of a twin population, else `model_id`."""
        return list(self.models["twin_id" if "twin_id" in self.models else "model_id"])

    @property
    def seeds(self) -> Tensor:
        """int64 [N], the key of each model's random numbers."""
        return torch.tensor(self.models["seed"].to_numpy(dtype=np.int64))

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
        zeros = torch.stack(
            [(self.weights[:, s.slice] == 0).sum(1, dtype=torch.int32) for s in segments], dim=1
        ).to(torch.float64)
        sizes = torch.tensor([s.size for s in segments], dtype=torch.float64, device=zeros.device)
        return zeros / sizes if by_layer else zeros.sum(1) / sizes.sum()


def require_numbers(population: Population) -> None:
    """Raise InputError with the first row and layer that hold NaN, if any do."""
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


def _number_rows(models: pd.DataFrame | None, n: int, architecture: Architecture) -> pd.DataFrame:
    table = pd.DataFrame(index=range(n)) if models is None else models.reset_index(drop=True)
    if len(table) != n:
        raise InputError(f"the table has {len(table)} rows for {n} models")
    if "seed" not in table:
        table = table.assign(seed=range(n))
    if "model_id" not in table:
        table = table.assign(model_id=[f"{row:04d}" for row in range(n)])
    if "architecture" not in table:
        table = table.assign(architecture=architecture.name)
    return table


def _require_same(architecture: Architecture, module: nn.Module, index: int) -> None:
    """Raise InputError with the first difference between model 0 and this one, in tensors or in what they compute."""
    other = Architecture.from_module(module, architecture.name, architecture.input_shape)

    def differ(theirs: object, mine: object) -> InputError:
        return InputError(f"model {index} differs from model 0: {theirs} where model 0 {mine}")

    for mine, theirs in zip_longest(architecture.segments, other.segments):
        if mine is None or theirs is None:
            counts = [f"has {len(a.segments)} tensors" for a in (other, architecture)]
            raise differ(f"it {counts[0]}", counts[1])
        if (mine.name, mine.shape) != (theirs.name, theirs.shape):
            raise differ(f"{theirs.name!r} {list(theirs.shape)}", f"has {mine.name!r} {list(mine.shape)}")
    if architecture.program is None or other.program is None:
        kinds = [
            "is a chain" if a.program is not None else f"is no chain ({a.reason})"
            for a in (other, architecture)
        ]
        if architecture.program is not other.program:
            raise differ(f"it {kinds[0]}", kinds[1])
        if repr(architecture.template) != repr(module):
            raise differ(f"it is\n{module}\n", f"is\n{architecture.template}")
        return
    for ours, its in zip_longest(architecture.program.operations, other.program.operations):
        if ours != its:
            raise differ(f"it computes {its or 'nothing more'}", f"computes {ours or 'nothing more'}")


def _positions(rows: int | Sequence[int] | Sequence[bool] | Tensor | np.ndarray, n: int) -> np.ndarray:
    index = np.atleast_1d(np.asarray(rows.cpu() if isinstance(rows, Tensor) else rows))
    return np.arange(n)[index if index.size else index.astype(np.int64)]


def chunks(n: int, size: int) -> Iterator[slice]:
    """Consecutive slices of at most `size` rows."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
