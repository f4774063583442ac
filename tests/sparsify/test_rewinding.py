"""Rewinding of weights and of the learning rate, and lottery tickets: held against trainings from that epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import zoosparse_ext as zs
from tests.population import tiny
from tests.population.test_kept_epochs import ENGINES, every_engine
from zoosparse_ext.errors import InputError
from zoosparse_ext.population.rounds import Rounds
from zoosparse_ext.population.schedules import Cosine
from zoosparse_ext.sparsify.methods.synflow import Synflow
from zoosparse_ext.sparsify.pruning import Pruning
from zoosparse_ext.sparsify.schedules import Cubic, Iterative, Lottery

EPOCHS = 4
KEPT = (0, 1, 2)
ADAM: dict[str, Any] = {"batch_size": 5, "seed": 2, "optimizer": zs.Adam(lr=[1e-2, 3e-3, 1e-3])}
PLAIN: dict[str, Any] = {**ADAM, "optimizer": zs.SGD(lr=[0.1, 0.05, 0.01]), "lr_schedule": "cosine"}
NETWORKS = {"chain": tiny.chain, "dropout": lambda: tiny.chain(dropout=0.2), "norms": tiny.batch_normed}
every_network = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
# Every engine with what it can run.
PAIRS = [
    (name, engine) for name in NETWORKS for engine in ENGINES if engine == "reference" or name != "norms"
]
every_pair = pytest.mark.parametrize(
    ("build", "engine"),
    [(NETWORKS[name], engine) for name, engine in PAIRS],
    ids=[f"{name}-{engine}" for name, engine in PAIRS],
)


KNOWN: dict[str, zs.Population] = {}  # trained once


def trained(build: Any, data: zs.Dataset, **how: Any) -> zs.Population:
    key = repr((build, how))
    if key not in KNOWN:
        KNOWN[key] = tiny.population(build)
        zs.train(KNOWN[key], data, epochs=EPOCHS, keep=KEPT, **how)
    return KNOWN[key].clone()


@every_pair
def test_to_the_initialization_is_a_training_with_the_mask(build: Any, engine: str, data: zs.Dataset) -> None:
    how = {**ADAM, "lr_schedule": "cosine", "augment": zs.Augment(crop=1), "engine": engine}
    population = trained(build, data, **how)
    twins = zs.magnitude_prune(population, [0.4, 0.8], data=data, rewind_to=0, epochs=EPOCHS, **how)
    trained_masks = zs.magnitude_prune(population, [0.4, 0.8]).packed_masks
    assert torch.equal(twins.packed_masks, trained_masks)
    for copy in range(2):
        fresh, rows = tiny.population(build), slice(3 * copy, 3 * copy + 3)
        zs.train(fresh, data, epochs=EPOCHS, masks=trained_masks[rows], **how)
        assert torch.equal(twins.weights[rows], fresh.weights)
        assert torch.equal(twins.predictions[rows], fresh.predictions)
        assert fresh.counts is None or torch.equal(twins.counts[rows], fresh.counts)


@every_pair
@pytest.mark.parametrize("epoch", KEPT)
def test_nothing_pruned_is_the_training_itself(build: Any, engine: str, epoch: int, data: zs.Dataset) -> None:
    """Order of the images and learning rate go on as they did after that epoch; SGD without momentum has no state."""
    if build is NETWORKS["dropout"] and epoch:
        build = NETWORKS["chain"]  # noise is that of a training that begins
    how = {**PLAIN, "engine": engine}
    population = trained(build, data, **how)
    twins = zs.magnitude_prune(population, 0.0, data=data, rewind_to=epoch, epochs=EPOCHS - epoch, **how)
    assert torch.equal(twins.weights, population.weights)
    assert population.counts is None or torch.equal(twins.counts, population.counts)


@every_network
def test_to_the_last_epoch_is_no_rewinding(build: Any, data: zs.Dataset) -> None:
    """The images go on in their order, as they do from the state of the source."""
    how = {**PLAIN, "lr_schedule": "constant"}
    population = tiny.population(build)
    zs.train(population, data, epochs=EPOCHS, keep_optimizer_state=True, **how)
    last = {"rewind_to": EPOCHS, "rewound": population}
    pruned, same = (zs.magnitude_prune(population, 0.6, data=data, **more) for more in ({}, last))
    assert torch.equal(pruned.weights, same.weights) and torch.equal(pruned.packed_masks, same.packed_masks)
    if build is not NETWORKS["dropout"]:  # as above
        tuned, same = (
            zs.magnitude_prune(population, 0.6, data=data, epochs=2, **more, **how)
            for more in ({"optimizer_state": "source"}, last)
        )
        assert torch.equal(tuned.weights, same.weights)


@every_engine
def test_of_the_learning_rate_keeps_the_weights(engine: str, data: zs.Dataset) -> None:
    """It begins again where the schedule was after that epoch; so do the images."""
    how = {**PLAIN, "engine": engine}
    population = trained(tiny.chain, data, **how)
    one = {**how, "epochs": EPOCHS - 1, "rewind": "lr", "rewind_to": 1}
    twins = zs.magnitude_prune(population, 0.5, data=data, **one)
    assert torch.equal(
        zs.magnitude_prune(population, 0.5, data=data, **{**one, "epochs": 0}).weights,
        zs.magnitude_prune(population, 0.5).weights,
    )
    pruned = zs.magnitude_prune(population, 0.5)
    pruned.models["twin_id"] = population.ids
    same = zs.magnitude_prune(  # pretend that the pruned weights are those after epoch 1
        population, 0.5, data=data, rewound=pruned, **{**one, "rewind": "weights"}
    )
    assert torch.equal(twins.weights, same.weights)
    plain = zs.magnitude_prune(population, 0.5, data=data, epochs=EPOCHS - 1, **how)
    assert not torch.equal(twins.weights, plain.weights)


@every_network
@pytest.mark.parametrize("schedule", [Lottery(3), Iterative(2), Cubic(1.0)], ids=str)
def test_every_round_is_a_training_from_there(build: Any, schedule: Any, data: zs.Dataset) -> None:
    how = {**ADAM, "lr_schedule": "cosine"}
    population = trained(build, data, **how)
    options = {**how, "data": data, "epochs": 3, "schedule": schedule, "rewind_to": 1}
    phases = schedule.phases(3)
    ends = [sum(phase.epochs for phase in phases[: n + 1]) for n in range(len(phases))]
    twins = zs.magnitude_prune(population, 0.7, keep=ends[:-1], **options)
    assert twins.history.epoch.max() == ends[-1] == (9 if isinstance(schedule, Lottery) else 3)
    begun = population
    for phase, end in zip(phases, ends, strict=True):
        done = twins if end == ends[-1] else twins.kept[end]
        masks = zs.magnitude_prune(
            begun, done.sparsity()
        ).packed_masks  # of the weights at the end of the round before
        alone = zs.magnitude_prune(
            begun,
            done.sparsity(),
            rewound=population.kept[1],
            **{**options, "epochs": phase.epochs, "schedule": "one-shot"},
        )
        assert torch.equal(done.packed_masks, masks) and torch.equal(alone.packed_masks, masks)
        assert torch.equal(done.weights, alone.weights)
        begun = alone


def test_a_lottery_prunes_the_same_share_of_what_is_left(data: zs.Dataset) -> None:
    population = trained(tiny.chain, data, **ADAM)
    size = population.architecture.n_prunable
    twins = zs.magnitude_prune(
        population, [0.5, 0.9], data=data, epochs=1, schedule="lottery", schedule_rounds=4, rewind_to=0
    )
    reached = twins.history.groupby(["target", "epoch"])["sparsity"].median()
    for target in (0.5, 0.9):
        share = 1 - round(target * size) / size  # that stays in the end
        expected = [round(size * (1 - share ** (n / 4))) / size for n in (1, 1, 2, 3, 4)]
        assert reached[target].tolist() == pytest.approx(expected, abs=1e-12)
    plain = zs.magnitude_prune(population, 0.5, data=data, epochs=2, schedule="lottery")
    assert plain.history.epoch.max() == 10 and plain.history.series[0] == "magnitude-global-lottery"
    assert zs.magnitude_prune(population, 0.5, schedule="lottery").sparsity()[0] == round(size / 2) / size


@pytest.mark.parametrize(
    "score", ["magnitude", "gradient", "snip", "wanda", "lamp", Synflow(3), "random"], ids=str
)
@pytest.mark.parametrize("schedule", ["one-shot", "lottery"])
def test_scores_of_rewound_weights(score: Any, schedule: str, data: zs.Dataset) -> None:
    """Of any method; SNIP at initialization is this."""
    population = trained(tiny.chain, data, **ADAM)
    options: dict[str, Any] = {"score": score, "data": data, "epochs": 1, "schedule": schedule, **ADAM}
    twins = zs.magnitude_prune(population, 0.6, rewind_to=0, score_at="rewound", **options)
    fresh = tiny.population(tiny.chain)
    same = zs.magnitude_prune(
        fresh, 0.6, rewind_to=0, rewound=tiny.population(tiny.chain), score_at="rewound", **options
    )
    assert torch.equal(twins.packed_masks, same.packed_masks) and torch.equal(twins.weights, same.weights)
    if schedule == "one-shot":
        plain = zs.magnitude_prune(fresh, 0.6, **options)
        assert torch.equal(twins.packed_masks, plain.packed_masks)
        assert torch.equal(twins.weights, plain.weights)
    if score != "random":
        late = zs.magnitude_prune(population, 0.6, rewind_to=0, **options)
        assert not torch.equal(late.packed_masks, twins.packed_masks)


def test_all_that_a_model_consists_of_goes_back(data: zs.Dataset) -> None:
    """Statistics and counts of batch norm, biases, and what is frozen."""

    def build() -> Any:
        network = tiny.batch_normed()
        network.stem.weight.requires_grad_(False)
        return network

    population = trained(build, data, **ADAM)
    then = population.kept[1].clone()
    stem = population.layers()[0].slice
    population.weights[:, stem] += 1.0  # by whatever else
    twins = zs.magnitude_prune(population, [0.3, 0.6], data=data, rewind_to=1)
    masks = twins.masks
    expected = torch.where(masks, then.weights.repeat(2, 1), 0.0)
    assert torch.equal(twins.weights, expected) and torch.equal(twins.counts, then.counts.repeat(2, 1))
    assert torch.equal(population.kept[1].weights, then.weights)  # stays as it is
    again = zs.magnitude_prune(population, 0.3, recalibrate=data.train, data=data, rewind_to=1)
    norms = [s.slice for s in population.layers() if "running" in s.name]
    assert not torch.equal(again.weights[:, norms[0]], expected[:3, norms[0]])


def test_further_pruning_keeps_zeros(data: zs.Dataset) -> None:
    """Twins of twins: with the epochs of the original training, found by the model, or with their own."""
    population = trained(tiny.chain, data, **ADAM)
    first = zs.magnitude_prune(population, [0.3, 0.5], data=data, epochs=2, keep=(0, 1), **ADAM)
    second = zs.magnitude_prune(first, 0.7, data=data, rewind_to=0, rewound=population.kept[0])
    assert not (second.masks & ~first.masks).any() and bool((second.weights[~second.masks] == 0).all())
    kept = second.masks
    assert torch.equal(second.weights[kept], population.kept[0].weights.repeat(2, 1)[kept])
    own = zs.magnitude_prune(first, 0.7, data=data, rewind_to=1)
    assert torch.equal(own.weights, torch.where(own.masks, first.kept[1].weights, 0.0))
    backwards = population[[2, 0]]
    there = zs.magnitude_prune(backwards, 0.5, rewind_to=0, rewound=population.kept[0], data=data)
    assert torch.equal(there.weights[0][there.masks[0]], population.kept[0].weights[2][there.masks[0]])


@pytest.mark.parametrize(
    ("build", "epoch", "rewind"),
    [
        *((tiny.chain, epoch, rewind) for epoch in (1, 2, 5) for rewind in ("weights", "lr")),
        (tiny.batch_normed, 2, "weights"),
    ],
)
def test_goes_on_after_a_kill(build: Any, epoch: int, rewind: str, data: zs.Dataset, tmp_path: Path) -> None:
    """Within a round, between rounds, and to the same bits."""
    population = trained(build, data, **ADAM)
    options = {**ADAM, "epochs": 2, "schedule": Lottery(3), "rewind_to": 1, "rewind": rewind}
    whole = zs.magnitude_prune(population, 0.7, data=data, **options)

    def stop(progress: zs.population.hooks.Progress) -> None:
        if progress.epoch > epoch:
            raise KeyboardInterrupt

    path = tmp_path / "epochs.safetensors"
    with pytest.raises(KeyboardInterrupt):
        zs.magnitude_prune(population, 0.7, data=data, checkpoint=path, progress=stop, **options)
    for other in (
        {"rewind_to": 2},
        {"score_at": "rewound"} if rewind == "weights" else {"rewind": "weights"},
    ):
        with pytest.raises(InputError, match="an unfinished run with other settings"):
            zs.magnitude_prune(population, 0.7, data=data, checkpoint=path, **{**options, **other})
    seen: list[int] = []
    again = zs.magnitude_prune(
        population, 0.7, data=data, checkpoint=path, progress=lambda p: seen.append(p.epoch), **options
    )
    assert seen[0] == epoch + 1
    assert torch.equal(again.weights, whole.weights) and again.history.equals(whole.history)


def test_series_say_it(data: zs.Dataset) -> None:
    population = trained(tiny.chain, data, **ADAM)

    def series(**options: Any) -> str:
        twins = zs.magnitude_prune(population, 0.5, data=data, **options)
        assert twins.history.series.eq(twins.models.series).all()
        return str(twins.models.series[0])

    assert series() == "magnitude-global"
    assert series(rewind_to=2) == "magnitude-global-rewound_to_2"
    assert series(rewind_to=0, rewind="lr") == "magnitude-global-lr_rewound_to_0"
    assert series(score="snip", rewind_to=0, score_at="rewound") == "snip-global-rewound_to_0-scored_rewound"
    assert series(rewind_to=1, schedule="lottery") == "magnitude-global-lottery-rewound_to_1"
    assert series(schedule="iterative", schedule_rounds=3) == "magnitude-global-iterative"
    assert series(schedule="lottery", schedule_rounds=7) == "magnitude-global-lottery_7"
    parsed = zs.sparsify.series.Series.parse("magnitude-global-lottery_7-rewound_to_1")
    assert parsed.label == "MP global, lottery 7, rewound to 1" and parsed.schedule == "lottery 7"


@pytest.mark.parametrize(
    ("options", "has_control"),
    [({}, True), ({"schedule": "cubic"}, True), ({"schedule": "lottery", "schedule_rounds": 2}, False),
     ({"rewind_to": 0}, False), ({"rewind_to": 1, "rewind": "lr"}, False)],
)  # fmt: skip
def test_a_control_is_of_twins_that_are_trained_on(options: dict[str, Any], has_control: bool) -> None:
    pruning = Pruning(**options)
    assert pruning.has_control is Pruning.have_control(pruning.texts()) is has_control
    assert Pruning.have_control({"epochs": "5 epochs"})  # of an earlier version


def test_rounds_and_their_learning_rate() -> None:
    rounds = Rounds(start=1, epochs=(2, 3))
    one, two = (Cosine().factors(4 * epochs)[4:] for epochs in (3, 4))
    assert torch.equal(rounds.factors(Cosine(), steps=4), torch.cat([one, two]))
    assert [rounds.before(epoch) for epoch in range(1, 6)] == [1, 2, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rewind_to": 3}, r"not kept as they were after epoch 3, only after 0, 1, 2; .*keep=\(3,\).*rewound="),
        ({"rewind_to": -1}, "rewind_to must be 0 or more, got -1"),
        ({"rewind_to": 1.0}, "rewind_to: got float 1.0, expected a whole number"),
        ({"rewind_to": True}, "rewind_to: got bool True"),
        ({"rewind": "lr"}, "rewind is 'lr', but nothing is rewound: say the epoch, rewind_to="),
        ({"score_at": "rewound"}, "score_at is 'rewound', but nothing is rewound"),
        ({"rewind_to": 1, "rewind": "bias"}, "rewind must be one of weights, lr; got 'bias'"),
        ({"rewind_to": 1, "score_at": "now"}, "score_at must be one of trained, rewound; got 'now'"),
        ({"rewind_to": 1, "rewind": "lr", "score_at": "rewound"}, "leaves the weights as they were trained"),
        ({"rewind_to": 1, "optimizer_state": "source"}, "starts with new ones: pass optimizer_state='new'"),
        ({"schedule_rounds": 3}, r"the schedule 'one-shot' has no rounds; .*\(iterative, lottery\)"),
        ({"schedule": "lottery", "schedule_rounds": 0}, "schedule_rounds must be 1 or more, got 0"),
        ({"schedule": Lottery(2), "schedule_rounds": 3}, "the schedule says its own"),
        ({"rewound": "kept"}, "but no weights are rewound"),
        ({"rewound": "kept", "rewind_to": 1, "rewind": "lr"}, "but no weights are rewound"),
        ({"rewound": 3, "rewind_to": 1}, "rewound: got int 3, expected a population"),
        ({"rewound": "others", "rewind_to": 1}, "of other tensors than those to prune"),
        ({"rewound": "fewer", "rewind_to": 1}, "rewound lacks model"),
        ({"rewound": "twice", "rewind_to": 1}, "more than once"),
        ({"rewound": "doubles", "rewind_to": 1}, "weights of torch.float64"),
        ({"rewound": "nan", "rewind_to": 1}, "weights are NaN: row 1"),
    ],
)  # fmt: skip
def test_mistakes_are_named(options: dict[str, Any], message: str, data: zs.Dataset) -> None:
    population = trained(tiny.chain, data, **ADAM)
    kept = population.kept[1]
    broken = kept.clone()
    broken.weights[1, 0] = float("nan")
    made = {
        "kept": kept,
        "others": tiny.population(tiny.batch_normed),
        "fewer": kept[:2],
        "twice": kept[[0, 1, 2, 2]],
        "doubles": zs.Population(kept.weights.double(), kept.architecture, kept.models),
        "nan": broken,
    }
    if isinstance(name := options.get("rewound"), str):
        options = {**options, "rewound": made[name]}
    with pytest.raises(InputError, match=message):
        zs.magnitude_prune(population, 0.5, data=data, epochs=1, **options)
    with pytest.raises(InputError, match="at least one round, got rounds=0"):
        Lottery(0)
    never = tiny.population(tiny.chain)
    with pytest.raises(InputError, match="after epoch 0, nor after any other"):
        zs.magnitude_prune(never, 0.5, rewind_to=0)


def test_in_inference_mode(data: zs.Dataset) -> None:
    population = trained(tiny.batch_normed, data, **ADAM)
    options = {**ADAM, "data": data, "epochs": 1, "rewind_to": 1, "schedule": Lottery(2)}
    plain = zs.magnitude_prune(population, 0.5, **options)
    with torch.inference_mode():
        copy = population.clone()
        twins = zs.magnitude_prune(copy, 0.5, **options)
    assert torch.equal(twins.weights, plain.weights)
