"""How a population is run forward: on the native engine where it can be, else on the PyTorch reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.devices import device_of, full_float32
from zoosparse_ext.population.forward import forward
from zoosparse_ext.population.modules import forward_modules
from zoosparse_ext.population.program import Shape


@dataclass(frozen=True)
class Plan:
    """A population ready to run on images: what `Population.compile` returns.

    A plan looks at the weights when it runs, so it follows a population that is trained or pruned in place.

    Args:
        architecture: what the columns mean.
        weights: [N, P].
        sparse: what the native engine does with zeros: leave them out where that is faster (``"auto"``), never
            (``"dense"``) or always (``"sparse"``). Scores are the same within rounding.
        device: where it runs, ``"cpu"`` or ``"cuda"``; None: where the weights are.
    """

    architecture: Architecture
    weights: Tensor
    sparse: str = "auto"
    device: torch.device | str | None = None

    def __post_init__(self) -> None:
        if self.sparse not in engine.MODES:
            raise InputError(f"sparse must be 'auto', 'dense' or 'sparse', got {self.sparse!r}")
        device_of(self.device, self.weights)

    @property
    def where(self) -> torch.device:
        """The device it runs on."""
        return device_of(self.device, self.weights)

    def why_not_native(self, images: Tensor) -> str:
        """Why the native engine does not run on such images [B, C, H, W]; empty if it does."""
        program = self.architecture.program
        if program is None:
            return f"it is not a chain: {self.architecture.reason}"
        if self.where.type not in engine.DEVICES or self.weights.dtype != torch.float32:
            return f"it takes float32 on the CPU or on CUDA devices, not {self.weights.dtype} on {self.where}"
        if images.dtype not in (torch.float32, torch.uint8):
            return f"it takes images of float32 or uint8, not {images.dtype}"
        if program.shapes(_shape(images))[-1][1:] != (1, 1) or not program.layers:
            return "it takes programs of layers that end in one score per class"
        return engine.why_unavailable(self.where.type)

    def __call__(self, images: Tensor) -> Tensor:
        """Class scores [N, B, classes] of normalised images [B, C, H, W] that fit the architecture.

        Raises:
            InputError: pixels as they are stored, which were not normalised.
        """
        if not images.is_floating_point():
            raise InputError(
                f"images are {images.dtype}, networks take normalised ones: split.normalized(), or zs.evaluate"
            )
        images = images.to(self.where, self.weights.dtype)
        if self.why_not_native(images):
            return self.reference_scores(slice(None), images)
        channels = images.shape[1]
        return engine.infer_scores(
            self._rows(slice(None)),
            **self._program(images),
            images=images.detach(),
            mean=torch.zeros(channels, device=self.where),
            std=torch.ones(channels, device=self.where),
            sparse=self.sparse,
        )

    def reference_scores(self, rows: slice, images: Tensor) -> Tensor:
        """Scores of some rows on normalised images, always on the PyTorch reference."""
        run = forward_modules if self.architecture.program is None else forward
        with torch.no_grad(), full_float32():
            weights = self._rows(rows)
            return run(self.architecture, weights, images.to(weights))

    def judge(
        self, images: Tensor, mean: Tensor, std: Tensor, labels: Tensor, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions [n, M], summed losses and correct answers [n] of some rows, on the native engine: `ops.infer`."""
        images, mean, std, labels = (tensor.to(self.where) for tensor in (images, mean, std, labels))
        return engine.infer(
            self._rows(rows),
            **self._program(images),
            images=images,
            mean=mean,
            std=std,
            labels=labels,
            sparse=self.sparse,
        )

    def _rows(self, rows: slice) -> Tensor:
        return self.weights[rows].detach().to(self.where)

    def _program(self, images: Tensor) -> dict[str, Tensor]:
        assert self.architecture.program is not None
        table, values = self.architecture.program.encode(_shape(images), self.architecture.offsets)
        return {"program": table, "values": values}


def _shape(images: Tensor) -> Shape:
    return int(images.shape[1]), int(images.shape[2]), int(images.shape[3])
