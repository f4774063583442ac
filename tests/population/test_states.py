"""State dicts of pruned and parametrized modules give the rows that the modules themselves give."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

import zoosparse_ext as zs
from tests.population import tiny
from tests.population.own_scores import assert_equal
from zoosparse_ext.errors import InputError

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*(weight_norm|spectral_norm).*is deprecated"),
    pytest.mark.filterwarnings("ignore:.*folded into the weight"),
]


class Sequence(nn.Module):
    """A recurrent layer and attention, whose tensors have names of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 6, batch_first=True)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.rnn(x)[0]
        return self.head(self.attention(hidden, hidden, hidden, need_weights=False)[0][:, -1])


def assert_same(ours: zs.Population, theirs: zs.Population) -> None:
    """The same columns in the same order, to the bit."""
    segments = [(s.name, s.shape, s.slice, s.prunable, s.trainable) for s in theirs.layers()]
    assert [(s.name, s.shape, s.slice, s.prunable, s.trainable) for s in ours.layers()] == segments
    assert torch.equal(ours.weights, theirs.weights)
    assert (ours.masks is None) == (theirs.masks is None)
    assert ours.masks is None or torch.equal(ours.masks, theirs.masks)


def pruned_chain() -> nn.Module:
    model = tiny.chain()
    prune.l1_unstructured(model[6], "bias", amount=1)
    for layer in (model[0], model[6]):
        prune.random_unstructured(layer, "weight", amount=5)
    return model


def pruned_sequence() -> nn.Module:
    model = Sequence()
    prune.random_unstructured(model.rnn, "weight_ih_l0", amount=9)
    prune.random_unstructured(model.rnn, "bias_ih_l0", amount=2)
    prune.random_unstructured(model.attention, "in_proj_bias", amount=2)
    return model


@pytest.mark.parametrize(
    ("pruned", "fresh", "example"),
    [
        (pruned_chain, tiny.chain, None),
        (pruned_sequence, Sequence, torch.randn(2, 5, 4)),
    ],
)
def test_pruned_modules_and_their_state_dicts(
    pruned: Callable[[], nn.Module], fresh: Callable[[], nn.Module], example: Tensor | None
) -> None:
    """Pruning moves a parameter to the end of its layer; columns are where those of a module without it are."""
    models = [pruned() for _ in range(3)]
    population = zs.Population.from_modules(models, example=example)
    plain = zs.Population.from_modules([fresh()], example=example)
    assert [s.name for s in population.layers()] == [s.name for s in plain.layers()]
    states = [model.state_dict() for model in models]
    for module in (fresh(), models[0]):
        assert_same(zs.Population.from_modules(states, module, example=example), population)
    stacked = torch.func.stack_module_state(models)
    assert_same(zs.Population.from_modules(stacked, models[0], example=example), population)
    assert_same(zs.Population.from_modules([models[0], *states[1:]], example=example), population)


def test_a_zoo_in_another_order_takes_the_module_back() -> None:
    """Version 0.1 put what was pruned behind what was not."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, tiny.CLASSES))
    swapped = nn.Sequential(nn.Flatten(), nn.Linear(64, tiny.CLASSES))
    weight = swapped[1].weight
    del swapped[1]._parameters["weight"]
    swapped[1].register_parameter("weight", weight)
    population = zs.Population.from_modules([swapped], input_shape=tiny.SHAPE)
    assert [s.name for s in population.layers()] == ["1.bias", "1.weight"]
    images = torch.randn(3, *tiny.SHAPE)
    expected = population(images)
    assert torch.equal(population.with_module(model)(images), expected)
    torch.testing.assert_close(population.to_modules()[0](images)[None], expected)


class Scaled(nn.Linear):
    def __init__(self) -> None:
        super().__init__(64, tiny.CLASSES)
        self.scale = nn.Parameter(torch.ones(tiny.CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * self.scale


def test_parameters_of_a_class_of_the_users() -> None:
    """Those of PyTorch's layer come first; where the others stood, a pruned module does not tell."""
    model = nn.Sequential(nn.Flatten(), prune.random_unstructured(Scaled(), "weight", amount=3))
    population = zs.Population.from_modules([model], input_shape=tiny.SHAPE)
    assert [s.name for s in population.layers()] == ["1.weight", "1.bias", "1.scale"]
    removed = nn.Sequential(nn.Flatten(), prune.remove(model[1], "weight"))
    own = zs.Population.from_modules([removed], input_shape=tiny.SHAPE)
    assert [s.name for s in own.layers()] == [name for name, _ in removed.named_parameters()]


