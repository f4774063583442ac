from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pandas as pd
import pytest

from zoosparse_ext import analysis
from zoosparse_ext.analysis import StudyData
from zoosparse_ext.errors import InputError

TABLES = [
    analysis.performance_by_sparsity, analysis.compare_measured, analysis.crossover_bracket,
    analysis.robustness, analysis.layer_sparsity, analysis.spared_layers, analysis.layer_trajectories,
    analysis.agreement_by_sparsity, analysis.agreement_of_originals, analysis.correlation_with_original,
    analysis.trajectories, analysis.weight_histograms, analysis.weight_statistics, analysis.mask_overlaps,
    analysis.check_claims, analysis.collapse, analysis.emptied_layers, analysis.losers, analysis.mask_overlaps_by_layer,
    analysis.measured_pairs,
]  # fmt: skip


def test_zoo_is_read_without_copying(zoo, data):
    assert data.n_models == data.sources == 12
    assert data.n_classes == 10 and data.chance == pytest.approx(0.1)
    assert data.denominators() == [(436, 460)] and data.kept_matrices() == []
    assert data.layer_names() == ["module_list.0", "module_list.3", "module_list.6"]
    assert np.shares_memory(data.originals[0].weights, zoo.populations["original"][0].weights.numpy())
    # Two convolutions of 72 and 144 weights and a linear layer of 220; the 24 biases are not prunable.
    assert np.unpackbits(data.originals[0].packed_prunable()).sum() == 436


def test_tables_are_required():
    models = pd.DataFrame({"model_id": ["a", "a"], "accuracy": [0.9, 0.9]})
    with pytest.raises(InputError, match="'a' appears twice"):
        StudyData(models, pd.DataFrame())
    with pytest.raises(InputError, match=r"models table lacks accuracy; .*zs.evaluate\(population, data\)"):
        StudyData(models[["model_id"]], pd.DataFrame())
    twins = pd.DataFrame(
        {"twin_id": ["b1"], "source_id": ["b"], "method": "magnitude", "epoch": 0, "sparsity": 0.5}
    )
    with pytest.raises(InputError, match="twins table lacks accuracy"):
        StudyData(models[:1], twins)
    with pytest.raises(InputError, match="source_id 'b' is not in the models table"):
        StudyData(models[:1], twins.assign(accuracy=0.5))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
class TestEveryTable:
    def test_is_deterministic_and_leaves_its_input_alone(self, table, small):
        before = small.twins.copy(deep=True)
        pd.testing.assert_frame_equal(table(small), table(small))
        pd.testing.assert_frame_equal(small.twins, before)

    def test_survives_no_twins(self, table):
        models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
        full = list(table(StudyData(models, pd.DataFrame())).columns)
        assert full

    def test_survives_a_missing_method(self, table, small):
        for method in ("magnitude", "variational"):
            table(dataclasses.replace(small, twins=small.twins[small.twins["method"] == method]))

    def test_survives_one_model(self, table, small):
        first = small.models["model_id"].iloc[0]
        twins = small.twins[small.twins["source_id"] == first]
        table(dataclasses.replace(small, models=small.models[:1], twins=twins))

    def test_survives_nan_and_constant_accuracy(self, table, small):
        broken = small.twins.copy()
        broken.loc[broken.index % 7 == 0, ["accuracy", "agreement", "kappa", "loss"]] = np.nan
        table(dataclasses.replace(small, twins=broken))
        table(
            dataclasses.replace(
                small, models=small.models.assign(accuracy=0.5), twins=small.twins.assign(accuracy=0.5)
            )
        )

    def test_has_the_same_columns_when_there_is_nothing_to_say(self, table, small):
        if table is analysis.check_claims:
            return
        empty = table(dataclasses.replace(small, twins=small.twins[:0], populations={}))
        assert list(empty.columns) == list(table(small).columns)


def test_every_public_function_has_a_docstring():
    for name in analysis.__all__:
        assert inspect.getdoc(getattr(analysis, name)), name
