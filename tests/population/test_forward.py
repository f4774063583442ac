"""The reference executor against `nn.Module`s, in float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tests.population import tiny
from zoosparse_ext import random
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.forward import StepNoise, forward
from zoosparse_ext.population.program import ACTIVATIONS, Activation
from zoosparse_ext.population.steps import TrainState


@st.composite
def chains(draw: st.DrawFn) -> tuple[nn.Module, tuple[int, int, int]]:
    """A module of up to five layers that is a chain, and the images it takes."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(4, 9)), draw(st.integers(4, 9)))
    modules: list[nn.Module] = []
    hidden = torch.zeros(1, *shape)
    for _ in range(draw(st.integers(1, 5))):
        _, channels, height, width = hidden.shape
        kernel = (draw(st.integers(1, min(3, height))), draw(st.integers(1, min(3, width))))
        stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        padding = (draw(st.integers(0, kernel[0] // 2)), draw(st.integers(0, kernel[1] // 2)))
        modules.append(
            draw(
                st.sampled_from(
                    [
                        nn.Conv2d(
                            channels, draw(st.integers(1, 4)), kernel, stride, padding, bias=stride[0] == 1
                        ),
                        nn.MaxPool2d(kernel, stride, padding),
                        nn.AvgPool2d(kernel, stride),
                        Activation(draw(st.sampled_from(list(ACTIVATIONS)))).module(),
                        nn.Dropout(0.5),
                    ]
                )
            )
        )
        hidden = modules[-1](hidden)
    if draw(st.booleans()):
        modules.append(nn.AdaptiveAvgPool2d(1))
        hidden = modules[-1](hidden)
    return nn.Sequential(*modules, nn.Flatten(), nn.Linear(hidden.numel(), 3)), shape


@settings(max_examples=40)
@given(chain=chains(), n=st.integers(1, 3), batch=st.integers(1, 4), shared=st.booleans())
def test_scores_and_gradients_of_random_chains(
    chain: tuple[nn.Module, tuple[int, int, int]], n: int, batch: int, shared: bool
) -> None:
    module, shape = chain
    module = module.double().eval()
    architecture = Architecture.from_module(module, input_shape=shape)
    weights = torch.randn(n, architecture.n_parameters, dtype=torch.float64, requires_grad=True)
    images = torch.randn(*(() if shared else (n,)), batch, *shape, dtype=torch.float64)
    scores = forward(architecture, weights, images)
    assert scores.shape == (n, batch, 3)
    expected = [
        torch.func.functional_call(module, architecture.unflatten(row), images if shared else images[index])
        for index, row in enumerate(weights)
    ]
    torch.testing.assert_close(scores, torch.stack(expected))
    direction = torch.randn_like(scores)
    got, wanted = (
        torch.autograd.grad((result * direction).sum(), weights) for result in (scores, torch.stack(expected))
    )
    torch.testing.assert_close(got, wanted)


def test_dropout_draws_the_documented_numbers() -> None:
    """Element e of sample b is dropped where its uniform number lies below the model's own rate."""
    module = nn.Sequential(nn.Dropout(0.9), nn.Flatten(), nn.Linear(32, 32, bias=False))
    architecture = Architecture.from_module(module)
    weights = torch.eye(32).flatten().expand(3, -1)
    images = torch.rand(5, 2, 4, 4) + 1.0
    rates = torch.tensor([0.0, 0.25, 0.75])
    seeds = torch.tensor([7, 2**33 + 8, 9])
    noise = StepNoise(seeds, seed=3, step=11, dropout=rates)
    hidden = forward(architecture, weights, images, noise=noise)
    stream = random.stream_id(random.DROPOUT, 0)
    kept = random.uniform(seeds, 3, 32, step=11, stream=stream, samples=5) >= rates.view(-1, 1, 1)
    expected = torch.where(kept, images.flatten(1) / (1 - rates.view(-1, 1, 1)), 0.0)
    torch.testing.assert_close(hidden, expected)
    assert kept[0].all() and not kept[2].all()
    by_program = forward(architecture, weights, images, noise=StepNoise(seeds, seed=3, step=11))
    assert (by_program == 0).float().mean().item() == pytest.approx(0.9, abs=0.06)
    assert torch.equal(forward(architecture, weights, images), images.flatten(1).expand(3, -1, -1))


def test_state_of_some_rows_is_a_view() -> None:
    state = TrainState.fresh(tiny.population().weights, ["log_sigma2"])
    part = state.at_rows(slice(1, 3))
    part.learned["log_sigma2"][1].fill_(1.0)
    assert state.learned["log_sigma2"][1].sum(1).tolist() == [0.0, 138.0, 138.0]
