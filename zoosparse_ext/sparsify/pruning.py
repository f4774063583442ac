"""Options of pruning: what decides which weights go and when, beside method, scope and sparsity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from zoosparse_ext.errors import InputError
from zoosparse_ext.options import check_options, option
from zoosparse_ext.population.rounds import Rounds
from zoosparse_ext.sparsify.schedules import SCHEDULES, Lottery, Phase, Schedule, sparsity_schedule
from zoosparse_ext.words import Texts, changed

REWINDS = ("weights", "lr")
SCORED = ("trained", "rewound")


@dataclass(frozen=True)
class Pruning:
    """How weights are pruned, whatever ranks them. Its options are keywords of what prunes.

    >>> texts = Pruning(schedule="lottery", schedule_rounds=10, min_kept=1, rewind_to=2).texts()
    >>> texts["schedule"], texts["min_kept"], texts["rewind_to"]
    ('lottery 10', 'min kept 1', 'rewound to 2')

    Args:
        schedule: ``"one-shot"``, ``"iterative"``, ``"cubic"``, ``"lottery"``, or an object from `schedules`. A lottery
            trains for all epochs in each of its rounds.
        biases: prune biases as well; they then count in k, though never in `Population.sparsity`.
        min_kept: how many weights of every output stay at least, and so of every layer: those of the largest scores, of
            equal ones the higher columns. Others that the scope compares them with go instead, so that k stays as it
            is. All stay of an output that has no more. Of vectors and of grouped transposed convolutions the floor is
            that of the layer; biases have none. A weight that is zero counts, though its output is reported as dead.
        schedule_rounds: of a schedule in rounds that is named. Default: its own.
        rewind_to: the epoch of the original training that the twins go back to after every pruning, 0 being the
            initialization. What follows is a training from there: the optimizer is new, the images come as they came
            after that epoch (where `seed` and `order` are those of the original training), and the schedule of the
            learning rate stretches over the epochs before and those that follow. The training of the original is
            repeated by its own options with `epochs` less by `rewind_to`. Random numbers of dropout and augmentation
            are those of a training that begins. Default: the twins stay as they were trained.
        rewind: what goes back: ``"weights"``, all that a model consists of, also biases, frozen parameters and the
            statistics of batch norm; or ``"lr"``, learning-rate rewinding, which leaves the weights as they are.
        score_at: the weights that are ranked, ``"trained"`` or ``"rewound"``. SNIP at initialization is
            ``score="snip", rewind_to=0, score_at="rewound"``.

    Raises:
        InputError: an option of another kind or out of its range; rounds of a schedule that has none; options of
            rewinding without `rewind_to`; weights to rank that are not rewound.

    Source of `rewind_to`: Frankle, Dziugaite, Roy, Carbin, "Linear Mode Connectivity and the Lottery Ticket
    Hypothesis", ICML 2020; of ``rewind="lr"``: Renda, Frankle, Carbin, "Comparing Rewinding and Fine-tuning in Neural
    Network Pruning", ICLR 2020.
    """

    schedule: str | Schedule = option(
        "one-shot", f"Schedule of the sparsity: {', '.join(SCHEDULES)}.", choices=SCHEDULES
    )
    biases: bool = option(False, "Prune biases as well.")
    min_kept: int = option(0, "How many weights of every output stay at least.", low=0)
    schedule_rounds: int | None = option(
        None, "Rounds of the schedules iterative (3) and lottery (5), which then trains as often.", low=1
    )
    rewind_to: int | None = option(
        None, "Epoch of the original training to go back to after pruning; 0 is the initialization.", low=0
    )
    rewind: str = option(
        "weights", "What goes back: weights, or lr for the learning-rate schedule alone.", choices=REWINDS
    )
    score_at: str = option(
        "trained", "Weights that are ranked: trained, or rewound to that epoch.", choices=SCORED
    )

    def __post_init__(self) -> None:
        check_options(self)
        sparsity_schedule(self.schedule, self.schedule_rounds)
        if self.rewind_to is None:
            for name in ("rewind", "score_at"):
                if (value := getattr(self, name)) != getattr(Pruning, name):
                    raise InputError(
                        f"{name} is {value!r}, but nothing is rewound: say the epoch, rewind_to=…"
                    )
        elif self.rewind == "lr" and self.score_at == "rewound":
            raise InputError(
                "score_at is 'rewound', but rewind='lr' leaves the weights as they were trained; pass rewind='weights'"
            )

    def phases(self, epochs: int) -> list[Phase]:
        """When it prunes, and how much."""
        return sparsity_schedule(self.schedule, self.schedule_rounds).phases(epochs)

    def all_epochs(self, epochs: int) -> int:
        """How many there are in all, where so many are asked for."""
        return max(epochs, sum(phase.epochs for phase in self.phases(epochs)))

    def rounds(self, epochs: int) -> Rounds | None:
        """Where the training starts again; None where it does not."""
        if self.rewind_to is None:
            return None
        *first, _ = [phase.epochs for phase in self.phases(epochs)]
        return Rounds(self.rewind_to, (*first, self.all_epochs(epochs) - sum(first)))

    @property
    def has_control(self) -> bool:
        """Whether models that are trained on for as many epochs have had the training of the twins.

        What is rewound has had less: that of the models themselves. A lottery trains as often as it has rounds.
        """
        schedule = sparsity_schedule(self.schedule, self.schedule_rounds)
        return self.rewind_to is None and not isinstance(schedule, Lottery)

    def at_once(self) -> Pruning:
        """The same, but for the schedule."""
        return replace(self, schedule=Pruning.schedule, schedule_rounds=None)

    def texts(self) -> Texts:
        """Its options in short words, by name."""
        chosen = sparsity_schedule(self.schedule, self.schedule_rounds)
        what = "lr rewound" if self.rewind == "lr" else "rewound"
        return {
            "schedule": " ".join([chosen.name.replace("-", " "), *changed(chosen)]),
            "biases": "biases" if self.biases else "no biases",
            "min_kept": f"min kept {self.min_kept}",
            "rewind_to": "not rewound" if self.rewind_to is None else f"{what} to {self.rewind_to}",
            "score_at": f"scored {self.score_at}",
        }

    @staticmethod
    def have_control(texts: Mapping[str, str]) -> bool:
        """What `has_control` says, out of texts that were stored."""
        usual = Pruning().texts()["rewind_to"]
        return texts.get("rewind_to", usual) == usual and texts.get("schedule", "").split()[:1] != [
            Lottery.name
        ]

    @property
    def key(self) -> str:
        """What identifies it in a checkpoint; what came after the first version stands there if it is not usual."""
        least = f" min kept {self.min_kept}" if self.min_kept else ""
        rounds = f" rounds {self.schedule_rounds}" if self.schedule_rounds else ""
        rewound = (
            "" if self.rewind_to is None else f" {self.rewind} to {self.rewind_to} scored {self.score_at}"
        )
        return f"{self.schedule} {self.biases}{least}{rounds}{rewound}"
