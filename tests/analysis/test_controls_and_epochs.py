"""Controls beside their twins, and predictions at the last and at earlier epochs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from zoosparse_ext.analysis import StudyData, epochs_of_twins, final_twins
from zoosparse_ext.analysis.groups import Group
from zoosparse_ext.analysis.twins import control_twins, series_of
from zoosparse_ext.errors import InputError

MODELS = pd.DataFrame({"model_id": ["a", "b"], "accuracy": [0.90, 0.80]})


def rows(series: str, accuracy: dict[int, list[float]], **columns: object) -> pd.DataFrame:
    """A twin of each of the two models: accuracy by epoch."""
    method, _, scope = series.partition("-")
    names = MODELS["model_id"]
    parts = [
        pd.DataFrame(
            {"twin_id": names + f"/{series}", "source_id": names, "epoch": epoch, "accuracy": values}
        )
        for epoch, values in accuracy.items()
    ]
    first = {
        "method": method,
        "scope": scope.partition("-")[0] or None,
        "series": series,
        "sparsity": 0.5,
        "target": 0.5,
    }
    return pd.concat(parts, ignore_index=True).assign(**(first | columns))


def control(series: str = "control", gain: float = 0.0) -> pd.DataFrame:
    accuracy = {epoch: [0.91 + 0.01 * epoch + gain, 0.81 + 0.01 * epoch + gain] for epoch in range(3)}
    return rows(series, accuracy, method="control", scope=None, sparsity=0.0, target=0.0)


MP = rows("magnitude-global", {0: [0.5, 0.4], 1: [0.8, 0.7], 2: [0.92, 0.79]})
MATCHED = rows(
    "magnitude-matched-global-epoch_1",
    {1: [0.8, 0.7]},
    matched=["a/vd", "b/vd"],
    scope="global",
    matched_epoch=1.0,
)


def test_a_single_control_is_that_of_all_series_at_the_same_epoch() -> None:
    data = StudyData(MODELS, pd.concat([MP, MATCHED, control()]))
    assert data.controls == {"MP global": "control"}
    twins = epochs_of_twins(data)
    assert set(twins["method"]) == {"magnitude"} and series_of(data) == ["MP global"]
    assert twins["control_accuracy"].tolist() == pytest.approx([0.91, 0.81, 0.92, 0.82, 0.93, 0.83])
    assert final_twins(data)["change_from_control"].tolist() == pytest.approx([-0.01, -0.04])
    assert final_twins(data)["control_id"].tolist() == ["a/control", "b/control"]
    matched = final_twins(data, matched=True)
    assert matched["series"].tolist() == ["MP global"] * 2 and matched["matched_epoch"].tolist() == [1, 1]
    assert matched["control_accuracy"].tolist() == pytest.approx([0.92, 0.82])
    controls = control_twins(data)
    assert len(controls) == 6 and (controls["change_from_control"] == 0).all()
    assert controls.loc[controls["final"], "change"].tolist() == pytest.approx([0.03, 0.03])


def test_a_twin_has_no_control_where_none_was_trained_alike_or_as_long() -> None:
    assert final_twins(StudyData(MODELS, MP))["control_accuracy"].isna().all()
    longer = MP.assign(epoch=MP["epoch"] + 1)
    assert final_twins(StudyData(MODELS, pd.concat([longer, control()])))["control_id"].tolist() == [None] * 2
    two = StudyData(MODELS, pd.concat([MP, control(), control("control-lr_0.003")]))
    assert two.controls == {} and final_twins(two)["control_accuracy"].isna().all()


class Zoo:
    """What an opened zoo is to an analysis."""

    def __init__(self, twins: pd.DataFrame, **settings: dict[str, str]) -> None:
        self.models, self.twins, self.populations = MODELS, twins, {}
        self.provenance = {"twins": {name.replace("_", "-"): texts for name, texts in settings.items()}}


def test_settings_in_the_provenance_say_which_control_belongs_to_which_series() -> None:
    twins = pd.concat([MP, rows("variational", {2: [0.9, 0.8]}), control(), control("control-other", 0.01)])
    usual, other = {"lr": "lr 0.001", "epochs": "2 epochs"}, {"lr": "lr 0.003", "epochs": "2 epochs"}
    zoo = Zoo(
        twins,
        magnitude_global={**other, "schedule": "one shot", "seed": "seed 0"},
        variational={**usual, "preset": "modelzoos", "seed": "seed 1"},
        control={**usual, "seed": "seed 0"},
        control_other={**other, "seed": "seed 0"},
    )
    data = StudyData.from_zoo(zoo)
    assert data.controls == {"MP global": "control other", "VD": "control"}
    by_series = final_twins(data).groupby("series")["control_accuracy"].first()
    assert by_series.to_dict() == pytest.approx({"MP global": 0.94, "VD": 0.93})
    alone = Zoo(pd.concat([MP, control()]), magnitude_global=other, control=usual)
    assert StudyData.from_zoo(alone).controls == {}


def test_of_two_controls_that_of_the_same_seed_is_taken() -> None:
    seeds = {name: {"lr": "lr 0.001", "seed": f"seed {name[-1]}"} for name in ("control", "control-seed_1")}
    seeds["control"]["seed"] = "seed 0"
    zoo = Zoo(pd.concat([MP, control(), control("control-seed_1")]))
    zoo.provenance = {"twins": {**seeds, "magnitude-global": {"lr": "lr 0.001", "seed": "seed 1"}}}
    assert StudyData.from_zoo(zoo).controls == {"MP global": "control, seed 1"}


def stored() -> StudyData:
    """Originals and VD twins at their end, epoch 2, and at epoch 1; the classes say which."""
    vd = rows("variational", {1: [0.8, 0.7], 2: [0.9, 0.8]})
    ids = vd[["twin_id", "source_id"]].drop_duplicates()
    groups = {
        "original": Group(MODELS, predictions=np.array([[0, 0, 0], [1, 1, 1]])),
        "variational": Group(ids, predictions=np.array([[2, 2, 2], [3, 3, 3]])),
        "variational@1": Group(ids, predictions=np.array([[4, 4, 4], [5, 5, 5]]), epoch=1),
    }
    populations = {name: (group,) for name, group in groups.items()}
    return StudyData(MODELS, vd, labels=np.array([3, 4, 5]), populations=populations)


def test_predictions_at_the_end_and_before() -> None:
    data = stored()
    names = ["b/variational", "a/variational"]
    for epoch, first in ((None, [3, 2]), (2, [3, 2]), (1, [5, 4])):
        assert data.predictions(names, epoch)[:, 0].tolist() == first
    assert data.predictions(["a", "b"])[:, 0].tolist() == [0, 1]
    assert data.predictions(["a", "a/variational"])[:, 0].tolist() == [0, 2]
    assert (
        data.predictions(names, 3) is None
        and data.predictions(["c"]) is None
        and data.predictions([]) is None
    )
    assert [len(group.rows) for group in data.twin_groups] == [2] and len(data.originals) == 1


def test_correct_answers_need_labels_of_the_same_images() -> None:
    data = stored()
    assert data.correct(["b/variational"]).tolist() == [[True, False, False]]
    assert data.correct(["b/variational"], 1).tolist() == [[False, False, True]]
    assert StudyData(MODELS, data.twins, populations=data.populations).correct(["a"]) is None
    with pytest.raises(InputError, match="predictions of 3 images are stored, and labels of 2"):
        StudyData(MODELS, data.twins, labels=np.zeros(2), populations=data.populations).correct(["a"])
