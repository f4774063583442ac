"""Training a population equals training each of its models alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import zoosparse_ext as zs
from tests.population import tiny
from tests.population.alone import MakeOptimizer, train_alone
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import train as native_engine
from zoosparse_ext.population import schedules

ENGINES = ["reference", "native"] if native_engine.available() else ["reference"]
EPOCHS, BATCH = 5, 5  # 23 images: 25 steps, every fifth of them on three images
# Single float32 roundings, 25 steps later; Adam makes much of small gradients.
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}

OPTIMIZERS: dict[str, tuple[zs.population.optimizers.Optimizer, MakeOptimizer]] = {  # type: ignore[name-defined]
    "sgd": (zs.SGD(lr=0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
    "momentum": (
        zs.SGD(lr=0.02, momentum=0.9, weight_decay=1e-2),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9, weight_decay=1e-2),
    ),
    "nesterov": (
        zs.SGD(lr=0.02, momentum=0.8, nesterov=True),
        lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.8, nesterov=True),
    ),
    "adam": (
        zs.Adam(lr=3e-3, weight_decay=1e-3),
        lambda p: torch.optim.Adam(p, lr=3e-3, weight_decay=1e-3),
    ),
    "adamw": (
        zs.AdamW(lr=3e-3, betas=(0.8, 0.95), weight_decay=0.1),
        lambda p: torch.optim.AdamW(p, lr=3e-3, betas=(0.8, 0.95), weight_decay=0.1),
    ),
    "rmsprop": (
        zs.RMSprop(lr=2e-3, alpha=0.95, weight_decay=1e-3),
        lambda p: torch.optim.RMSprop(p, lr=2e-3, alpha=0.95, weight_decay=1e-3),
    ),
}


def random_mask(population: zs.Population, share: float = 0.6) -> Tensor:
    """bool [N, P]: `share` of the prunable weights is gone."""
    drawn = torch.rand(population.weights.shape, generator=torch.Generator().manual_seed(1)) >= share
    prunable = torch.zeros(population.weights.shape[1], dtype=torch.bool)
    prunable[population.architecture.prunable_columns] = True
    return drawn | ~prunable


def assert_equal_to_alone(
    population: zs.Population,
    data: zs.Dataset,
    optimizer: Any,
    make_optimizer: Callable[[int], MakeOptimizer],
    *,
    masks: Tensor | None = None,
    shared: bool = False,
    lr_schedule: schedules.Constant | None = None,
    **options: Any,
) -> None:
    """Train the population, then each of its models alone, and compare weights and losses."""
    settings: dict[str, Any] = {"epochs": EPOCHS, "batch_size": BATCH, "seed": 3}
    modules = population.to_modules()
    kept = None if masks is None else population.architecture.unflatten(masks)
    if masks is not None:
        for row, module in enumerate(modules):
            for name, parameter in module.named_parameters():
                parameter.data *= kept[name][row]
    history = zs.train(
        population,
        data,
        optimizer=optimizer,
        masks=masks,
        order="shared" if shared else "per-model",
        lr_schedule=lr_schedule or "constant",
        **settings,
        **options,
    )
    factors = None if lr_schedule is None else lr_schedule.factors(EPOCHS * 5)
    for row, module in enumerate(modules):
        losses = train_alone(
            module,
            data,
            make_optimizer(row),
            order_of=0 if shared else int(population.seeds[row]),
            kept=None if kept is None else {name: mask[row] for name, mask in kept.items()},
            factors=factors,
            **settings,
        )
        expected = population.architecture.flatten(module.state_dict())
        torch.testing.assert_close(population.weights[row], expected, **TOLERANCE)
        stated = history[(history.model_id == population.ids[row]) & (history.epoch > 0)]
        assert stated.train_loss.tolist() == pytest.approx(losses, rel=1e-4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_equals_training_each_model_alone(name: str, masked: bool, engine: str, data: zs.Dataset) -> None:
    population = tiny.population()
    optimizer, make_optimizer = OPTIMIZERS[name]
    masks = random_mask(population) if masked else None
    assert_equal_to_alone(population, data, optimizer, lambda _: make_optimizer, masks=masks, engine=engine)
    if masks is not None:
        assert (population.weights[~masks] == 0.0).all()
        assert torch.equal(population.masks, masks)


@pytest.mark.parametrize("engine", ENGINES)
def test_hyperparameters_per_model(engine: str, data: zs.Dataset) -> None:
    lr, decay, beta = torch.tensor([1e-2, 1e-3, 1e-4]), [0.0, 0.1, 1e-3], [0.9, 0.5, 0.0]

    def make(row: int) -> MakeOptimizer:
        options = {"lr": float(lr[row]), "weight_decay": decay[row], "betas": (beta[row], 0.99)}
        return lambda p: torch.optim.Adam(p, **options)

    optimizer = zs.Adam(lr=lr, weight_decay=decay, betas=(beta, 0.99))
    assert_equal_to_alone(tiny.population(), data, optimizer, make, engine=engine)


@pytest.mark.parametrize("engine", ENGINES)
def test_momentum_of_some_models_only(engine: str, data: zs.Dataset) -> None:
    momentum = [0.0, 0.9, 0.5]
    assert_equal_to_alone(
        tiny.population(),
        data,
        zs.SGD(lr=0.05, momentum=momentum),
        lambda row: lambda p: torch.optim.SGD(p, lr=0.05, momentum=momentum[row]),
        engine=engine,
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_one_order_for_all(engine: str, data: zs.Dataset) -> None:
    optimizer, make_optimizer = OPTIMIZERS["adam"]
    assert_equal_to_alone(
        tiny.population(), data, optimizer, lambda _: make_optimizer, shared=True, engine=engine
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_schedule_scales_the_learning_rate(engine: str, data: zs.Dataset) -> None:
    optimizer, make_optimizer = OPTIMIZERS["momentum"]
    assert_equal_to_alone(
        tiny.population(),
        data,
        optimizer,
        lambda _: make_optimizer,
        lr_schedule=schedules.OneCycle(),
        engine=engine,
    )


@pytest.mark.parametrize("masked", [False, True], ids=["dense", "masked"])
@pytest.mark.parametrize("build", [tiny.Residual, tiny.batch_normed], ids=["residual", "batch norm"])
def test_modules_that_are_no_chains(build: Callable[[], nn.Module], masked: bool, data: zs.Dataset) -> None:
    """Batch norm too: its running statistics are columns of the matrix, kept by every model for itself."""
    population = tiny.population(build)
    masks = random_mask(population) if masked else None
    optimizer, make_optimizer = OPTIMIZERS["adamw"]
    assert_equal_to_alone(population, data, optimizer, lambda _: make_optimizer, masks=masks)


def test_batch_norm_with_a_cumulative_average(data: zs.Dataset) -> None:
    """Its average needs the count of batches, which lies beside the matrix."""
    population = tiny.population(lambda: tiny.Residual(norm=lambda: nn.BatchNorm2d(3, momentum=None)))
    optimizer, make_optimizer = OPTIMIZERS["adamw"]
    assert_equal_to_alone(population, data, optimizer, lambda _: make_optimizer)
    assert population.counts is not None and population.counts.unique().tolist() == [EPOCHS * 5]


class Branching(tiny.Residual):
    """Doubles images that are bright on the whole, which vmap cannot follow."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(2 * images if float(images.mean()) > 0 else images)


