"""Which columns of each table the page shows, under which headings."""

from __future__ import annotations

from collections.abc import Sequence

from zoosparse_ext.analysis.performance import LOSSES
from zoosparse_ext.report.tables import Column

Columns = Sequence[Column]

_TWINS = (
    Column("series", "method", "text"),
    Column("level_label", "target", "text"),
    Column("n", "models", "count"),
)

PERFORMANCE = (
    *_TWINS,
    Column("sparsity", "sparsity"),
    Column("accuracy_median", "accuracy", interval=("accuracy_q25", "accuracy_q75")),
    Column("accuracy_min", "lowest"),
    Column("accuracy_max", "highest"),
    Column("change_median", "change", "points", ("change_low", "change_high")),
    *(Column(f"lost_{points}", f"lose > {points}") for points in LOSSES),
    Column("effect", "effect", "number"),
    Column("p_adjusted", "adjusted p", "p"),
)
METHODS = (
    Column("series", "method", "text"),
    Column("against", "against", "text"),
    Column("level_label", "sparsity", "text"),
    Column("n", "models", "count"),
    Column("epochs", "epochs", "count"),
    Column("against_epochs", "against", "count"),
    Column("sparsity", "median sparsity"),
    Column("magnitude", "magnitude"),
    Column("variational", "variational"),
    Column("difference_median", "difference", "points", ("difference_low", "difference_high")),
    Column("wins_share", "MP ahead in", interval=("wins_low", "wins_high")),
    Column("effect", "effect", "number"),
    Column("p_adjusted", "adjusted p", "p"),
    Column("verdict", "MP is", "text"),
    Column("why", "why", "text"),
)
ROBUSTNESS = (
    *_TWINS,
    Column("std_before", "std before", "spread"),
    Column("std_after", "std after", "spread"),
    Column("ratio", "after / before", "number", ("ratio_low", "ratio_high")),
    Column("p_adjusted", "adjusted p", "p"),
    Column("verdict", "population", "text"),
    Column("std_change", "std of change", "spread"),
    Column("failures", "failures", "count"),
)
COLLAPSE = (
    Column("series", "method", "text"),
    Column("level_label", "target", "text"),
    Column("n", "twins", "count"),
    Column("empty_layers", "empty layer", "count"),
    Column("layers", "layers", "text"),
    Column("one_answer", "one answer", "count"),
    Column("dead_outputs", "dead outputs", "count"),
    Column("accuracy", "accuracy"),
    Column("accuracy_working", "others"),
    Column("change", "change", "points"),
    Column("change_working", "others", "points"),
)
LAYERS = (
    *_TWINS,
    Column("layer", "layer", "text"),
    Column("weights", "prunable", "count"),
    Column("total", "total sparsity"),
    Column("sparsity", "layer sparsity", interval=("sparsity_q25", "sparsity_q75")),
    Column("kept_ratio", "kept, times average", "number", ("kept_ratio_low", "kept_ratio_high")),
)
AGREEMENT = (
    *_TWINS,
    Column("sparsity", "sparsity"),
    Column("agreement", "equal predictions", interval=("agreement_q25", "agreement_q75")),
    Column("kappa", "Cohen's κ", "number", ("kappa_q25", "kappa_q75")),
    Column("kappa_n", "κ defined", "count"),
    Column(
        "agreement_on_errors", "on errors", interval=("agreement_on_errors_q25", "agreement_on_errors_q75")
    ),
)
CORRELATION = (
    *_TWINS,
    Column("sparsity", "sparsity"),
    Column("pearson", "Pearson", "number", ("pearson_low", "pearson_high")),
    Column("spearman", "Spearman", "number", ("spearman_low", "spearman_high")),
    Column("kendall", "Kendall", "number", ("kendall_low", "kendall_high")),
    Column("top_n", "best 10 %", "count"),
    Column("top_kept", "still best"),
    Column("top_expected", "by chance"),
)
TRAJECTORIES = (
    Column("series", "method", "text"),
    Column("target", "target"),
    Column("epoch", "epoch", "count"),
    Column("n", "models", "count"),
    Column("sparsity", "sparsity", interval=("sparsity_q25", "sparsity_q75")),
    Column("accuracy", "accuracy", interval=("accuracy_q25", "accuracy_q75")),
    Column("change", "change", "points", ("change_low", "change_high")),
    Column("agreement", "equal predictions"),
    Column("kappa", "κ", "number"),
    Column("pearson", "Pearson", "number"),
    Column("lost_1", "lose > 1"),
)
OVERLAPS = (
    Column("relation", "between", "text"),
    Column("first_series", "first", "text"),
    Column("first_label", "target", "text"),
    Column("second_series", "second", "text"),
    Column("second_label", "target", "text"),
    Column("pairs", "pairs", "count"),
    Column("jaccard", "Jaccard", "number", ("jaccard_q25", "jaccard_q75")),
    Column("expected", "independent", "number"),
)
SURVIVORS = (
    Column("series", "method", "text"),
    Column("level_label", "target", "text"),
    Column("layer", "layer", "text"),
    Column("survivors", "survivors", "count"),
    Column("mean", "mean", "number"),
    Column("std", "std", "number"),
    Column("abs_median", "median |w|", "number", ("abs_q25", "abs_q75")),
)
