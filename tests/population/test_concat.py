"""`zs.concat`: populations of one architecture as one; what does not fit is refused by name."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pandas as pd
import pytest
import torch
from torch import nn

import zoosparse_ext as zs
from tests.population import tiny

DATA = zs.load_dataset("digits").limit(40)


def trained(seeds: range, **options: object) -> zs.Population:
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=seeds)
    zs.train(population, DATA, epochs=2, optimizer=zs.Adam(lr=1e-3), **options)  # type: ignore[arg-type]
    return population


@pytest.fixture(scope="module")
def both() -> tuple[zs.Population, zs.Population]:
    first, second = (
        trained(seeds, keep=(0, 1), keep_optimizer_state=True) for seeds in (range(2), range(2, 5))
    )
    return first, second


def test_rows_follow_one_another_with_all_that_belongs_to_them(
    both: tuple[zs.Population, zs.Population],
) -> None:
    whole = zs.concat(both)
    expected = trained(range(5), keep=(0, 1), keep_optimizer_state=True)
    assert whole.ids == expected.ids and whole.trained_by == expected.trained_by is not None
    assert torch.equal(whole.weights, expected.weights)
    assert torch.equal(whole.predictions, expected.predictions)
    assert whole.optimizer_state is not None and expected.optimizer_state is not None
    assert torch.equal(whole.optimizer_state.first, expected.optimizer_state.first)
    assert torch.equal(whole.optimizer_state.second, expected.optimizer_state.second)
    for epoch in (0, 1):
        assert torch.equal(whole.kept[epoch].weights, expected.kept[epoch].weights)
        assert whole.kept[epoch].ids == expected.ids
    assert whole.history is not None and expected.history is not None
    keys = ["model_id", "epoch"]
    ours, theirs = (table.sort_values(keys, ignore_index=True) for table in (whole.history, expected.history))
    pd.testing.assert_frame_equal(ours, theirs)


def test_the_parts_stay_and_share_no_memory(both: tuple[zs.Population, zs.Population]) -> None:
    before = both[0].weights.clone()
    zs.concat(both).weights.zero_()
    zs.concat(both[:1]).weights.zero_()
    assert torch.equal(both[0].weights, before) and len(both[0].models) == 2


def test_a_whole_can_be_trained_on_from_its_optimizer_state(
    both: tuple[zs.Population, zs.Population],
) -> None:
    whole = zs.concat(both)
    zs.train(whole, DATA, epochs=1, optimizer=zs.Adam(lr=1e-3), optimizer_state="source")
    expected = trained(range(5), keep_optimizer_state=True)
    zs.train(expected, DATA, epochs=1, optimizer=zs.Adam(lr=1e-3), optimizer_state="source")
    assert torch.equal(whole.weights, expected.weights)


def test_twins_of_both_methods_and_learned_matrices(both: tuple[zs.Population, zs.Population]) -> None:
    pruned = zs.concat([zs.magnitude_prune(part, 0.5) for part in both])
    assert torch.equal(pruned.sparsity(), zs.magnitude_prune(zs.concat(both), 0.5).sparsity())
    dropped = [zs.variational_dropout(part, DATA, epochs=1) for part in both]
    whole = zs.concat(dropped)
    assert whole.log_sigma2 is not None and whole.masks is not None
    assert torch.equal(whole.log_sigma2[2:], dropped[1].log_sigma2)
    assert torch.equal(whole.masks[:2], dropped[0].masks)


def test_a_population_without_masks_keeps_every_weight() -> None:
    first, second = tiny.population(n=2), tiny.population(n=3)
    first.models["model_id"] = ["a", "b"]
    pruned = zs.magnitude_prune(first, 0.5)
    masked = zs.Population(pruned.weights, first.architecture, first.models, packed_masks=pruned.packed_masks)
    whole = zs.concat([masked, second])
    assert whole.masks is not None and bool(whole.masks[2:].all())
    assert torch.equal(whole.masks[:2], pruned.masks)


def test_batch_norm_counts_and_statistics() -> None:
    first, second = (tiny.population(tiny.batch_normed, n=n) for n in (2, 3))
    second.models["model_id"] = ["a", "b", "c"]
    second.counts += 7
    whole = zs.concat([first, second])
    assert whole.counts is not None and whole.counts[:, 0].tolist() == [0, 0, 7, 7, 7]
    images = torch.randn(4, *tiny.SHAPE)
    torch.testing.assert_close(whole(images), torch.cat([first(images), second(images)]))


def test_tables_are_joined_by_column() -> None:
    first, second = tiny.population(n=1), tiny.population(n=2)
    first.models["model_id"], second.models["note"] = ["a"], ["x", "y"]
    assert zs.concat([first, second]).models["note"].isna().tolist() == [True, False, False]


class TestMissing:
    @pytest.mark.parametrize(
        "drop, name",
        [
            (lambda part: setattr(part, "history", None), "history"),
            (lambda part: setattr(part, "predictions", None), "predictions"),
            (lambda part: setattr(part, "predictions", part.predictions[:, :-1]), "predictions"),
            (lambda part: setattr(part, "optimizer_state", None), "optimizer_state"),
            (lambda part: part.kept.pop(1), "kept epoch 1"),
            (lambda part: part.learned.update(extra=torch.zeros_like(part.weights)), "learned.extra"),
        ],
        ids=["history", "predictions", "other images", "optimizer", "kept", "learned"],
    )
    def test_refused_by_name_or_dropped_and_told(
        self,
        drop: Callable[[zs.Population], object],
        name: str,
        both: tuple[zs.Population, zs.Population],
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        second = both[1].clone()
        drop(second)
        with pytest.raises(zs.InputError) as error:
            zs.concat([both[0], second])
        assert name in str(error.value)
        with caplog.at_level(logging.WARNING):
            whole = zs.concat([both[0], second], missing="drop")
        assert name in caplog.text
        left = {
            "history": whole.history,
            "predictions": whole.predictions,
            "optimizer_state": whole.optimizer_state,
            "kept epoch 1": whole.kept.get(1),
            "learned.extra": whole.learned.get("extra"),
        }
        assert left[name] is None and len(whole) == 5

    def test_other_trainings_leave_no_record(
        self, both: tuple[zs.Population, zs.Population], caplog: pytest.LogCaptureFixture
    ) -> None:
        second = both[1].clone()
        second.trained_by = {**(second.trained_by or {}), "seed": 7}
        with caplog.at_level(logging.WARNING):
            assert zs.concat([both[0], second]).trained_by is None
        assert "trained_by" in caplog.text


class TestRefused:
    def test_no_populations(self) -> None:
        for nothing in ([], tiny.population(), [tiny.population(), "other"], 3):
            with pytest.raises(zs.InputError):
                zs.concat(nothing)  # type: ignore[arg-type]
        with pytest.raises(zs.InputError):
            zs.concat([tiny.population()], missing="keep")

    def test_an_id_twice_names_both_populations(self) -> None:
        with pytest.raises(zs.InputError) as error:
            zs.concat([tiny.population(n=1), tiny.population(n=2)])
        assert "'0000'" in str(error.value) and "populations 0 and 1" in str(error.value)

    @pytest.mark.parametrize(
        "other",
        [
            lambda: tiny.chain(nn.ReLU),  # the same columns, another function
            lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)),
            tiny.Residual,
        ],
        ids=["activation", "columns", "module"],
    )
    def test_another_architecture(self, other: Callable[[], nn.Module]) -> None:
        second = tiny.population(other, n=1)
        second.models["model_id"] = ["other"]
        with pytest.raises(zs.InputError) as error:
            zs.concat([tiny.population(n=1), second])
        assert "population 1" in str(error.value)

    def test_a_module_that_computes_something_else(self) -> None:
        class Scaled(tiny.Residual):
            factor = 1.0

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return self.factor * super().forward(images).cumsum(1)  # which no program has

        def scaled(factor: float) -> zs.Population:
            module = Scaled()
            module.factor = factor
            population = zs.Population.from_modules([module], input_shape=tiny.SHAPE)
            population.models["model_id"] = [f"times-{factor}"]
            return population

        assert len(zs.concat([scaled(1.0), scaled(1.0)[[0]]][:1])) == 1
        with pytest.raises(zs.InputError) as error:
            zs.concat([scaled(1.0), scaled(2.0)])
        assert "factor" in str(error.value)

    def test_other_prunable_weights(self) -> None:
        first = tiny.population(n=1)
        second = zs.Population.from_modules(tiny.make(tiny.chain, 1), prunable=["0.weight"], input_shape=None)
        second.models["model_id"] = ["other"]
        with pytest.raises(zs.InputError) as error:
            zs.concat([first, second])
        assert "not prunable" in str(error.value)

    def test_another_type_of_weights(self) -> None:
        first = tiny.population(n=1)
        second = zs.Population(
            first.weights.double(), first.architecture, pd.DataFrame({"model_id": ["other"]})
        )
        with pytest.raises(zs.InputError) as error:
            zs.concat([first, second])
        assert "float64" in str(error.value)

    def test_twins_beside_originals(self) -> None:
        first = tiny.population(n=1)
        with pytest.raises(zs.InputError) as error:
            zs.concat([first, zs.magnitude_prune(first, 0.5)])
        assert "twin_id" in str(error.value)

    def test_dropout_rates_of_some_alone(self) -> None:
        first, second = tiny.population(n=1), tiny.population(n=1)
        second.models["model_id"], second.models["dropout"] = ["other"], [0.5]
        with pytest.raises(zs.InputError) as error:
            zs.concat([first, second])
        assert "dropout" in str(error.value)