def test_modules_that_branch_on_values(data: zs.Dataset, caplog: pytest.LogCaptureFixture) -> None:
    population = tiny.population(Branching)
    optimizer, make_optimizer = OPTIMIZERS["momentum"]
    with caplog.at_level("INFO", "zoosparse_ext"):
        assert_equal_to_alone(population, data, optimizer, lambda _: make_optimizer)
    assert "running Branching model by model: vmap" in caplog.text
    images = data.test.normalized()
    for scores, module in zip(population(images), population.to_modules(), strict=True):
        torch.testing.assert_close(scores, module(images))


class Noisy(tiny.Residual):
    """Dropout as a function, in evaluation too if asked."""

    always = False

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(F.dropout(images, 0.5, training=self.training or self.always))


def test_random_functions_of_a_module(data: zs.Dataset) -> None:
    """Their noise is that of model, seed and step; in evaluation it is the same each time."""
    populations = [tiny.population(Noisy) for _ in range(2)]
    for population in populations:
        zs.train(population, data, epochs=1, batch_size=BATCH)
    assert torch.equal(populations[0].weights, populations[1].weights)
    images = data.test.normalized()
    quiet = populations[0](images)
    populations[0].architecture.template.always = True  # type: ignore[assignment, union-attr]
    assert not torch.equal(populations[0](images), quiet)
    assert torch.equal(populations[0](images), populations[0](images))


class Pair(tiny.Residual):
    def forward(self, images: Tensor) -> Any:
        return super().forward(images), images


class TwoInputs(tiny.Residual):
    def forward(self, images: Tensor, scale: Tensor) -> Tensor:
        return super().forward(scale * images)


class OneRow(tiny.Residual):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).mean(0)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (Pair, r"'Pair' returns a tuple for images \[1, 1, 8, 8\]; a population needs scores \[1, classes\]"),
        (OneRow, r"'OneRow' returns \[4\] for images"),
        (TwoInputs, "'TwoInputs' cannot take images of size 1×8×8: .*'scale'"),
    ],
)
def test_modules_that_give_no_scores(build: type[nn.Module], message: str, data: zs.Dataset) -> None:
    for run in (lambda population: zs.train(population, data, epochs=1), lambda p: zs.evaluate(p, data)):
        with pytest.raises(InputError, match=message):
            run(tiny.population(build))


