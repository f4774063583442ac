"""What the page knows of single models, and the dots that carry their names."""

from __future__ import annotations

import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest

from zoosparse_ext.analysis import StudyData
from zoosparse_ext.analysis.series import VD
from zoosparse_ext.analysis.twins import epochs_of_twins
from zoosparse_ext.report import models as models_module
from zoosparse_ext.report import write_report
from zoosparse_ext.report.figures.dots import dots
from zoosparse_ext.report.figures.style import canvas
from zoosparse_ext.report.models import as_json, models_of
from zoosparse_ext.report.questions import analyzed
from zoosparse_ext.report.questions.correlation import original_against_twin


def tiny(**columns: object) -> StudyData:
    models = pd.DataFrame({"model_id": ["a", "b"], "accuracy": [0.9, 0.8]})
    twins = {"twin_id": ["a1", "b1"], "source_id": ["a", "b"], "method": "magnitude", "scope": "global"}
    twins |= {"target": 0.5, "epoch": 0, "sparsity": 0.5, "accuracy": 0.8}
    return StudyData(models, pd.DataFrame(twins | columns))


def test_values_are_those_of_the_tables(study):
    page = models_of(study)
    twins = epochs_of_twins(study).set_index("source_id")
    assert [series["name"] for series in page["series"]] == ["MP global", "MP per layer", VD]
    vd = page["series"][-1]
    assert [step["label"] for step in vd["steps"]] == [f"epoch {epoch}" for epoch in range(26)]
    end = twins[(twins["series"] == VD) & (twins["epoch"] == 25)].loc[study.models["model_id"]]
    for name in ("sparsity", "accuracy", "agreement"):
        assert np.allclose(np.array(vd["steps"][-1][name]) / 1e4, end[name], atol=6e-5)
    assert page["layers"] == ["conv1 3×3, 1→8", "conv2 3×1, 8→6", "linear1 22→10"]
    for layer, values in zip(study.layer_names(), vd["steps"][-1]["layers"], strict=True):
        assert np.allclose(np.array(values) / 1e4, end[f"sparsity_layer.{layer}"], atol=6e-5)


def test_a_model_without_a_twin_is_unknown_there():
    data = tiny()
    step = models_of(dataclasses.replace(data, twins=data.twins[:1]))["series"][0]["steps"][0]
    assert step["accuracy"] == [8000, None] and step["agreement"] == [None, None]


def test_only_what_distinguishes_models_is_a_fact():
    data = tiny()
    models = data.models.assign(seed=[1, 2], activation="tanh", lr=[1e-3, np.nan])
    assert models_of(StudyData(models, data.twins))["facts"] == [{"seed": 1, "lr": 0.001}, {"seed": 2}]


def test_many_models_are_sampled_and_the_page_says_so(study, monkeypatch, tmp_path):
    monkeypatch.setattr(models_module, "MAX_MODELS", 5)
    page = models_of(study)
    assert len(page["ids"]) == len(page["accuracy"]) == 5 and page["total"] == 12
    html = write_report(study, tmp_path).read_text(encoding="utf-8")
    assert "5 of 12 models, drawn at random" in html


def test_json_cannot_end_its_element():
    text = as_json({"ids": ["</script><b>"]})
    assert "<" not in text and json.loads(text) == {"ids": ["</script><b>"]}
    with pytest.raises(ValueError, match="JSON"):
        as_json({"accuracy": [float("nan")]})


def test_every_dot_names_its_model(study):
    svg = original_against_twin(analyzed(study)).svg
    named = re.findall(r'data-model="([^"]+)"', svg)
    assert sorted(set(named)) == sorted(study.models["model_id"])
    assert len(named) == 3 * len(study.models)


def test_dots_without_a_place_shift_no_names():
    svg = original_against_twin(analyzed(tiny(accuracy=[np.nan, 0.8]))).svg
    assert re.findall(r'data-model="([^"]+)"', svg) == ["b"]
    odd = tiny()
    odd = StudyData(odd.models.replace("a", 'x"<&'), odd.twins.replace({"source_id": {"a": 'x"<&'}}))
    assert 'data-model="x&quot;&lt;&amp;"' in original_against_twin(analyzed(odd)).svg


def test_many_dots_are_drawn_smaller_than_few():
    def size(models: int) -> float:
        accuracy = pd.Series(np.linspace(0.5, 0.9, models))
        with canvas() as (_, axes):
            dots(axes, range(models), accuracy, accuracy, ms=4, mew=0.5)
        return axes.lines[0].get_markersize()

    assert size(16) == size(200) == 4
    assert 2 < size(1000) < 3
