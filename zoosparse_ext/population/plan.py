"""How a population is run forward: on the native engine where it can be, else on the PyTorch reference."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import forward_ad

from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import infer as engine
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.devices import device_of, full_float32
from zoosparse_ext.population.folding import Folded, fold
from zoosparse_ext.population.forward import forward
from zoosparse_ext.population.modules import forward_modules
from zoosparse_ext.population.program import Linear, Program


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
        chain = self._chain()
        if isinstance(chain, str):
            return chain
        if self.where.type not in engine.DEVICES or self.weights.dtype != torch.float32:
            return f"it takes float32 on the CPU or on CUDA devices, not {self.weights.dtype} on {self.where}"
        if images.dtype not in (torch.float32, torch.uint8):
            return f"it takes images of float32 or uint8, not {images.dtype}"
        images = as_images(images, chain[0])
        try:
            ends_in_scores = images.dim() == 4 and chain[0].scores(tuple(images.shape[1:])) is not None
        except InputError as error:
            return f"it takes images [B, C, H, W] that fit: {error}"
        if not ends_in_scores:
            return "it takes images [B, C, H, W], and programs that end in one score per class"
        return engine.why_unavailable(self.where.type)

    def _chain(self) -> tuple[Program, Folded | None] | str:
        """The chain that the native engine runs, and how its columns are made; or why there is none."""
        program = self.architecture.program
        if program is None:
            return f"it is not a program: {self.architecture.reason}"
        if program.is_chain:
            return program, None
        folded = fold(program)
        return f"it lacks {folded}" if isinstance(folded, str) else (folded.program, folded)

    def __call__(self, images: Tensor) -> Tensor:
        """Class scores [N, B, classes] of normalized images [B, C, H, W] that fit the architecture.

        Differentiable in images and weights: where one of them asks for gradients, or inside a transform of
        `torch.func`, scores come from the PyTorch reference.

        Raises:
            InputError: pixels as they are stored, which were not normalized.
        """
        if images.dtype == torch.uint8:
            raise InputError(
                f"images are {images.dtype}, networks take normalized ones: split.normalized(), or zs.evaluate"
            )
        images = images.to(self.where, self.weights.dtype if images.is_floating_point() else None)
        if _is_differentiated(self.weights, images):
            return self._reference(self.weights.to(self.where), images)
        if self.why_not_native(images):
            return self.reference_scores(slice(None), images)
        native = self._native(slice(None), images)
        channels = images.shape[1]
        return engine.infer_scores(
            **native,
            mean=torch.zeros(channels, device=self.where),
            std=torch.ones(channels, device=self.where),
            sparse=self.sparse,
        )

    def reference_scores(self, rows: slice, images: Tensor) -> Tensor:
        """Scores of some rows on normalized images, always on the PyTorch reference, without gradients."""
        with torch.no_grad():
            weights = self._rows(rows)
            return self._reference(weights, images.to(weights) if images.is_floating_point() else images)

    def _reference(self, weights: Tensor, images: Tensor) -> Tensor:
        program = self.architecture.program
        with full_float32():
            if program is None:
                return forward_modules(self.architecture, weights, images)
            return forward(self.architecture, weights, as_images(images, program), each=False)

    def judge(
        self, images: Tensor, mean: Tensor, std: Tensor, labels: Tensor, rows: slice = slice(None)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Predictions [n, M], summed losses and correct answers [n] of some rows, on the native engine: `ops.infer`."""
        images, mean, std, labels = (tensor.to(self.where) for tensor in (images, mean, std, labels))
        return engine.infer(
            **self._native(rows, images),
            mean=mean,
            std=std,
            labels=labels,
            sparse=self.sparse,
        )

    def _rows(self, rows: slice) -> Tensor:
        return self.weights[rows].detach().to(self.where)

    def _native(self, rows: slice, images: Tensor) -> dict[str, Tensor]:
        """Weights, table and images as the native engine takes them."""
        chain = self._chain()
        assert not isinstance(chain, str)
        program, folded = chain
        weights = self._rows(rows)
        if folded is not None:
            weights = folded.rows(self.architecture, weights)
        images = as_images(images.detach(), program)
        offsets = self.architecture.offsets if folded is None else folded.offsets
        table, values = program.encode(tuple(images.shape[1:]), offsets)
        return {"weights": weights, "program": table, "values": values, "images": images}


def where_it_runs(architecture: Architecture) -> str:
    """What runs an architecture that is no chain, and why; empty for chains, which native engines run.

    >>> from torch import nn
    >>> where_it_runs(Architecture.from_module(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))))
    "evaluated natively, trained on the reference executor: native engines lack batch_norm '1'"
    """
    program = architecture.program
    if program is None:
        return f"run as a module: {architecture.reason}"
    if program.is_chain:
        return ""
    natively = "" if isinstance(fold(program), str) else "evaluated natively, trained "
    return f"{natively}on the reference executor: native engines lack {program.why_not_chain}"


def as_images(inputs: Tensor, program: Program) -> Tensor:
    """Features [B, F] as the images [B, F, 1, 1] of a chain that begins with a linear layer; others as they are."""
    flat = inputs.dim() == 2 and program.is_chain and isinstance(program.layers[0], Linear)
    return inputs[:, :, None, None] if flat else inputs


def _is_differentiated(*tensors: Tensor) -> bool:
    """Whether somebody asks for gradients, or a transform of `torch.func` is under way, which the engine cannot see."""
    if torch._C._functorch.peek_interpreter_stack() is not None or forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