@pytest.mark.parametrize("seed", [0, 2**35])
def test_dropout_in_a_module_that_is_no_chain(seed: int, data: zs.Dataset) -> None:
    """Its noise depends on model, seed and step, not on the neighbours."""
    population = tiny.population(lambda: tiny.Residual(dropout=0.5))
    population.models["seed"] += 2**40
    alone = population[1:2].clone()
    quiet = zs.Population.from_modules(population.to_modules())
    for trained in (population, alone):
        zs.train(trained, data, epochs=1, batch_size=BATCH, seed=seed, splits=())
    torch.testing.assert_close(population.weights[1:2], alone.weights, rtol=0, atol=1e-6)
    quiet.models["dropout"] = 0.0
    zs.train(quiet, data, epochs=1, batch_size=BATCH, seed=seed, splits=())
    assert not torch.allclose(population.weights, quiet.weights)


@pytest.mark.parametrize("engine", ENGINES)
def test_zero_epochs_change_nothing(engine: str, data: zs.Dataset) -> None:
    population = tiny.population()
    before = population.weights.clone()
    history = zs.train(population, data, epochs=0, engine=engine, lr_schedule="onecycle")
    assert torch.equal(population.weights, before)
    assert history.epoch.tolist() == [0, 0, 0] and history.train_loss.isna().all()
    assert history.test_accuracy.tolist() == zs.evaluate(population, data).accuracy.tolist()


def test_history(data: zs.Dataset) -> None:
    population = tiny.population()
    seen: list[zs.Progress] = []
    history = zs.train(population, data, epochs=2, batch_size=BATCH, progress=seen.append)
    columns = [f"{split}_{what}" for split in ("train", "val", "test") for what in ("loss", "accuracy")]
    assert list(history.columns) == ["model_id", "epoch", *columns]
    assert history.epoch.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert history.model_id.tolist() == population.ids * 3
    last, result = history[history.epoch == 2], zs.evaluate(population, data.val)
    assert last.val_accuracy.tolist() == result.accuracy.tolist()
    assert last.val_loss.tolist() == result.loss.tolist()
    assert torch.equal(population.predictions, zs.evaluate(population, data.test).predictions)
    assert [(p.epoch, p.epochs, p.models, p.population) for p in seen] == [(1, 2, 3, 3), (2, 2, 3, 3)]
    assert seen[-1].accuracy == pytest.approx(last.train_accuracy.mean())


def test_predictions_of_other_weights_are_forgotten(data: zs.Dataset) -> None:
    population = tiny.population()
    zs.train(population, data, epochs=0)
    assert population.predictions is not None
    zs.train(population, data, epochs=1, splits=("val",))
    assert population.predictions is None


