"""Counter-based random numbers: known answers, and that a number depends on its coordinates alone."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from zoosparse_ext import random

ONES = 0xFFFFFFFF
PI = (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344)

# philox4x32 with 10 rounds, from the file kat_vectors of Random123.
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (PI, (0xA4093822, 0x299F31D0), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
def test_philox_known_answers(counter: tuple[int, ...], key: tuple[int, ...], words: tuple[int, ...]) -> None:
    got = random.philox4x32(
        tuple(torch.tensor(c) for c in counter),  # type: ignore[arg-type]
        tuple(torch.tensor(k) for k in key),  # type: ignore[arg-type]
    )
    assert tuple(int(word) for word in got) == words


@given(
    model=st.integers(0, 2**40),
    seed=st.integers(-5, 2**40),
    element=st.integers(0, 40),
    step=st.integers(0, 2**20),
    stream=st.integers(0, 2**18),
    sample=st.integers(0, 6),
)
def test_a_word_is_at_its_coordinates(
    model: int, seed: int, element: int, step: int, stream: int, sample: int
) -> None:
    words = random.random_words(
        torch.tensor([3, model]), seed, element + 1, step=step, stream=stream, samples=sample + 1
    )
    counter = tuple(torch.tensor(c) for c in (element // 4, step, stream, sample))
    key = tuple(torch.tensor(k % 2**32) for k in (model, seed))
    assert words.shape == (2, sample + 1, element + 1)
    assert words[1, sample, element] == random.philox4x32(counter, key)[element % 4]  # type: ignore[arg-type]


@given(
    seeds=st.lists(st.integers(0, 2**33), min_size=2, max_size=8),
    count=st.integers(1, 30),
    samples=st.integers(1, 4),
    data=st.data(),
)
def test_numbers_do_not_depend_on_the_chunk(
    seeds: list[int], count: int, samples: int, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(seeds) - 1))
    for draw in (random.uniform, random.normal):
        whole = draw(torch.tensor(seeds), 7, count, step=3, stream=5, samples=samples)
        parts = [
            draw(torch.tensor(p), 7, count, step=3, stream=5, samples=samples)
            for p in (seeds[:cut], seeds[cut:])
        ]
        assert torch.equal(whole, torch.cat(parts))
        fewer = draw(torch.tensor(seeds), 7, max(1, count - 2), step=3, stream=5)
        assert torch.equal(whole[:, :1, : max(1, count - 2)], fewer)


def test_seeds_count_modulo_two_to_the_32() -> None:
    low, high = torch.tensor([5]), torch.tensor([5 + 2**32])
    assert torch.equal(
        random.permutation(low, 2, 50, epoch=0), random.permutation(high, 2**32 + 2, 50, epoch=0)
    )


@pytest.mark.parametrize(
    "change", [{"seeds": torch.tensor([1])}, {"seed": 1}, {"step": 1}, {"stream": 1}], ids=str
)
def test_other_coordinates_give_other_numbers(change: dict) -> None:
    at = {"seeds": torch.tensor([0]), "seed": 0, "count": 64, "step": 0, "stream": 0}
    assert not (random.random_words(**at) == random.random_words(**(at | change))).any()


def test_streams_of_purposes_and_layers_are_distinct() -> None:
    purposes = (random.DROPOUT, random.VARIATIONAL_NOISE, random.SAMPLE_ORDER)
    streams = {random.stream_id(purpose, layer) for purpose in purposes for layer in range(100)}
    assert len(streams) == 300


def test_moments() -> None:
    uniform = random.uniform(torch.arange(4), 1, 50_000, step=0, stream=0).double()
    normal = random.normal(torch.arange(4), 1, 50_000, step=0, stream=0).double()
    assert uniform.min() > 0 and uniform.max() <= 1
    # Five standard errors of 200,000 draws.
    assert uniform.mean().item() == pytest.approx(0.5, abs=3.3e-3)
    assert uniform.var().item() == pytest.approx(1 / 12, abs=9e-4)
    assert normal.mean().item() == pytest.approx(0, abs=0.0112)
    assert normal.var().item() == pytest.approx(1, abs=0.016)
    assert (normal**4).mean().item() == pytest.approx(3, abs=0.11)
    pairs = normal.view(-1, 2)  # sine and cosine of one draw are independent
    assert (pairs[:, 0] * pairs[:, 1]).mean().item() == pytest.approx(0, abs=0.016)


def test_the_ends_of_the_unit_interval_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lowest word stays above 0, so that no logarithm is infinite; the highest rounds to 1."""
    words = torch.tensor([[[0, 0, 2**32 - 1, 2**32 - 1]]])
    monkeypatch.setattr(random, "random_words", lambda *_, **__: words)
    at = {"seeds": torch.tensor([0]), "seed": 0, "count": 4, "step": 0, "stream": 0}
    assert random.uniform(**at).flatten().tolist() == [2.0**-25, 2.0**-25, 1.0, 1.0]
    assert torch.isfinite(random.normal(**at)).all()


@given(
    count=st.integers(1, 300), epoch=st.integers(0, 1000), seeds=st.lists(st.integers(0, 2**40), min_size=1)
)
def test_permutations_are_permutations(count: int, epoch: int, seeds: list[int]) -> None:
    order = random.permutation(torch.tensor(seeds), 9, count, epoch=epoch)
    assert order.dtype == torch.int32 and order.shape == (len(seeds), count)
    assert torch.equal(order.sort(1).values, torch.arange(count, dtype=torch.int32).expand(len(seeds), -1))


def test_permutations_mix() -> None:
    """Every sample is equally often first; epochs and models have orders of their own."""
    order = random.permutation(torch.arange(4000), 0, 8, epoch=0)
    counts = torch.bincount(order[:, 0].long(), minlength=8)
    assert (counts - 500).abs().max() < 5 * (500 * 7 / 8) ** 0.5
    assert not torch.equal(order, random.permutation(torch.arange(4000), 0, 8, epoch=1))
