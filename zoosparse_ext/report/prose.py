"""The fixed words of the page: the questions, and what each number means."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from zoosparse_ext.analysis.series import magnitude_series, variational_series
from zoosparse_ext.report.collapse import MEANING

_READING = (
    "Little cost: the median model loses at most one point. In brackets: 95 % intervals, with the model as the unit. "
    "MP: magnitude pruning; VD: variational dropout."
)
_SERIES = "Every combination of method, scope, schedule and settings is a series of its own."
_STANDING = (
    "Where magnitude pruning is compared with variational dropout, {standing} stand for them; other series are "
    "measured beside them."
)
TITLES = {
    "performance": "Performance against sparsity",
    "methods": "Which method wins where",
    "robustness": "Robustness",
    "layers": "Layer by layer",
    "agreement": "Agreement",
    "correlation": "Correlation",
    "trajectories": "Trajectories",
    "weights": "Weights",
}
QUESTIONS = {
    "performance": "What does sparsity cost?",
    "methods": "Magnitude pruning or variational dropout, at equal sparsity?",
    "robustness": "Does sparsification widen or narrow the population, and how many models fail?",
    "layers": "Where are the weights removed, and which layers are spared?",
    "agreement": "Does the twin still say what its original said?",
    "correlation": "Does a better original make a better twin?",
    "trajectories": "How do twins get there, epoch by epoch?",
    "weights": "Which weights survive, and do twins keep the same ones?",
}
# Filled in with: chance, images, pairs.
DEFINITIONS = {
    "performance": """
        Change: accuracy of the twin minus that of its original, on the test images, in points. Lose > 1:
        share of models whose accuracy falls by strictly more than one point. VD has one row, because nobody
        asks it for a sparsity: it stands where it ended. Small numbers: quartiles of the accuracy, 95 %
        bootstrap interval of the median change; the files have the intervals of the shares (Wilson), too.
        Effect: rank-biserial correlation of the changes, −1 where every model loses and 1 where every model
        gains. Adjusted p: Wilcoxon's signed-rank test of no change, adjusted over all rows by Benjamini and
        Hochberg.
    """,
    "methods": """
        All differences are magnitude minus variational, in points, taken within a model; the model is the
        unit that is resampled. (a) uses VD epochs on the way, which had less training than the last one,
        and interpolates magnitude accuracy between ratios; (b) has neither handicap. Crossover: where the
        median difference last falls through zero. Other scores than the magnitude are not compared here,
        nor, where there are plain ones, patterns, schedules and other settings. Effect: rank-biserial
        correlation of the differences, 1 where MP is ahead in every model. Adjusted p: Wilcoxon's signed-rank
        test of no difference, adjusted over all rows of a table by Benjamini and Hochberg.
    """,
    "robustness": """
        std: sample standard deviation over models, in points of accuracy. Wider, narrower: the 95 %
        bootstrap interval of after / before excludes 1 and the Pitman–Morgan test of equal spread, adjusted
        over all rows by Benjamini and Hochberg, is below 0.05. A twin fails when it falls more than half of the
        way from its original to guessing the most frequent class ({chance} here), or is not a number.
        Twins pruned to the sparsity of their VD twins are not counted here. The second table counts them as well:
        empty layer: all prunable weights of a tensor are zero; dead output: all that comes in to an output or a channel
        is; one answer: one class for all test images. Others: medians without twins that have an empty layer or
        one answer.
    """,
    "layers": """
        Layer sparsity: zeros over the prunable weights of the layer. Kept, times average: share of weights
        kept in the layer over the share kept in all, with the 95 % interval of the median; above 1 the layer is spared.
    """,
    "agreement": """
        Equal predictions: share of {images} on which twin and original predict the same class. κ: agreement
        beyond chance, undefined where both always predict one class. On errors: share of equal predictions
        on the images the original got wrong. Baseline: {pairs} of different originals. The table in the files
        has the 95 % interval of every median as well; models are resampled, also for the baseline.
    """,
    "correlation": """
        Intervals by Fisher's z (Bonett and Wright, 2000). Still best: share of the best tenth of the
        originals whose twins are in the best tenth of the twins; models tied at the edge count in part.
    """,
    "trajectories": """
        Epoch 0: before the first step, that is just pruned, or the original with its dropout rates about to
        be learnt. Change: with its 95 % interval. Sparsity of every layer per epoch is in
        tables/layer_trajectories.csv.
    """,
    "weights": """
        Jaccard index: weights kept by both over weights kept by either, among prunable weights.
        Independent: what two random masks of the same sizes would have. Pairs are sampled, at most 500 a
        row. Histograms share their bins between originals and twins of a layer.
    """,
}


def reading(tables: Mapping[str, pd.DataFrame]) -> str:
    """What the words of the first screen mean, as far as they are needed."""
    names = list(tables["collapse"]["series"].unique())
    sentences = [_READING]
    magnitude, variational = magnitude_series(names), variational_series(names)
    if set(names) - {*magnitude, variational}:
        sentences.append(_SERIES)
        if magnitude:
            standing = f"{', '.join(magnitude)} and {variational}"
            sentences.append(_STANDING.format(standing=standing))
    if tables["collapse"]["collapsed"].sum():
        sentences.append(MEANING)
    return " ".join(sentences)


def definitions(anchor: str, **values: str) -> str:
    """The definitions of a section on one line, with the study's own numbers filled in."""
    return " ".join(DEFINITIONS[anchor].format(**values).split())
