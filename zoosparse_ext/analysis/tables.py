"""Every table of the analysis, by name."""

from __future__ import annotations

import pandas as pd

from zoosparse_ext.analysis.agreement import agreement_by_sparsity, agreement_of_originals
from zoosparse_ext.analysis.claims import check_claims
from zoosparse_ext.analysis.collapse import collapse, emptied_layers
from zoosparse_ext.analysis.correlation import correlation_with_original
from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.layers import layer_sparsity, layer_trajectories, spared_layers
from zoosparse_ext.analysis.masks import mask_overlaps, mask_overlaps_by_layer
from zoosparse_ext.analysis.methods import compare_measured, crossover_bracket
from zoosparse_ext.analysis.performance import performance_by_sparsity
from zoosparse_ext.analysis.robustness import losers, robustness
from zoosparse_ext.analysis.trajectories import trajectories
from zoosparse_ext.analysis.weights import weight_histograms, weight_statistics

TABLES = {
    "claims": check_claims,
    "performance": performance_by_sparsity,
    "methods_measured": compare_measured,
    "crossover": crossover_bracket,
    "losers": losers,
    "robustness": robustness,
    "collapse": collapse,
    "emptied_layers": emptied_layers,
    "layers": layer_sparsity,
    "spared_layers": spared_layers,
    "layer_trajectories": layer_trajectories,
    "agreement": agreement_by_sparsity,
    "agreement_of_originals": agreement_of_originals,
    "correlation": correlation_with_original,
    "trajectories": trajectories,
    "weight_statistics": weight_statistics,
    "weight_histograms": weight_histograms,
    "mask_overlaps": mask_overlaps,
    "mask_overlaps_by_layer": mask_overlaps_by_layer,
}


def all_tables(data: StudyData) -> dict[str, pd.DataFrame]:
    """The tables that answer the eight questions, and the claims.

    >>> models = pd.DataFrame({"model_id": ["a"], "accuracy": [0.9]})
    >>> list(all_tables(StudyData(models, pd.DataFrame())))[:3]
    ['claims', 'performance', 'methods_measured']
    """
    return {name: table(data) for name, table in TABLES.items()}
