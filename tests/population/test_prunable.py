"""Which parameters pruning may remove, and that a sparsity is what was asked for of them."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.prunable import prunable_names, why_kept


class Last(nn.Module):
    """The last step of a recurrent layer, and a head."""

    def __init__(self, layer: nn.Module, width: int, classes: int = 3) -> None:
        super().__init__()
        self.layer, self.head = layer, nn.Linear(width, classes)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.head(self.layer(inputs)[0][:, -1])


class Attention(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True, **options)
        self.head = nn.Linear(4, 3)

    def forward(self, inputs: Tensor) -> Tensor:
        keys = inputs if self.attention.kdim == 4 else inputs.repeat(1, 1, 2)[..., : self.attention.kdim]
        return self.head(self.attention(inputs, keys, keys)[0].mean(1))


SEQUENCE = torch.randn(2, 5, 4)
KINDS: dict[str, tuple[Callable[[], nn.Module], Tensor, set[str]]] = {
    "gru": (
        lambda: Last(nn.GRU(4, 6, batch_first=True), 6),
        SEQUENCE,
        {"layer.weight_ih_l0", "layer.weight_hh_l0", "head.weight"},
    ),
    "projected lstm": (
        lambda: Last(nn.LSTM(4, 6, batch_first=True, proj_size=5), 5),
        SEQUENCE,
        {"layer.weight_ih_l0", "layer.weight_hh_l0", "layer.weight_hr_l0", "head.weight"},
    ),
    "attention": (
        Attention,
        SEQUENCE,
        {"attention.in_proj_weight", "attention.out_proj.weight", "head.weight"},
    ),
    "attention on other keys": (
        lambda: Attention(kdim=8, vdim=8),
        SEQUENCE,
        {
            *("attention.q_proj_weight", "attention.k_proj_weight", "attention.v_proj_weight"),
            *("attention.out_proj.weight", "head.weight"),
        },
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3)),
        torch.randn(2, 1, 4, 4),
        {"0.weight", "3.weight"},
    ),
    "norms": (
        lambda: nn.Sequential(nn.LayerNorm([2, 3]), nn.Flatten(), nn.Linear(6, 3)),
        torch.randn(2, 2, 3),
        {"2.weight"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_matrix_of_weights_is_prunable(kind: str) -> None:
    build, example, expected = KINDS[kind]
    models = tiny.make(build, n=2)
    population = zs.Population.from_modules(models, example=example)
    assert population.architecture.prunable_names == expected
    twins = zs.magnitude_prune(population, 0.9)
    n = sum(models[0].get_parameter(name).numel() for name in expected)
    for module in twins.to_modules():
        zeros = sum(int((module.get_parameter(name) == 0).sum()) for name in expected)
        assert zeros == round(0.9 * n)
    with torch.no_grad():
        own = torch.stack([module(example) for module in twins.to_modules()])
    torch.testing.assert_close(twins(example), own, rtol=1e-4, atol=1e-5)
    assert f"({n} prunable)" in repr(twins)


def embedded() -> nn.Module:
    return nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(12, 3))


TOKENS = torch.randint(0, 50, (2, 3))


def test_embeddings_are_left_out_and_told(caplog: pytest.LogCaptureFixture) -> None:
    models = tiny.make(embedded, n=2)
    for _ in range(2):
        with caplog.at_level(logging.WARNING, logger="zoosparse_ext"):
            population = zs.Population.from_modules(models, name="tokens", example=TOKENS)
    assert [r.getMessage() for r in caplog.records] == [
        "tokens: not prunable are 0.weight (an embedding); prunable=… chooses others"
    ]
    assert population.architecture.prunable_names == {"2.weight"}
    chosen = zs.Population.from_modules(models, name="tokens", example=TOKENS, prunable=["*.weight"])
    assert chosen.architecture.prunable_names == {"0.weight", "2.weight"}
    twins = zs.magnitude_prune(chosen, 0.5)
    assert int((twins.weights[:, :200] == 0).sum()) > 0 and twins.sparsity().tolist() == [0.5, 0.5]


def test_choosing_what_is_prunable() -> None:
    models = tiny.make(tiny.chain, n=2)
    by_name = zs.Population.from_modules(models, prunable="8.weight")
    by_pattern = zs.Population.from_modules(models, prunable=["[0-3].*"])
    by_function = zs.Population.from_modules(models, prunable=lambda name, p: p.dim() == 4)
    assert by_name.architecture.prunable_names == {"8.weight"}
    assert by_pattern.architecture.prunable_names == {"0.weight", "0.bias", "3.weight", "3.bias"}
    assert by_function.architecture.prunable_names == {"0.weight", "3.weight"}
    with pytest.raises(
        InputError, match=r"prunable: no parameter is called '9\.weight'; there are 0\.weight"
    ):
        zs.Population.from_modules(models, prunable="9.weight")
    nothing = zs.Population.from_modules(models, prunable=())
    with pytest.raises(InputError, match="nothing that is prunable, so it has no sparsity"):
        nothing.sparsity()
    with pytest.raises(InputError):
        zs.magnitude_prune(nothing, 0.5)


def test_variational_dropout_of_the_chosen_layers_alone(data: zs.Dataset) -> None:
    """Noise and sparsity are where the prunable weights are, in chains and in modules."""
    for build, name in ((tiny.chain, "8.weight"), (tiny.Residual, "head.weight")):
        population = zs.Population.from_modules(tiny.make(build, n=2), prunable=name)
        twins = zs.variational_dropout(population, data, epochs=1, threshold=-4.0)
        kept = twins.architecture.unflatten(twins.masks)
        assert not kept.pop(name).all()
        assert all(bool(mask.all()) for mask in kept.values())


def test_variational_dropout_of_a_transposed_convolution(data: zs.Dataset) -> None:
    build = lambda: nn.Sequential(  # noqa: E731
        nn.ConvTranspose2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, tiny.CLASSES)
    )
    population = zs.Population.from_modules(tiny.make(build, n=2), example=torch.randn(2, *tiny.SHAPE))
    twins = zs.variational_dropout(population, data, epochs=1, threshold=-4.0)
    assert float(twins.sparsity().min()) > 0


def test_outputs_of_a_transposed_convolution() -> None:
    build = lambda: nn.Sequential(nn.ConvTranspose2d(3, 2, 2), nn.Flatten(), nn.Linear(18, 3))  # noqa: E731
    population = zs.Population.from_modules(tiny.make(build, n=2), example=torch.randn(2, 3, 2, 2))
    for options in ({"sparsity": 0.5, "scope": "output"}, {"sparsity": "2:4"}):
        with pytest.raises(
            InputError, match=r"'0\.weight' is of a transposed convolution.*take scope 'layer'"
        ):
            zs.magnitude_prune(population, **options)
    zs.magnitude_prune(population, 0.5, scope="layer")
    with torch.no_grad():
        population.architecture.unflatten(population.weights)["0.weight"][1, :, 0] = 0.0  # of one output
    assert zs.magnitude_prune(population, 0.0).history.dead_outputs.tolist() == [0, 1]
    stored = zs.Architecture.from_dict(population.architecture.to_dict())
    assert [segment.output_axis for segment in stored.segments] == [1, 0, 0, 0]


def test_variational_dropout_of_recurrent_weights_is_refused(data: zs.Dataset) -> None:
    build = lambda: nn.Sequential(nn.Flatten(2), Last(nn.GRU(64, 3, batch_first=True), 3, tiny.CLASSES))  # noqa: E731
    population = zs.Population.from_modules(tiny.make(build, n=2), example=torch.randn(2, *tiny.SHAPE))
    with pytest.raises(InputError, match=r"cannot put noise on '1\.layer\.weight_ih_l0'.*prunable=…"):
        zs.variational_dropout(population, data, epochs=1)


def test_reasons() -> None:
    module = nn.ModuleDict(
        {"norm": nn.BatchNorm1d(3), "embedding": nn.Embedding(3, 2), "linear": nn.Linear(2, 2)}
    )
    module.token = nn.Parameter(torch.zeros(1, 3))
    module["linear"].weight.requires_grad_(False)
    names = ("norm.weight", "embedding.weight", "linear.weight", "linear.bias", "token")
    assert [why_kept(module, name) for name in names] == [
        *("a norm", "an embedding", "frozen", "a bias", "no matrix of weights"),
    ]
    assert prunable_names(module) == frozenset()


def test_info_tells_both_denominators() -> None:
    population = zs.Population.from_modules(tiny.make(embedded, n=2), example=TOKENS)
    info = zs.Zoo({"original": [population]}, population.models).info()
    assert info["parameters"] == [{"parameters": 239, "prunable": 36, "not_prunable": ["0.weight"]}]
