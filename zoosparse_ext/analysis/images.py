"""Right answers image by image: of twins, their originals and their controls, row beside row."""

from __future__ import annotations

import numpy as np
import pandas as pd

from zoosparse_ext.analysis.data import StudyData
from zoosparse_ext.analysis.groups import Array


def correct_of(data: StudyData, ids: pd.Series, epochs: pd.Series) -> Array | None:
    """Whether each of n twins is right on each image at its epoch, bool [n, M]; None where one is not stored.

    Args:
        ids: [n], `twin_id`.
        epochs: [n], epochs of the twins table.
    """
    parts = []
    for epoch in epochs.unique():
        of_epoch = ids[epochs == epoch]
        # Most epochs are not stored at all, which a single twin shows.
        if data.predictions(of_epoch[:1], int(epoch)) is None:
            return None
        part = data.correct(of_epoch, int(epoch))
        if part is None:
            return None
        parts.append(part)
    if not parts:
        return None
    order = np.concatenate([np.flatnonzero(epochs == epoch) for epoch in epochs.unique()])
    return np.concatenate(parts)[np.argsort(order)] if len(parts) > 1 else parts[0]
