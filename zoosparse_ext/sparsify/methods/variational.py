"""Variational dropout: noise of learned size on every weight; what is mostly noise goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from zoosparse_ext.errors import InputError, require_kind
from zoosparse_ext.ops import vardrop
from zoosparse_ext.options import option
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import StepNoise
from zoosparse_ext.population.learning import Learned, Matrices, Moments, Perturbed
from zoosparse_ext.population.optimizers import Adam, Optimizer
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.program import Layer
from zoosparse_ext.sparsify.methods.base import register
from zoosparse_ext.sparsify.methods.learned import LearnedMethod
from zoosparse_ext.sparsify.settings import differences
from zoosparse_ext.words import Texts, digest, number_text

MATRIX = "log_sigma2"


@dataclass(frozen=True)
class Preset:
    """How the variational objective is weighed.

    Args:
        initial_log_sigma2: where log σ² starts.
        conv_clamp, linear_clamp: bounds of log α.
        conv_biases: biases of convolutions are variational too.
        kl_weight: of epoch (counted from 0), epochs in all, and training images; multiplies ΣKL beside the mean
            cross-entropy.
    """

    initial_log_sigma2: float
    conv_clamp: float
    linear_clamp: float
    conv_biases: bool
    kl_weight: Callable[[int, int, int], float]

    def clamp(self, weight_shape: Sequence[int]) -> float:
        """Bound of log α in a layer with weights of this shape; those of a linear layer have two axes."""
        return self.conv_clamp if len(weight_shape) > 2 else self.linear_clamp

    def key(self, epochs: int, images: int, scale: float = 1.0) -> str:
        """What identifies it in a checkpoint: values, for functions have no name that outlives a process."""
        weights = [self.kl_weight(epoch, epochs, images) for epoch in range(epochs)]
        if scale != 1:
            weights = [scale * weight for weight in weights]
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "kl_weight"}
        return f"variational {plain} {weights}"


PRESETS: dict[str, Preset] = {
    # The published twin zoos of "Sparsified Model Zoo Twins" (Honegger, Schürholt, Borth, 2023).
    "modelzoos": Preset(
        -10.0, 8.0, 10.0, True, lambda epoch, epochs, images: min(1.0, 0.01 * epoch / epochs)
    ),
    # The objective of Molchanov et al. (2017): the KL once per data set, warmed up over the first fifth.
    "molchanov": Preset(
        -10.0,
        8.0,
        10.0,
        False,
        lambda epoch, epochs, images: min(1.0, (epoch + 1) / max(1.0, epochs / 5)) / images,
    ),
}
# Version 0.1 divided by 25, whatever the epochs of the run: the same for the published zoos, which have 25.
_MODELZOOS_OF_0_1 = replace(
    PRESETS["modelzoos"], kl_weight=lambda epoch, epochs, images: min(1.0, 0.01 * epoch / 25)
)


def preset_of(preset: str | Preset) -> Preset:
    """A preset by its name, or as it is.

    Raises:
        InputError: no preset has that name.
    """
    if isinstance(preset, Preset):
        return preset
    if preset not in PRESETS:
        raise InputError(f"unknown preset {preset!r}; known: {', '.join(PRESETS)}")
    return PRESETS[preset]


def preset_text(
    preset: str | Preset, epochs: int = 25, images: int = 1, threshold: float = vardrop.THRESHOLD
) -> str:
    """The name of a preset, or a digest of one that has none."""
    chosen = preset_of(preset)
    name = next((name for name, known in PRESETS.items() if known == chosen), None)
    return name or f"preset {digest(f'{chosen.key(epochs, images)} {threshold}')}"


@dataclass(frozen=True)
class WithVariances(LearnedMethod):
    """The training of variational dropout: log σ² of every weight is learned, by local reparameterization.

    Methods that train so differ in what they keep.
    """

    optimizer: ClassVar[Optimizer] = Adam(lr=3e-4)

    preset: str | Preset = option(
        "modelzoos", f"Objective: {', '.join(PRESETS)}.", choices=PRESETS, words=preset_text
    )
    kl_scale: float = option(
        1.0,
        "Multiplies the KL weight of the preset.",
        low=0,
        below=math.inf,
        words=lambda scale: f"kl {number_text(scale)}",
    )

    def __post_init__(self) -> None:
        require_kind(f"{self.name}: preset", self.preset, (str, Preset), "the name of a preset, or a Preset")
        super().__post_init__()

    def texts(self) -> Texts:
        """Its options in short words, by the names that zoos have them under."""
        texts = super().texts()
        return {**{name: text for name, text in texts.items() if name != "kl_scale"}, "kl": texts["kl_scale"]}

    @property
    def objective(self) -> Preset:
        """How the objective is weighed, before `kl_scale`."""
        return preset_of(self.preset)

    @property
    def start(self) -> dict[str, float]:
        return {MATRIX: self.objective.initial_log_sigma2}

    def perturb(
        self, architecture: Architecture, weights: Tensor, matrices: Matrices, noise: StepNoise
    ) -> Perturbed:
        return Perturbed(weights, _Variances(self.objective, architecture, matrices[MATRIX]))

    def penalty(self, architecture: Architecture, weights: Tensor, matrices: Matrices) -> Tensor:
        """Σ KL over the variational columns of each model [N]."""
        total = weights.new_zeros(weights.shape[0])
        for _, columns, clamp in _columns(self.objective, architecture):
            weight, log_sigma2 = (_whole_lanes(of[:, columns]) for of in (weights, matrices[MATRIX]))
            kl = vardrop.kl_divergence(vardrop.log_alpha(weight, log_sigma2, clamp))
            total = total + kl[:, : columns.stop - columns.start].sum(1)
        return total

    def penalty_weight(self, epoch: int, epochs: int, images: int) -> float:
        weight = self.objective.kl_weight(epoch, epochs, images)
        return weight if self.kl_scale == 1 else self.kl_scale * weight

    def why_not_native(self, architecture: Architecture) -> str:
        assert architecture.program is not None
        noisy = architecture.prunable_names - architecture.frozen_names
        names = [f"{op.name}.weight" for op in architecture.program.layers]
        quiet = [name for name in names if name not in noisy]
        return (
            f"it puts variational noise on all layers, and {quiet[0]!r} is frozen or not prunable"
            if quiet
            else ""
        )

    def native_arguments(
        self, architecture: Architecture, learned: Learned, moments: Moments
    ) -> dict[str, Any]:
        assert architecture.program is not None
        clamps = [
            self.objective.clamp(op.weight_shape) if isinstance(op, Layer) else 0.0
            for op in architecture.program.operations
        ]
        first, second = moments[MATRIX]
        return {
            "log_sigma2": learned.matrices[MATRIX],
            "sigma_moment1": first,
            "sigma_moment2": second,
            "clamp": torch.tensor(clamps, dtype=torch.float64),
            "kl_weight": learned.weight,
            "variational_bias": self.objective.conv_biases,
        }

    def preset_name(self, epochs: int, images: int) -> str:
        """What a series calls the preset."""
        return preset_text(self.preset, epochs, images)

    def series_options(self, epochs: int, images: int) -> tuple[str, ...]:
        usual = type(self)().texts()
        plain = replace(self, preset="modelzoos").texts()
        return differences({**plain, "preset": self.preset_name(epochs, images)}, usual)

    def training_key(self, epochs: int, images: int) -> str:
        return f"{self.name} {self.objective.key(epochs, images, self.kl_scale)}"

    def earlier(self, epochs: int) -> tuple[LearnedMethod, str] | None:
        """Of version 0.1, whose KL weights were divided by 25."""
        if self.objective != PRESETS["modelzoos"] or self.kl_scale != 1:
            return None
        scale = number_text(epochs / 25)
        told = f"KL weights of version 0.1, 0.01 · epoch / 25; the same as kl_scale={scale}"
        return replace(self, preset=_MODELZOOS_OF_0_1), told


@register
@dataclass(frozen=True)
class VariationalDropout(WithVariances):
    """Noise of learned size on every weight; dropped is what has log α = log σ² − 2·log|w| ≥ threshold.

    Source: Molchanov, Ashukha, Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017.
    """

    name: ClassVar[str] = "variational"
    label: ClassVar[str] = "VD"
    phrase: ClassVar[str] = "variational dropout"
    color: ClassVar[str | None] = "#d55e00"
    source: ClassVar[str] = "Molchanov et al. 2017"

    threshold: float = option(vardrop.THRESHOLD, "A weight is dropped where log α is at least this.")

    def keep(self, trained: Population, ratios: Tensor | None) -> tuple[Tensor, Tensor]:
        kept = torch.ones_like(trained.weights, dtype=torch.bool)
        for segment in trained.architecture.prunable_segments:
            columns, clamp = segment.slice, self.objective.clamp(segment.shape)
            log_sigma2 = trained.learned[MATRIX][:, columns]
            alpha = vardrop.log_alpha(trained.weights[:, columns], log_sigma2, clamp)
            kept[:, columns] = vardrop.keep(alpha, self.threshold)
        return kept, trained.weights

    def preset_name(self, epochs: int, images: int) -> str:
        return preset_text(self.preset, epochs, images, self.threshold)

    def training_key(self, epochs: int, images: int) -> str:
        return f"{self.objective.key(epochs, images, self.kl_scale)} {self.threshold}"


class _Variances:
    """exp(log α)·w² of the variational parameters, see :class:`zoosparse_ext.population.learning.Variances`."""

    def __init__(self, objective: Preset, architecture: Architecture, log_sigma2: Tensor) -> None:
        self.log_sigma2 = log_sigma2
        self.known = {name: (columns, clamp) for name, columns, clamp in _columns(objective, architecture)}

    def of(self, name: str, tensor: Tensor, rows: slice = slice(None)) -> Tensor | None:
        if name not in self.known:
            return None
        columns, clamp = self.known[name]
        alpha = vardrop.log_alpha(tensor, self.log_sigma2[rows, columns].reshape(tensor.shape), clamp)
        return alpha.exp() * tensor.square()


def _columns(objective: Preset, architecture: Architecture) -> list[tuple[str, slice, float]]:
    """Variational parameters: name, columns and the clamp of each."""
    segments = {segment.name: segment for segment in architecture.segments}
    found = []
    for weight in architecture.prunable_segments:
        clamp, (layer, dot, _) = objective.clamp(weight.shape), weight.name.rpartition(".")
        found.append((weight.name, weight.slice, clamp))
        bias = segments.get(f"{layer}{dot}bias")
        if objective.conv_biases and bias is not None and len(weight.shape) > 2:
            found.append((bias.name, bias.slice, clamp))
    return found


def _whole_lanes(rows: Tensor) -> Tensor:
    """Rows [N, k], padded: PyTorch computes what fills no vector by other functions, whose bits would depend on N."""
    return F.pad(rows, (0, -rows.shape[1] % 64))
