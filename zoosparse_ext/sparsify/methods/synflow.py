"""Synaptic flow: how much of what enters a network a weight passes on to the scores; needs no data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from zoosparse_ext.data import Split
from zoosparse_ext.errors import InputError
from zoosparse_ext.options import option
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.population import Population
from zoosparse_ext.population.program import Shape
from zoosparse_ext.sparsify.gradients import model_gradients, require_finite, thawed
from zoosparse_ext.sparsify.methods.base import Ranking, register

MODELS = 16  # that are run together

# Functions that flatten out where numbers are large, and so stop the flow.
_FLAT = {
    *(
        "celu",
        "elu",
        "gelu",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "log_softmax",
        "logsigmoid",
        "mish",
        "relu6",
    ),
    *("selu", "sigmoid", "silu", "softmax", "softmin", "softplus", "softsign", "tanh"),
}
# Operations that apply such functions within.
_FLAT_WITHIN = {
    *(
        "glu",
        "gru",
        "gru_cell",
        "lstm",
        "lstm_cell",
        "multi_head_attention_forward",
        "rnn_tanh",
        "rnn_tanh_cell",
    ),
    "scaled_dot_product_attention",
}


@register
@dataclass(frozen=True)
class Synflow(Ranking):
    """|w · ∂R/∂w|, R being the sum of the scores of the network of absolute values, for an image of ones.

    >>> import zoosparse_ext as zs
    >>> population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(2))
    >>> twins = zs.magnitude_prune(population, 0.97, score="synflow")
    >>> twins.sparsity()[0].item() == round(0.97 * 2416) / 2416, bool((twins.sparsity(by_layer=True) < 1).all())
    (True, True)

    Weights are pruned in 100 rounds, with scores computed anew in each; the share of weights that stays shrinks by the
    same factor. A layer then is not emptied while another has weights to give, as long as biases are zero, which is how
    most networks begin: a bias lets flow in behind the layers before it.

    Batch norm is in evaluation mode, with absolute values of its statistics as well, as the authors have it.
    Activations, gates and softmax act as ReLU, which passes positive numbers as they are: tanh would stop them. Scores
    are computed in 64 bits, and given as shares of the largest of their model.

    The image has the shape that the architecture states, else that of the training images.

    Args:
        rounds: in how many rounds weights are pruned.

    Source: Tanaka, Kunin, Yamins, Ganguli, "Pruning neural networks without any data by iteratively conserving synaptic
    flow", NeurIPS 2020.
    """

    name: ClassVar[str] = "synflow"
    label: ClassVar[str] = "SynFlow"
    phrase: ClassVar[str] = "synaptic flow pruning"
    source: ClassVar[str] = "Tanaka et al. 2020"

    rounds: int = option(100, "Number of rounds in which weights are pruned.", low=1)

    def score(self, population: Population, images: Split | None, seed: int) -> Tensor:
        """Shares of the largest [N, P].

        Raises:
            InputError: the shape of the images is not known; a layer that applies tanh or softmax within, such as
                recurrent ones and attention; a module that does not compute in 64 bits; scores that are not finite.
        """
        weights = population.weights.detach().double().abs()
        ones = weights.new_ones(1, *_shape(population.architecture, images))
        flow = weights * _slopes(population.architecture, weights, ones).abs()
        largest = flow.amax(1, keepdim=True)
        shares = torch.where(largest == 0, 0.0, flow / largest)
        return require_finite(self.name, population, shares)


def _slopes(architecture: Architecture, weights: Tensor, ones: Tensor) -> Tensor:
    """The gradient [N, P] of the sum of the scores."""
    running = thawed(architecture, torch.float64)
    try:
        with _Passing(architecture):
            return model_gradients(running, weights, lambda _: ones, lambda scores, _: scores.sum(), MODELS)
    except RuntimeError as error:
        if architecture.program is not None:
            raise
        raise InputError(
            f"synflow computes in float64, for an image of ones; {architecture.name!r} cannot: {error}"
        ) from error


def _shape(architecture: Architecture, images: Split | None) -> Shape:
    """Of the image of ones."""
    shape = architecture.input_shape if images is None else tuple(images.images.shape[1:])
    if shape is None:
        raise InputError(
            f"synflow needs the shape of the images, which {architecture.name!r} does not state; pass data=…, or make "
            "the population with input_shape=(channels, height, width)"
        )
    channels, height, width = shape
    if architecture.program is not None:
        architecture.program.shapes((channels, height, width))
    return channels, height, width


class _Passing(TorchFunctionMode):
    """While it lasts, functions that flatten out are ReLU."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name.removesuffix("_") in _FLAT:
            values = args[0] if args else kwargs["input"]
            return torch.relu_(values) if name.endswith("_") else torch.relu(values)
        if name in _FLAT_WITHIN:
            raise InputError(
                f"synflow needs layers that pass large numbers on; {self.architecture.name!r} uses {name}, which "
                "applies tanh, sigmoid or softmax within; take another method"
            )
        return func(*args, **kwargs)
