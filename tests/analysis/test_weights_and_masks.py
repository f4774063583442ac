from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoosparse_ext.analysis import (
    Group,
    Layer,
    StudyData,
    bits,
    mask_overlap,
    mask_overlaps,
    mask_overlaps_by_layer,
    popcount,
    ratio_matrix,
    weight_histograms,
    weight_statistics,
)
from zoosparse_ext.analysis.masks import kept_weights
from zoosparse_ext.errors import InputError

ALL = np.array([255], dtype=np.uint8)


def pack(*rows: str) -> np.ndarray:
    """ "1100…" per row, first column first."""
    return np.packbits([[int(bit) for bit in row] for row in rows], axis=1, bitorder="little")


def test_overlap_golden():
    overlap = mask_overlap(pack("11110000", "10000000"), pack("00111100", "01000000"), ALL)
    assert overlap.jaccard.tolist() == pytest.approx([2 / 6, 0.0])
    assert overlap.expected.tolist() == pytest.approx([0.25 / 0.75, (1 / 64) / (2 / 8 - 1 / 64)])


def test_biases_do_not_count():
    # Columns 4–7 are biases, kept by both; only one of four prunable columns is shared.
    overlap = mask_overlap(pack("11001111"), pack("01101111"), pack("11110000")[0])
    assert overlap.jaccard.tolist() == pytest.approx([1 / 3])


def test_empty_masks_and_shapes():
    nothing = pack("00000000")
    assert np.isnan(mask_overlap(nothing, nothing, ALL).jaccard).all()
    assert mask_overlap(nothing[:0], nothing[:0], ALL).jaccard.shape == (0,)
    with pytest.raises(InputError, match="last dimensions must be equal"):
        mask_overlap(nothing, np.zeros((1, 2), dtype=np.uint8), ALL)


@given(st.lists(st.binary(min_size=3, max_size=3), min_size=1, max_size=5))
def test_popcount_equals_unpacking(rows):
    packed = np.array([list(row) for row in rows], dtype=np.uint8)
    expected = np.unpackbits(packed, axis=1).sum(axis=1)
    assert popcount(packed).tolist() == expected.tolist()
    assert bits._by_table(packed).sum(axis=1).tolist() == expected.tolist()  # numpy before 2
    words = np.repeat(packed, 8, axis=1).view(np.uint64)
    assert bits._by_table(words).tolist() == bits.bit_counts(words).tolist()


def test_overlaps_of_a_zoo(data):
    table = mask_overlaps(data)
    assert set(table["relation"]) == {"methods", "ratios", "models"}
    ratios = table[(table["relation"] == "ratios") & (table["first_series"] == "MP global")]
    assert len(ratios) == 36
    # One-shot masks of one model are nested, so their overlap is the ratio of what they keep.
    kept = 436 * (1 - ratios[["first_level", "second_level"]])
    expected = kept["second_level"].round() / kept["first_level"].round()
    np.testing.assert_allclose(ratios["jaccard"], expected, rtol=0.02)
    methods = table[table["relation"] == "methods"]
    assert (methods["first_label"] == "matched").sum() == 2 and (methods["second_series"] == "VD").all()
    # Independent models overlap as chance would have it.
    models = table[table["relation"] == "models"]
    assert (models["pairs"] == 66).all()
    global_ones = models[models["first_series"] == "MP per layer"]
    np.testing.assert_allclose(global_ones["jaccard"], global_ones["expected"].astype(float), atol=0.03)
    matrix = ratio_matrix(table, "MP global")
    assert matrix.shape == (9, 9) and (matrix.to_numpy() == matrix.to_numpy().T).all()


@pytest.mark.parametrize("sizes", [(8,), (3, 13), (1, 7, 24), (5, 0, 6)])
def test_chance_given_the_sparsity_of_each_layer(sizes):
    """Against counting bit by bit, and against the mean over masks drawn with the same sparsity in every layer."""
    generator = np.random.default_rng(sum(sizes))
    ends = np.cumsum(sizes)
    columns = np.arange(ends[-1])
    layers = np.array(
        [(columns >= end - size) & (columns < end) for size, end in zip(sizes, ends, strict=True)]
    )
    first, second = generator.random((2, 6, ends[-1])) < np.repeat(generator.random(len(sizes)), sizes)
    packed = [np.packbits(bits, axis=1, bitorder="little") for bits in (first, second, layers)]
    kept = kept_weights(*packed)
    overlap, by_layer = kept.overlap(), kept.overlap_by_layer()
    for pair in range(6):
        one, other = first[pair], second[pair]
        both, chance = (one & other).sum(), 0.0
        for number, layer in enumerate(layers):
            size, a, b = layer.sum(), (one & layer).sum(), (other & layer).sum()
            expected = a * b / size if size else 0.0
            chance += expected
            if a + b:
                assert (
                    by_layer.jaccard[pair, number]
                    == (one & other & layer).sum() / ((one | other) & layer).sum()
                )
                assert by_layer.expected[pair, number] == pytest.approx(expected / (a + b - expected))
            else:
                assert np.isnan(by_layer.jaccard[pair, number])
        total = one.sum() + other.sum()
        if total:
            assert overlap.jaccard[pair] == both / (total - both)
            assert overlap.expected[pair] == pytest.approx(chance / (total - chance))


