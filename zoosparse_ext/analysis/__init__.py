"""Statistics over a zoo and its sparsified twins: tables in, tables out, no plotting.

Eight questions, one file a family; every function takes a :class:`StudyData` and returns a DataFrame.

>>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.90]})
>>> twins = pd.DataFrame({
...     "twin_id": ["a1"], "source_id": "a", "method": "magnitude", "scope": "global", "target": 0.5,
...     "epoch": 0, "sparsity": 0.5, "accuracy": 0.88})
>>> table = performance_by_sparsity(StudyData(models, twins))
>>> table[["series", "level_label", "n", "accuracy_median"]].values.tolist()
[['MP global', '50 %', 1, 0.88]]
"""

from __future__ import annotations

import pandas as pd  # noqa: F401  # for the example above

from zoosparse_ext.analysis.agreement import (
    agreement_by_sparsity,
    agreement_of_originals,
    agreement_of_twins,
    pairwise_agreement,
)
from zoosparse_ext.analysis.bits import popcount
from zoosparse_ext.analysis.bootstrap import Interval, bootstrap, wilson
from zoosparse_ext.analysis.claims import check_claims
from zoosparse_ext.analysis.collapse import collapse, emptied_layers
from zoosparse_ext.analysis.correlation import correlate, correlation_with_original, top_overlap
from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.groups import Group, Layer
from zoosparse_ext.analysis.halves import split_half
from zoosparse_ext.analysis.intervals import Estimate, paired_difference, paired_difference_of_accuracies
from zoosparse_ext.analysis.layers import layer_sparsity, layer_trajectories, spared_layers
from zoosparse_ext.analysis.masks import mask_overlap, mask_overlaps, mask_overlaps_by_layer, ratio_matrix
from zoosparse_ext.analysis.measures import Claim
from zoosparse_ext.analysis.methods import compare_measured, crossover_bracket, measured_pairs
from zoosparse_ext.analysis.operating import Operating, operating_twins, sparsest_affordable
from zoosparse_ext.analysis.peers import Ranks, agreement_with_peers, ranks_among_peers
from zoosparse_ext.analysis.performance import performance_by_sparsity
from zoosparse_ext.analysis.robustness import losers, robustness
from zoosparse_ext.analysis.significance import adjusted, equal_spread, holm, signed_rank
from zoosparse_ext.analysis.trajectories import trajectories
from zoosparse_ext.analysis.twins import control_twins, epochs_of_twins, final_twins
from zoosparse_ext.analysis.weights import weight_histograms, weight_statistics

__all__ = [
    "Claim",
    "Estimate",
    "Group",
    "Interval",
    "Layer",
    "Operating",
    "Ranks",
    "StudyData",
    "adjusted",
    "agreement_by_sparsity",
    "agreement_of_originals",
    "agreement_of_twins",
    "agreement_with_peers",
    "bootstrap",
    "check_claims",
    "collapse",
    "compare_measured",
    "control_twins",
    "correlate",
    "correlation_with_original",
    "crossover_bracket",
    "emptied_layers",
    "epochs_of_twins",
    "equal_spread",
    "final_twins",
    "holm",
    "layer_sparsity",
    "layer_trajectories",
    "losers",
    "mask_overlap",
    "mask_overlaps",
    "mask_overlaps_by_layer",
    "measured_pairs",
    "operating_twins",
    "paired_difference",
    "paired_difference_of_accuracies",
    "pairwise_agreement",
    "performance_by_sparsity",
    "popcount",
    "ranks_among_peers",
    "ratio_matrix",
    "robustness",
    "signed_rank",
    "spared_layers",
    "sparsest_affordable",
    "split_half",
    "top_overlap",
    "trajectories",
    "weight_histograms",
    "weight_statistics",
    "wilson",
]
