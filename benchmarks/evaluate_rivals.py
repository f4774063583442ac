"""What a user would write today to evaluate many networks: loops, `vmap`, compiled code, other runtimes.

Every rival is made ready first and then takes normalised images [M, C, H, W] to predictions uint8 [N, M].
"""

from __future__ import annotations

import copy
import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

try:
    import onnxruntime
except ImportError:  # one rival less
    onnxruntime = None

BATCH = 1000  # images a call; more than that and the activations leave the caches
BATCH_ON_GPU = 100  # of all models at once: 2 GB of activations for 1,000 small ones
Rival = Callable[[Tensor], Tensor]


def rivals(modules: list[nn.Module], images: Tensor, sparsity: float) -> Iterator[tuple[str, Rival]]:
    """Everything that runs here, by name; on a GPU vmap runs the grouped convolutions of cuDNN."""
    yield "module loop", module_loop(modules)
    yield "torch.func.vmap", stacked(modules, compiled=False)
    if images.is_cuda:
        return
    if shutil.which(os.environ.get("CXX", "g++")):  # which torch.compile calls
        yield "torch.compile of vmap", stacked(modules, compiled=True)
    if sparsity:
        yield "module loop, linear layers CSR", module_loop([with_csr(module) for module in modules])
    if onnxruntime is not None:
        yield "ONNX Runtime, a session a model", onnx_sessions(modules, images[:BATCH])


def module_loop(modules: list[nn.Module]) -> Rival:
    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            rows = [torch.cat([module(part).argmax(1) for part in images.split(BATCH)]) for module in modules]
        return torch.stack(rows).to(torch.uint8)

    return run


def stacked(modules: list[nn.Module], compiled: bool) -> Rival:
    state = stack_module_state(modules)[0]

    def scores(state: dict[str, Tensor], images: Tensor) -> Tensor:
        return functional_call(modules[0], state, images)

    forward = vmap(scores, (0, None))
    if compiled:
        forward = torch.compile(forward)

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            parts = images.split(BATCH_ON_GPU if images.is_cuda else BATCH)
            return torch.cat([forward(state, part).argmax(2) for part in parts], 1).to(torch.uint8)

    return run


class CsrLinear(nn.Module):
    """A linear layer whose weight is a sparse matrix in compressed rows."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the state of sparse tensors in PyTorch
            self.weight = linear.weight.detach().to_sparse_csr()
        self.bias = linear.bias.detach()

    def forward(self, inputs: Tensor) -> Tensor:
        return (self.weight @ inputs.t()).t() + self.bias


def with_csr(module: nn.Module) -> nn.Module:
    """The network with its linear layers replaced; convolutions have no sparse kernel in PyTorch."""
    replaced = copy.deepcopy(module)
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    for name in linear:
        parent, _, child = name.rpartition(".")
        setattr(replaced.get_submodule(parent), child, CsrLinear(module.get_submodule(name)))
    return replaced


def onnx_sessions(modules: list[nn.Module], example: Tensor) -> Rival:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    sessions = [
        onnxruntime.InferenceSession(_exported(module, example), options, providers=["CPUExecutionProvider"])
        for module in modules
    ]

    def run(images: Tensor) -> Tensor:
        parts = [part.numpy() for part in images.split(BATCH)]
        rows = [
            torch.cat([torch.from_numpy(session.run(None, {"images": part})[0]).argmax(1) for part in parts])
            for session in sessions
        ]
        return torch.stack(rows).to(torch.uint8)

    return run


def _exported(module: nn.Module, example: Tensor) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the newer exporter takes seconds a model
        torch.onnx.export(module, (example,), buffer, dynamo=False, input_names=["images"])
    return buffer.getvalue()
