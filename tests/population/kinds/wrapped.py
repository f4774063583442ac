"""Modules that were pruned, parametrized, wrapped, frozen or cast, and other things that hold weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.utils.parametrizations as parametrizations
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.pruning import WeightNormSparsifier
from torch.func import stack_module_state
from torch.nn.utils import prune

from tests.population.kinds.hooks import chain
from tests.population.kinds.kind import (
    CLASSES,
    FAST,
    REFUSED,
    RUNS,
    Given,
    Kind,
    features,
    images,
    sequences,
    stirred,
)
from tests.population.kinds.nets import OwnChain, Residual, VisionTransformer


def changed(build: Callable[[], nn.Module], act: Callable[[nn.Module], object]) -> Callable[[], nn.Module]:
    """What makes a module and does something to it."""

    def built() -> nn.Module:
        module = build()
        act(module)
        return module

    return built


def made_of(build: Callable[[], nn.Module], make: Callable[[nn.Module], Any]) -> Callable[[], nn.Module]:
    """What makes a module and another one of it."""
    return lambda: make(build())


def each(*layers: str) -> Callable[[Callable[[nn.Module], object]], Callable[[nn.Module], None]]:
    def on_each(act: Callable[[nn.Module], object]) -> Callable[[nn.Module], None]:
        return lambda model: [act(model.get_submodule(layer)) for layer in layers] and None

    return on_each


on_both = each("0", "4")


def globally(model: nn.Module) -> None:
    layers = [(model[index], "weight") for index in (0, 4, 6)]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=0.3)


def custom(layer: nn.Module) -> None:
    prune.custom_from_mask(layer, "weight", torch.rand_like(layer.weight) < 0.7)


def permanently(layer: nn.Module) -> None:
    prune.remove(prune.l1_unstructured(layer, "weight", 0.3), "weight")


def twice(layer: nn.Module) -> None:
    prune.ln_structured(layer, "weight", 0.2, n=2, dim=0)
    prune.random_unstructured(layer, "weight", 0.2)


def sparsified(model: nn.Module, squash: bool = False) -> None:
    sparsifier = WeightNormSparsifier(sparsity_level=0.4, sparse_block_shape=(1, 1), zeros_per_block=1)
    sparsifier.prepare(model, [{"tensor_fqn": "4.weight"}])
    sparsifier.step()
    if squash:
        sparsifier.squash_mask()


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.head = nn.GRU(6, 5, batch_first=True), nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.gru(x)[0][:, -1])


def old(function: Callable[..., Any]) -> Callable[[nn.Module], None]:
    """Both ways of the time before parametrizations warn that they are."""

    def act(layer: nn.Module) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function(layer)

    return act


def frozen(*layers: str) -> Callable[[nn.Module], None]:
    return each(*layers)(lambda layer: layer.requires_grad_(False))


def cast(dtype: torch.dtype) -> Callable[[nn.Module], nn.Module]:
    return lambda model: model.to(dtype)


def mixed(model: nn.Module) -> None:
    model[0].half()
    model[0].register_forward_pre_hook(lambda module, inputs: (inputs[0].half(),))
    model[0].register_forward_hook(lambda module, inputs, output: output.float())


def strided(model: nn.Module) -> None:
    """Weights that are views of larger tensors."""
    wide = torch.randn(6, 2 * 27)
    model[4].weight = nn.Parameter(wide.t()[::2].t())


def expanded(model: nn.Module) -> None:
    """Weights of which many are one number in memory."""
    model[6].weight = nn.Parameter(torch.randn(CLASSES, 1).expand(CLASSES, 6))


def with_gradients(model: nn.Module) -> None:
    model(images(2)).sum().backward()


def in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return chain()


def lazy(initialized: bool) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        model = nn.Sequential(nn.LazyConv2d(3, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES))
        if initialized:
            model(images(2))
        return model

    return build


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.spectrum, self.head = nn.Parameter(torch.randn(6, dtype=torch.complex64)), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((torch.fft.fft(x) * self.spectrum).real)


class Integers(nn.Module):
    """A parameter of integers that no float32 holds."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, CLASSES)
        self.key = nn.Parameter(torch.randint(2**25, 2**30, (CLASSES,)) * 2 + 1, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x) * (self.key % 7)


