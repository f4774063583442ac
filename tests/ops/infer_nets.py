"""Programs with weights and images, for the inference engine."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoosparse_ext.population.program import Program, Shape


@dataclass(frozen=True)
class Net:
    """A program with the shape of its images."""

    program: Program
    shape: Shape

    @property
    def offsets(self) -> dict[str, int]:
        offsets, columns = {}, 0
        for layer in self.program.layers:
            offsets[f"{layer.name}.weight"] = columns
            columns += torch.Size(layer.weight_shape).numel()
            offsets[f"{layer.name}.bias"] = columns
            columns += layer.weight_shape[0] if layer.bias else 0
        offsets["end"] = columns
        return offsets

    def encode(self) -> dict[str, Tensor]:
        table, values = self.program.encode(self.shape, self.offsets)
        return {"program": table, "values": values}

    def weights(self, n: int, density: float = 1.0, seed: int = 0) -> Tensor:
        """[n, P], scaled so that activations neither vanish nor saturate."""
        generator = torch.Generator().manual_seed(seed)
        weights = torch.randn(n, self.offsets["end"], generator=generator)
        for layer in self.program.layers:
            first = self.offsets[f"{layer.name}.weight"]
            size = torch.Size(layer.weight_shape)
            weights[:, first : first + size.numel()] /= (size.numel() / size[0]) ** 0.5
        return weights * (torch.rand(weights.shape, generator=generator) < density)

    def images(self, m: int, dtype: torch.dtype = torch.uint8) -> dict[str, Tensor]:
        """Images with mean and std of each channel."""
        generator = torch.Generator().manual_seed(m)
        images = torch.randint(0, 256, (m, *self.shape), dtype=torch.uint8, generator=generator)
        if dtype == torch.float32:
            images = images / 255
        channels = self.shape[0]
        return {
            "images": images,
            "mean": torch.linspace(0.3, 0.5, channels),
            "std": torch.linspace(0.5, 0.3, channels),
        }
