"""`WeightsDataset`: the rows of a zoo as a data set, for learning on the weights of networks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import Dataset

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.permutations import HiddenPermutations
from zoosparse_ext.population.population import Population, chunks
from zoosparse_ext.zoo.properties import property_values
from zoosparse_ext.zoo.row_tables import choose_rows
from zoosparse_ext.zoo.store import Zoo
from zoosparse_ext.zoo.tokens import Tokens

SPLITS = ("train", "val", "test")
_KINDS = ("weights", "tokens", "layers")
_CHUNK = 4096  # rows read at a time for mean and deviation

Sample = tuple[Tensor | dict[str, Tensor], Tensor]


class WeightsDataset(Dataset[Sample]):
    """The models of a zoo as samples: their weights, and properties to predict from them.

    Predict the accuracy of a network from its weights:

    >>> import zoosparse_ext as zs
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(20))
    >>> population.models["accuracy"] = np.linspace(0.1, 0.9, 20)
    >>> zoo = zs.Zoo({"original": [population]}, population.models)  # or the folder of a zoo
    >>> train = zs.WeightsDataset(zoo, split="train", properties=["accuracy"], augment=True)
    >>> test = zs.WeightsDataset(zoo, split="test", properties=["accuracy"])
    >>> loader = torch.utils.data.DataLoader(train, batch_size=4, shuffle=True)
    >>> weights, accuracy = next(iter(loader))
    >>> weights.shape, accuracy.shape
    (torch.Size([4, 2464]), torch.Size([4, 1]))

    A model for sequences takes one token per unit, and what it generates becomes networks again:

    >>> train = zs.WeightsDataset(zoo, what="tokens")
    >>> tokens, _ = train[0]  # [T, D]
    >>> tokens.shape, train.tokens.mask.shape, train.tokens.positions.shape
    (torch.Size([48, 201]), torch.Size([48, 201]), torch.Size([48, 3]))
    >>> train.to_population(tokens[None] + 0.01 * torch.randn(5, 48, 201))
    Population(5 × cnn-s-tanh, P = 2464 (2416 prunable))

    A model and its twins are always in the same split, and a model stays in its split when the zoo grows: the split
    follows from `model_id` and `seed` alone. Weights stay in the files of the zoo, mapped into memory, until a sample
    is asked for; standardisation reads the training rows once.

    Args:
        zoo: a zoo, or its folder.
        split: ``"train"``, ``"val"``, ``"test"``, or ``"all"``.
        epochs: ``"last"``, ``"all"``, or a sequence of epochs, as far as the zoo holds them.
        what: a sample's weights as ``"weights"``, a row [P]; ``"tokens"`` [T, D], see
            :class:`~zoosparse_ext.zoo.tokens.Tokens`; or ``"layers"``, tensors by their names in the state dict.
        properties: columns of the zoo's tables: of the history or of the twins at the epoch of the sample, else of the
            models. Text (``"activation"``) becomes the number of its class in `classes`. The `method` and `series` of
            an original is ``"original"``, its `sparsity` 0.0, or the share of zeros if it has masks.
        populations: ``"original"``, the names of several, such as ``["original", "variational"]``, or ``"all"``.
        architecture: name; needed where the populations have layers of several shapes.
        augment: permute the hidden units at random whenever a sample is asked for; the function stays the same. The
            numbers are those of PyTorch, seeded by ``torch.manual_seed`` and, in workers, by the `DataLoader`.
        standardise: shift and scale every layer to mean 0 and deviation 1 over the training split.
        fractions: of models in train, val and test.
        seed: of the split.
        token_size: D; default: the largest number of weights of a unit.

    Attributes:
        table: one row per sample: `population`, `model_id`, `twin_id`, `epoch`, `row` within the population.
        properties: their names, in the order of the second element of a sample.
        classes: of properties that are text, in the order of their numbers.
        architecture: what the columns mean.
        tokens: how rows become tokens; None unless ``what="tokens"``.
        mean, std: float32 [P], constant within a layer; 0 and 1 unless `standardise`.

    Raises:
        InputError: an unknown split, population, property or kind; fractions that do not sum to 1; a split without
            models; layers of several shapes; `augment` for networks that are no chains.
        StoreError: the zoo is damaged.
    """

    def __init__(
        self,
        zoo: Zoo | str | os.PathLike[str],
        split: str = "train",
        epochs: str | Sequence[int] = "last",
        what: str = "weights",
        properties: Sequence[str] = (),
        *,
        populations: str | Sequence[str] = "original",
        architecture: str | None = None,
        augment: bool = False,
        standardise: bool = True,
        fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
        token_size: int | None = None,
    ) -> None:
        if split not in (*SPLITS, "all"):
            raise InputError(f"split is {split!r}, expected {', '.join(SPLITS)} or all")
        if what not in _KINDS:
            raise InputError(f"what is {what!r}, expected {', '.join(_KINDS)}")
        zoo = zoo if isinstance(zoo, Zoo) else Zoo.open(os.fspath(zoo))
        every = choose_rows(zoo, populations, epochs, architecture)
        self.architecture: Architecture = every.architecture
        self.what = what
        self.properties = tuple(properties)
        self._parts = every.parts
        values, self.classes = property_values(zoo, every, self.properties)
        where = split_of(every.table["model_id"], fractions, seed)
        chosen = np.arange(len(where)) if split == "all" else np.flatnonzero(where == split)
        if len(chosen) == 0:
            count = every.table["model_id"].nunique()
            raise InputError(
                f"split {split!r} of {count} models is empty; choose other fractions or another seed"
            )
        self._places = every.places[chosen]  # [len, 2]: part, row within it
        self._values = values[chosen]
        self.table = every.table.iloc[chosen].reset_index(drop=True)
        self.tokens = Tokens(self.architecture, token_size) if what == "tokens" else None
        self._permutations = HiddenPermutations(self.architecture) if augment else None
        self.mean, self.std = torch.zeros(every.width), torch.ones(every.width)
        if standardise:
            self.mean, self.std = self._measure(every.places[where == "train"])

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Sample:
        """Weights as `what` says, and the properties, float32 [len(properties)]."""
        part, row = self._places[index]
        weights = self._parts[part][row]
        if self._permutations is not None:
            weights = weights[self._permutations.random()]
        return self.encode(weights), self._values[index]

    def encode(self, rows: Tensor) -> Tensor | dict[str, Tensor]:
        """Rows of weights [..., P] in the form of samples, standardised as they are."""
        rows = (rows - self.mean) / self.std
        if self.tokens is not None:
            return self.tokens.of(rows)
        return self.architecture.unflatten(rows) if self.what == "layers" else rows

    def decode(self, samples: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Rows of weights [..., P] of what :meth:`encode` gives, or of what a generative model made."""
        if isinstance(samples, Mapping):
            flat = []
            for segment in self.architecture.segments:
                tensor = samples[segment.name]  # [..., *shape]
                flat.append(tensor.reshape(*tensor.shape[: tensor.dim() - len(segment.shape)], segment.size))
            rows = torch.cat(flat, dim=-1)
        else:
            rows = samples if self.tokens is None else self.tokens.rows(samples)
        return rows * self.std + self.mean

    def to_population(self, samples: Tensor | Mapping[str, Tensor]) -> Population:
        """The networks of a batch of samples, to run, train, prune or save."""
        return Population(self.decode(samples).detach().contiguous(), self.architecture)

    def _measure(self, places: np.ndarray) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each layer over rows, as float32 [P]."""
        if len(places) == 0:
            raise InputError(
                "the training split is empty, so its mean and deviation are unknown; choose other fractions or another "
                "seed, or standardise=False"
            )
        total = torch.zeros(2, len(self.mean), dtype=torch.float64)  # sums and sums of squares of columns
        for number in np.unique(places[:, 0]):
            rows = places[places[:, 0] == number, 1]
            for chunk in chunks(len(rows), _CHUNK):
                weights = self._parts[number][rows[chunk]].double()
                total += torch.stack([weights.sum(0), weights.square().sum(0)])
        mean, std = torch.zeros_like(self.mean), torch.ones_like(self.std)
        layers: dict[str, list[Tensor]] = {}
        for segment in self.architecture.segments:
            layers.setdefault(segment.layer, []).append(torch.arange(segment.slice.start, segment.slice.stop))
        for parts in layers.values():
            columns = torch.cat(parts)
            first, second = total[:, columns].sum(1) / (len(columns) * len(places))
            deviation = (second - first**2).clamp(min=0).sqrt()
            mean[columns] = first.float()
            std[columns] = deviation.float() if deviation > 0 else 1.0
        return mean, std


def split_of(
    model_ids: pd.Series, fractions: tuple[float, float, float] = (0.7, 0.15, 0.15), seed: int = 0
) -> np.ndarray:
    """The split of every model: ``"train"``, ``"val"`` or ``"test"``, decided by a hash of its name.

    >>> split_of(pd.Series(["a", "d", "g", "a"])).tolist()
    ['test', 'train', 'val', 'test']

    Raises:
        InputError: fractions that are negative or do not sum to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise InputError(f"fractions are {fractions}, expected three shares of 0 or more that sum to 1")
    bounds = np.cumsum(fractions)[:2] + 1e-12  # 0.7 + 0.3 is a little less than 1
    inverse, unique = pd.factorize(model_ids)
    hashes = [hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest() for name in unique]
    shares = np.array([int.from_bytes(digest, "little") / 2**64 for digest in hashes])
    return np.array(SPLITS)[np.searchsorted(bounds, shares, side="right")][inverse]