def test_images_need_no_particular_memory(data: zs.Dataset) -> None:
    """Tensors whose axes were moved, and float images, train like the others."""
    moved = (
        data.train.images.movedim(1, 3)
        .contiguous()
        .movedim(3, 1)
        .transpose(2, 3)
        .contiguous()
        .transpose(2, 3)
    )
    assert not moved.is_contiguous()
    pixels = data.train.images.float() / 255
    statistics = {"mean": data.train.mean.tolist(), "std": data.train.std.tolist()}
    results = []
    for images in (data.train.images, moved, pixels):
        population = tiny.population()
        test = (images[:5], data.train.labels[:5])
        same = zs.Dataset.from_tensors(images, data.train.labels, test=test, **statistics)
        zs.train(population, same, epochs=2, batch_size=BATCH)
        results.append(population.weights)
    assert torch.equal(results[0], results[1])
    torch.testing.assert_close(results[0], results[2], **TOLERANCE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("view", [slice(0, 2), slice(None, None, 2)], ids=["rows", "every other row"])
def test_weights_that_are_a_view(view: slice, transposed: bool, engine: str, data: zs.Dataset) -> None:
    """Rows of a larger matrix are trained where they lie, to the same bits, the others left alone."""
    matrix = torch.cat([tiny.population().weights, torch.ones(1, 138)])
    matrix = matrix.T.contiguous().T if transposed else matrix
    matrix.requires_grad_()  # as what a network generated
    whole = zs.Population(matrix, tiny.population().architecture)
    part, copy = whole[view], tiny.population()[view].clone()
    copy.weights = whole.weights[view].detach().clone(memory_format=torch.contiguous_format)
    histories = [zs.train(p, data, epochs=2, batch_size=BATCH, engine=engine) for p in (part, copy)]
    assert torch.equal(part.weights, copy.weights) and histories[0].equals(histories[1])
    assert torch.equal(whole.weights[view], copy.weights)
    assert torch.equal(whole.weights[3], torch.ones(138))


def test_float64_on_the_reference(data: zs.Dataset) -> None:
    single = tiny.population()
    double = zs.Population(single.weights.double(), single.architecture)
    history = zs.train(double, data, epochs=1, batch_size=BATCH)
    zs.train(single, data, epochs=1, batch_size=BATCH)
    assert double.weights.dtype == torch.float64 and history.test_loss.notna().all()
    torch.testing.assert_close(double.weights.float(), single.weights, **TOLERANCE)


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "epochs": ({"epochs": -1}, "epochs must be 0 or more, got -1"),
    "batch size": ({"batch_size": 0}, "batch_size must be 1 or more, got 0"),
    "order": ({"order": "random"}, "order must be one of per-model, shared; got 'random'"),
    "engine": ({"engine": "cuda"}, "engine must be 'auto', 'native' or 'reference', got 'cuda'"),
    "schedule": (
        {"lr_schedule": "poly"},
        "lr_schedule must be one of constant, step, cosine, onecycle; got 'poly'",
    ),
    "split": ({"splits": ("valid",)}, "unknown split 'valid'; known: train, val, test"),
    "vector": ({"optimizer": zs.Adam(lr=[1e-3, 1e-4])}, "adam: lr has 2 values for 3 models"),
    "negative": ({"optimizer": zs.SGD(lr=-1.0)}, "sgd: lr must be finite and not negative"),
    "infinite": ({"optimizer": zs.SGD(momentum=float("inf"))}, "sgd: beta1 must be finite"),
    "masks": (
        {"masks": torch.ones(2, 138, dtype=torch.bool)},
        r"masks are torch.bool \[2, 138\], expected bool",
    ),
    "mask dtype": ({"masks": torch.ones(3, 138)}, r"expected bool \[3, 138\] or packed uint8 \[3, 18\]"),
    "epochs in part": ({"epochs": 1.5}, "epochs: got float 1.5, expected a whole number, 0 or more"),
    "name of a split": ({"splits": "test"}, r"splits: got str 'test', expected names of splits"),
    "list of masks": ({"masks": [1]}, "masks: got list, expected a tensor"),
    "named optimizer": ({"optimizer": "adam"}, r"optimizer: got str 'adam', expected zs.Adam\(…\)"),
    "torch's optimizer": (
        {"optimizer": torch.optim.Adam},
        "optimizer: got type <class .*Adam'>, expected zs.Adam",
    ),
    "masks with another error": (
        {"masks": torch.ones(3, 138, dtype=torch.bool), "optimizer": zs.Adam(lr=-1.0)},
        "adam: lr must be finite",
    ),
    "packed dtype": ({"masks": torch.ones(3, 18)}, r"packed uint8 \[3, 18\]"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_leave_the_population_as_it_was(name: str, data: zs.Dataset) -> None:
    options, message = ERRORS[name]
    population = tiny.population()
    before = population.weights.clone()
    with pytest.raises(InputError, match=message):
        zs.train(population, data, **({"epochs": 1} | options))
    assert torch.equal(population.weights, before) and population.packed_masks is None


@pytest.mark.parametrize("build", [tiny.chain, tiny.Residual], ids=["chain", "no chain"])
def test_data_that_do_not_fit(build: Callable[[], nn.Module], data: zs.Dataset) -> None:
    population = tiny.population(build)
    with pytest.raises(InputError, match=r"data: got Split, expected a zs.Dataset, from zs.load_dataset"):
        zs.train(population, data.train, epochs=1)  # type: ignore[arg-type]
    labels = zs.Dataset.from_tensors(data.train.images, data.train.labels + 3)
    with pytest.raises(InputError, match=r"data have label \d, architecture '.*' has 4 classes"):
        zs.train(population, labels, epochs=1)
    with pytest.raises(InputError, match="data have label"):
        zs.evaluate(population, labels)
    channels = zs.Dataset.from_tensors(data.train.images.expand(-1, 3, -1, -1), data.train.labels)
    with pytest.raises(InputError, match="3×8×8"):
        zs.train(population, channels, epochs=1)
    with pytest.raises(InputError, match="3×8×8"):
        zs.evaluate(population, channels)


def test_a_dropout_rate_of_one_is_refused(data: zs.Dataset) -> None:
    population = tiny.population(lambda: tiny.chain(dropout=0.5))
    population.models["dropout"] = 1.0
    with pytest.raises(InputError, match="a rate of 1 drops everything"):
        zs.train(population, data, epochs=1)


def test_the_native_engine_says_why_not(data: zs.Dataset) -> None:
    with pytest.raises(InputError, match=r"cannot run 'Residual': .*they lack add of two results"):
        zs.train(tiny.population(tiny.Residual), data, epochs=1, engine="native")
