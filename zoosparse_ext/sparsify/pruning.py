"""Options of pruning: what decides which weights go and when, beside method, scope and sparsity."""

from __future__ import annotations

from dataclasses import dataclass

from zoosparse_ext.options import check_options, option
from zoosparse_ext.sparsify.schedules import SCHEDULES, Cubic, Iterative, OneShot, Phase, sparsity_schedule
from zoosparse_ext.words import Texts, changed


@dataclass(frozen=True)
class Pruning:
    """How weights are pruned, whatever ranks them. Its options are keywords of what prunes.

    >>> Pruning(schedule=Iterative(rounds=5), min_kept=1).texts()
    {'schedule': 'iterative 5', 'biases': 'no biases', 'min_kept': 'min kept 1'}

    Args:
        schedule: ``"one-shot"``, ``"iterative"``, ``"cubic"``, or an object from `schedules`.
        biases: prune biases as well; they then count in k, though never in `Population.sparsity`.
        min_kept: how many weights of every output stay at least, and so of every layer: those of the largest scores, of
            equal ones the higher columns. Others that the scope compares them with go instead, so that k stays as it
            is. All stay of an output that has no more. Of vectors and of grouped transposed convolutions the floor is
            that of the layer; biases have none. A weight that is zero counts, though its output is reported as dead.

    Raises:
        InputError: an option of another kind or out of its range.
    """

    schedule: str | OneShot | Iterative | Cubic = option(
        "one-shot", f"Schedule of the sparsity: {', '.join(SCHEDULES)}.", choices=SCHEDULES
    )
    biases: bool = option(False, "Prune biases as well.")
    min_kept: int = option(0, "Least number of weights that every output keeps.", low=0)

    def __post_init__(self) -> None:
        check_options(self)
        sparsity_schedule(self.schedule)

    def phases(self, epochs: int) -> list[Phase]:
        """When it prunes, and how much."""
        return sparsity_schedule(self.schedule).phases(epochs)

    def texts(self) -> Texts:
        """Its options in short words, by name."""
        chosen = sparsity_schedule(self.schedule)
        return {
            "schedule": " ".join([chosen.name.replace("-", " "), *changed(chosen)]),
            "biases": "biases" if self.biases else "no biases",
            "min_kept": f"min kept {self.min_kept}",
        }

    @property
    def key(self) -> str:
        """What identifies it in a checkpoint; what came after the first version stands there if it is not usual."""
        least = f" min kept {self.min_kept}" if self.min_kept else ""
        return f"{self.schedule} {self.biases}{least}"