class Sparse(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter((torch.randn(CLASSES, 6) * (torch.rand(CLASSES, 6) < 0.4)).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        return (self.matrix @ x.t()).t()


def scripted(model: nn.Module, by: Callable[..., Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and people have it
        return by(model)


def quantized(model: nn.Module) -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)


def prepared(model: nn.Module) -> nn.Module:
    """Ready for training that knows of quantization: observers, which hold state."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.train()
        model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
        ready = quantization.prepare_qat(model)
        ready(images(4))
        return ready


def exported(model: nn.Module) -> nn.Module:
    return torch.export.export(
        model.eval(), (images(3),), dynamic_shapes={"input": {0: torch.export.Dim("batch")}}
    ).module()


def states(prefix: str = "", extra: Mapping[str, Tensor] | None = None) -> Callable[[list[nn.Module]], Given]:
    """State dicts, with something before every name, and one module that says what they belong to."""

    def given(models: list[nn.Module]) -> Given:
        named = [{prefix + name: t for name, t in model.state_dict().items()} for model in models]
        return [{**(extra or {}), **state} for state in named], {"module": models[0]}

    return given


def stacked(models: list[nn.Module]) -> Given:
    return stack_module_state(models), {"module": models[0]}


def stacked_in_one(models: list[nn.Module]) -> Given:
    parameters, buffers = stack_module_state(models)
    return {**parameters, **buffers}, {"module": models[0]}


def one_frozen(models: list[nn.Module]) -> None:
    models[1][4].weight.requires_grad_(False)


def four_times(models: list[nn.Module]) -> None:
    models[1:] = [models[0]] * 3


def on_meta(models: list[nn.Module]) -> None:
    models[2].to("meta")


def averaged(model: nn.Module) -> nn.Module:
    return torch.optim.swa_utils.AveragedModel(model)


def traced_graph(model: nn.Module) -> nn.Module:
    return torch.fx.symbolic_trace(model)


def compiled_in_place(model: nn.Module) -> None:
    model.compile(backend="eager")


PRUNED = {
    "prune.l1_unstructured": on_both(lambda layer: prune.l1_unstructured(layer, "weight", 0.3)),
    "prune.random_structured": on_both(lambda layer: prune.random_structured(layer, "weight", 0.4, dim=0)),
    "prune.custom_from_mask": on_both(custom),
    "prune.global_unstructured": globally,
    "prune of weights and biases": on_both(
        lambda layer: [prune.l1_unstructured(layer, name, 0.3) for name in ("weight", "bias")]
    ),
    "prune, twice in a row": on_both(twice),
}

KINDS = [
    *(Kind(name, changed(chain, act), FAST, masked=True) for name, act in PRUNED.items()),
    Kind("prune.identity", changed(chain, on_both(lambda layer: prune.identity(layer, "weight"))), FAST),
    Kind("prune.remove: weights with zeros", changed(chain, on_both(permanently)), FAST),
    Kind(
        "Pruned weights of a recurrent layer",
        changed(Recurrent, lambda m: prune.l1_unstructured(m.gru, "weight_hh_l0", 0.3)),
        RUNS,
        sequences,
        masked=True,
    ),
    Kind(
        "Pruned layers of a residual network",
        changed(lambda: stirred(Residual()), lambda m: prune.l1_unstructured(m.conv, "weight", 0.3)),
        RUNS,
        masked=True,
    ),
    Kind("torch.ao.pruning", changed(chain, sparsified), FAST, masked=True),
    Kind("torch.ao.pruning after squash_mask", changed(chain, lambda m: sparsified(m, squash=True)), FAST),
    Kind(
        "torch.nn.utils.weight_norm",
        changed(chain, on_both(old(torch.nn.utils.weight_norm))),
        FAST,
        told="weight norm",
    ),
    Kind(
        "torch.nn.utils.spectral_norm",
        changed(chain, on_both(old(torch.nn.utils.spectral_norm))),
        FAST,
        told="spectral norm",
    ),
    Kind(
        "parametrizations.weight_norm",
        changed(chain, on_both(parametrizations.weight_norm)),
        FAST,
        told="parametrization",
    ),
    Kind(
        "parametrizations.spectral_norm",
        changed(chain, on_both(parametrizations.spectral_norm)),
        FAST,
        told="parametrization",
    ),
    Kind(
        "parametrizations.orthogonal",
        changed(chain, each("4")(parametrizations.orthogonal)),
        FAST,
        told="parametrization",
    ),
    Kind(
        "A parametrization on one model of four",
        chain,
        FAST,
        alter=lambda models: parametrizations.weight_norm(models[2][4]) and None,
        told="4.weight",
    ),
    Kind("Frozen layers", changed(chain, frozen("0")), RUNS, untrained=frozenset({"0.weight", "0.bias"})),
    Kind(
        "A model that is all frozen",
        changed(chain, lambda m: m.requires_grad_(False)),
        RUNS,
        chosen=("*.weight",),
        untrained=frozenset(f"{layer}.{kind}" for layer in (0, 4, 6) for kind in ("weight", "bias")),
    ),
    Kind(
        "A frozen parameter in a transformer",
        changed(VisionTransformer, lambda m: m.positions.requires_grad_(False)),
        RUNS,
        untrained=frozenset({"positions"}),
    ),
    Kind(
        "A layer frozen in one model of four",
        chain,
        REFUSED,
        names=("model 1", "4.weight"),
        alter=one_frozen,
    ),
    Kind("DataParallel", made_of(chain, nn.DataParallel), FAST, inner=lambda model: model.module),
    Kind("AveragedModel", made_of(chain, averaged), RUNS),
    Kind(
        "torch.compile",
        made_of(chain, lambda m: torch.compile(m, backend="eager")),
        FAST,
        inner=lambda model: model._orig_mod,
    ),
    Kind("Module.compile", changed(chain, compiled_in_place), FAST),
    Kind("ScriptModule", made_of(chain, lambda m: scripted(m, torch.jit.script)), REFUSED, names=("script",)),
    Kind(
        "A traced module",
        made_of(chain, lambda m: scripted(m, lambda m: torch.jit.trace(m, images(2)))),
        REFUSED,
        names=("script",),
    ),
    Kind(
        "A scripted activation in a module",
        changed(chain, lambda m: m.__setitem__(1, scripted(m[1], torch.jit.script))),
        RUNS,
    ),
    Kind(
        "A scripted layer with weights in a module",
        changed(chain, lambda m: m.__setitem__(4, scripted(m[4], torch.jit.script))),
        REFUSED,
        names=("script", "4"),
    ),
    Kind("A torch.fx graph", made_of(chain, traced_graph), RUNS),
    Kind("An exported program", made_of(chain, exported), REFUSED, names=("GraphModule",)),
    Kind("Lazy layers", lazy(initialized=False), REFUSED, names=("0.weight", "lazy")),
    Kind("Lazy layers that have seen a batch", lazy(initialized=True), FAST),
    Kind("Quantized layers", made_of(chain, quantized), REFUSED, names=("4", "quantized")),
    Kind("Observers of quantization", made_of(chain, prepared), REFUSED, names=("'0'", "quantized")),
    Kind("Complex weights", Complex, REFUSED, features, names=("spectrum", "complex64")),
    Kind("A parameter of integers", Integers, REFUSED, features, names=("key", "int64")),
    Kind("A sparse parameter", Sparse, REFUSED, features, names=("matrix", "sparse")),
    Kind("float64 weights", changed(chain, cast(torch.float64)), RUNS, told="float64"),
    Kind("float16 weights", changed(chain, cast(torch.float16)), RUNS, tolerance=1e-2, told="float16"),
    Kind("bfloat16 weights", changed(chain, cast(torch.bfloat16)), RUNS, tolerance=5e-2, told="bfloat16"),
    Kind(
        "bfloat16 weights of a network that is no chain",
        changed(VisionTransformer, cast(torch.bfloat16)),
        RUNS,
        tolerance=1e-1,
        told="bfloat16",
    ),
    Kind(
        "Layers of several types of float",
        changed(chain, mixed),
        REFUSED,
        names=("0", "type"),
        tolerance=1e-2,
    ),
    Kind("channels_last", changed(chain, lambda m: m.to(memory_format=torch.channels_last)), FAST),
    Kind("Weights that are views", changed(chain, strided), FAST),
    Kind(
        "Weights that repeat one number in memory",
        changed(chain, expanded),
        REFUSED,
        names=("6.weight", "stride"),
    ),
    Kind("Weights with gradients", changed(chain, with_gradients), FAST),
    Kind("Weights made in inference mode", in_inference_mode, FAST),
    Kind(
        "Modules in training mode, with dropout",
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Dropout(0.5), nn.Linear(9, CLASSES)
        ).train(),
        FAST,
    ),
    Kind("One model on the meta device", chain, REFUSED, names=("model 2", "meta"), alter=on_meta),
    Kind("All models on the meta device", changed(chain, lambda m: m.to("meta")), REFUSED, names=("meta",)),
    Kind("State dicts with their module", chain, FAST, given=states()),
    Kind("State dicts with counts of batches", lambda: stirred(Residual()), RUNS, given=states()),
    Kind("State dicts of DataParallel", chain, FAST, given=states("module.")),
    Kind("State dicts of torch.compile", chain, FAST, given=states("_orig_mod.")),
    Kind(
        "State dicts without a module",
        chain,
        REFUSED,
        names=("module=",),
        given=lambda models: ([model.state_dict() for model in models], {}),
    ),
    Kind(
        "State dicts of pruned modules",
        changed(chain, PRUNED["prune.l1_unstructured"]),
        FAST,
        masked=True,
        given=states(),
    ),
    Kind("stack_module_state", chain, FAST, given=stacked),
    Kind(
        "stack_module_state, parameters and buffers in one",
        lambda: stirred(Residual()),
        RUNS,
        given=stacked_in_one,
    ),
    Kind("One module four times", OwnChain, FAST, alter=four_times),
    Kind("A layer that all models share", OwnChain, RUNS, alter=lambda models: _shared(models)),
]


def _shared(models: list[nn.Module]) -> None:
    for model in models[1:]:
        model.conv1 = models[0].conv1