def test_masks_that_spare_the_same_layer_overlap_by_chance():
    """Two masks that keep all of a small layer and a tenth of a large one, at random there."""
    generator = np.random.default_rng(0)
    layers = np.zeros((2, 1000), dtype=bool)
    layers[0, :100], layers[1, 100:] = True, True
    bits = np.zeros((2, 200, 1000), dtype=bool)
    bits[:, :, :100] = True
    bits[:, :, 100:] = generator.random((2, 200, 900)).argsort(axis=2) < 90
    first, second = np.packbits(bits, axis=2, bitorder="little")
    by_layer = mask_overlap(first, second, np.packbits(layers, axis=1, bitorder="little"))
    in_all = mask_overlap(first, second, np.packbits(layers.any(axis=0), bitorder="little"))
    assert by_layer.jaccard.tolist() == in_all.jaccard.tolist()
    assert by_layer.jaccard.mean() == pytest.approx(by_layer.expected.mean(), abs=0.005)
    assert set(by_layer.expected) == {109 / 271}  # 100 + 90²/900 of 380 are kept by both
    assert set(in_all.expected) == {36.1 / 343.9}  # 190²/1000


def test_overlaps_by_layer_of_a_zoo(data):
    table = mask_overlaps_by_layer(data)
    assert list(dict.fromkeys(table["layer"])) == data.layer_names()
    total = mask_overlaps(data).query("relation != 'ratios'")
    keys = [name for name in total.columns if name.startswith(("relation", "first_", "second_"))]
    assert len(table) == 3 * len(total) and len(table.groupby(keys, dropna=False)) == len(total)
    matched = table[(table["relation"] == "methods") & (table["first_label"] == "matched")]
    assert matched["layer"].tolist() == 2 * data.layer_names() and (matched["pairs"] == 12).all()
    assert (matched["excess_low"] > 0).all()  # both keep large weights
    models = table[table["relation"] == "models"]
    np.testing.assert_allclose(models["excess"], 0, atol=0.06)
    assert (table["excess_low"] <= table["excess"]).all() and (table["excess"] <= table["excess_high"]).all()
    none = mask_overlaps_by_layer(dataclasses.replace(data, populations={}))
    assert none.empty and list(none.columns) == list(table.columns)


def test_matched_twins_are_compared_at_the_end_of_their_vd_twin(data):
    matched = data.twins["matched"].notna()
    for epoch, pairs in ((np.nan, 2), (25.0, 2), (5.0, 0)):
        twins = data.twins.assign(matched_epoch=np.where(matched, epoch, np.nan))
        table = mask_overlaps(dataclasses.replace(data, twins=twins))
        assert (table["first_label"] == "matched").sum() == pairs


def test_pairs_are_bounded(data):
    assert mask_overlaps(data, max_pairs=7)["pairs"].max() == 7


def test_other_architectures_are_not_compared(data):
    variational = data.populations["variational"][0]
    layers = tuple(dataclasses.replace(layer, name="other." + layer.name) for layer in variational.layers)
    other = dataclasses.replace(variational, layers=layers)
    table = mask_overlaps(
        dataclasses.replace(data, populations={**data.populations, "variational": (other,)})
    )
    assert "methods" not in set(table["relation"])


@pytest.fixture
def tiny() -> StudyData:
    """One model with weights −1, 0.5, 0.5, 2 and a bias of 9; its twin lost the two small ones."""
    layers = (Layer("fc", 0, 4, True), Layer("fc", 4, 5, False))
    weights = np.array([[-1.0, 0.5, 0.5, 2.0, 9.0]], dtype=np.float32)
    original = Group(pd.DataFrame({"model_id": ["a"]}), layers, weights)
    pruned = weights * np.array([1, 0, 0, 1, 1], dtype=np.float32)
    twin = Group(pd.DataFrame({"twin_id": ["a1"], "source_id": ["a"]}), layers, pruned, pack("10011000"))
    twins = pd.DataFrame(
        {"twin_id": ["a1"], "source_id": "a", "method": "magnitude", "scope": "global",
         "target": 0.5, "epoch": 0, "sparsity": 0.5, "accuracy": 0.9}
    )  # fmt: skip
    models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
    return StudyData(models, twins, populations={"original": (original,), "magnitude": (twin,)})


def test_weight_statistics_golden(tiny):
    table = weight_statistics(tiny).set_index("series")
    assert table.loc["original", ["survivors", "mean", "abs_median"]].tolist() == [4, 0.5, 0.75]
    assert table.loc["MP global", ["survivors", "mean", "abs_median"]].tolist() == [2, 0.5, 1.5]


def test_histograms_share_bins_and_count_survivors(tiny):
    table = weight_histograms(tiny, bins=4)
    first, second = (table[table["series"] == name] for name in ("original", "MP global"))
    assert first["left"].tolist() == second["left"].tolist()
    # Bins of width 1 from about −2 to 2; the 99.9 % quantile of |w| leaves the 2 itself outside.
    assert first["count"].tolist() == [1, 0, 2, 0]
    assert second["count"].tolist() == [1, 0, 0, 0]


def test_histograms_integrate_to_one(data):
    table = weight_histograms(data)
    area = (
        (table["density"] * (table["right"] - table["left"])).groupby([table["series"], table["layer"]]).sum()
    )
    original = area.loc["original"]
    assert original.between(0.99, 1.0).all()


def test_models_are_sampled(data):
    assert weight_statistics(data, max_models=2)["survivors"].max() == 2 * 220
    masked = {
        k: tuple(dataclasses.replace(g, packed_masks=None) for g in v) for k, v in data.populations.items()
    }
    without_masks = weight_statistics(dataclasses.replace(data, populations=masked))
    pd.testing.assert_frame_equal(without_masks, weight_statistics(data))