WRAPS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "weight_norm of columns": lambda layer: parametrizations.weight_norm(layer, dim=1),
    "weight_norm of all": lambda layer: parametrizations.weight_norm(layer, dim=None),
    "old weight_norm": nn.utils.weight_norm,
    "old weight_norm of columns": lambda layer: nn.utils.weight_norm(layer, dim=1),
}
OTHERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old spectral_norm": nn.utils.spectral_norm,
}


def wrapped(wrap: Callable[[nn.Module], nn.Module], n: int = 2) -> list[nn.Module]:
    models = tiny.make(tiny.chain, n=n)
    for model in models:
        wrap(model[0])
        wrap(model[6])
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)
    return [model.eval() for model in models]


@pytest.mark.parametrize("wrap", WRAPS)
def test_weight_norm_in_state_dicts(wrap: str) -> None:
    models = wrapped(WRAPS[wrap])
    expected = zs.Population.from_modules(models)
    states = [model.state_dict() for model in models]
    for module in (tiny.chain(), models[0]):
        with pytest.warns(UserWarning, match=r"of '0.weight' was folded into the weight"):
            population = zs.Population.from_modules(states, module)
        assert_same(population, expected)
    assert_equal(population, models)
    assert_same(
        zs.Population.from_modules([nn.DataParallel(m).state_dict() for m in models], tiny.chain()), expected
    )


@pytest.mark.parametrize("wrap", [*WRAPS, *OTHERS])
def test_a_module_that_is_parametrized_in_the_same_way_computes_the_tensors(wrap: str) -> None:
    models = wrapped({**WRAPS, **OTHERS}[wrap])
    expected = zs.Population.from_modules(models)
    before = {name: tensor.clone() for name, tensor in models[0].state_dict().items()}
    states = [model.state_dict() for model in models]
    assert_same(zs.Population.from_modules(states, models[0]), expected)
    assert_same(zs.Population.from_modules(states[1:], models[0]), expected[1:])
    stacked = torch.func.stack_module_state(models)
    assert_same(zs.Population.from_modules(stacked, models[0]), expected)
    for name, tensor in models[0].state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_masks_of_torch_ao_pruning_in_state_dicts() -> None:
    from torch.ao.pruning import WeightNormSparsifier

    models = tiny.make(tiny.chain, n=2)
    for model in models:
        sparsifier = WeightNormSparsifier(sparsity_level=0.5, sparse_block_shape=(1, 1), zeros_per_block=1)
        sparsifier.prepare(model, [{"tensor_fqn": "6.weight"}])
        sparsifier.step()
    states = [model.state_dict() for model in models]  # without the masks, which torch.ao leaves out
    with pytest.raises(
        InputError, match=r"'6.weight' is computed with '6.parametrizations.weight.0.mask', which"
    ):
        zs.Population.from_modules(states, models[0])
    with pytest.raises(
        InputError, match=r"'6.weight' is computed from '6.parametrizations.weight.original' by"
    ):
        zs.Population.from_modules(states, tiny.chain())
    stacked = torch.func.stack_module_state(models)
    assert_same(zs.Population.from_modules(stacked, models[0]), zs.Population.from_modules(models))


@pytest.mark.parametrize("wrap", OTHERS)
def test_what_a_state_dict_does_not_tell(wrap: str) -> None:
    models = wrapped(OTHERS[wrap])
    with pytest.raises(InputError, match=r"'0.weight' is computed from '0\..* pass module=, parametrized as"):
        zs.Population.from_modules([model.state_dict() for model in models], tiny.chain())


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).transpose(-1, -2)


def test_a_parametrization_of_the_users() -> None:
    models = [nn.Sequential(nn.Flatten(), nn.Linear(4, 4)) for _ in range(2)]
    for model in models:
        parametrize.register_parametrization(model[1], "weight", Symmetric())
    expected = zs.Population.from_modules(models, input_shape=(1, 2, 2))
    states = [model.state_dict() for model in models]
    assert_same(zs.Population.from_modules(states, models[1], input_shape=(1, 2, 2)), expected)
    with pytest.raises(
        InputError, match=r"'1.weight' is computed from '1.parametrizations.weight.original' by"
    ):
        zs.Population.from_modules(states, nn.Sequential(nn.Flatten(), nn.Linear(4, 4)))


class Named(nn.Module):
    """Parameters of its own whose names are those that weight norm gives."""

    def __init__(self) -> None:
        super().__init__()
        self.weight_g, self.weight_v = nn.Parameter(torch.ones(3, 1)), nn.Parameter(torch.randn(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ (self.weight_g * self.weight_v).T


def test_parameters_that_are_called_like_those_of_weight_norm() -> None:
    models = [Named() for _ in range(2)]
    example = torch.randn(2, 4)
    expected = zs.Population.from_modules(models, example=example)
    states = [model.state_dict() for model in models]
    assert_same(zs.Population.from_modules(states, Named(), example=example), expected)
