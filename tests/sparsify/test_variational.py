"""Variational dropout of populations against the usual layers, one model at a time."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import zoosparse_ext as zs
from tests.population import tiny
from tests.sparsify.ard import ARDLayer, variational
from zoosparse_ext import random
from zoosparse_ext.errors import InputError
from zoosparse_ext.ops import train as native_engine
from zoosparse_ext.sparsify.methods.variational import VariationalDropout
from zoosparse_ext.sparsify.settings import differences
from zoosparse_ext.sparsify.variational import PRESETS, Preset

ENGINES = ["reference", "native"] if native_engine.available() else ["reference"]
every_engine = pytest.mark.parametrize("engine", ENGINES)

# Pushes hard on the KL, so that ten steps drop weights; all terms of the objective are in play.
EAGER = Preset(-3.0, 8.0, 10.0, True, lambda epoch, epochs, images: 0.01 * (epoch + 1))
WITHOUT_BIASES = Preset(-3.0, 8.0, 10.0, False, EAGER.kl_weight)
BATCH, SEED = 5, 4


def train_alone(
    source: Any, preset: Preset, data: zs.Dataset, model_seed: int, epochs: int, lr: float
) -> Any:
    """One model through the usual layers, with the documented noise and order."""
    step = 0

    def noise(layer: int, mean: Tensor) -> Tensor:
        numbers = random.normal(
            torch.tensor([model_seed]), SEED, mean[0].numel(), step=step,
            stream=random.stream_id(random.VARIATIONAL_NOISE, layer), samples=len(mean),
        )  # fmt: skip
        return numbers.view(mean.shape)

    model = variational(source, noise, preset.initial_log_sigma2, preset.conv_biases)
    layers = [child for child in model if isinstance(child, ARDLayer)]
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    for epoch in range(epochs):
        order = random.permutation(torch.tensor([model_seed]), SEED, len(data.train), epoch=epoch)[0]
        for batch in order.long().split(BATCH):
            loss = F.cross_entropy(model(data.train.normalized(batch)), data.train.labels[batch])
            kl = sum(layer.kl() for layer in layers)
            optimizer.zero_grad()
            (loss + preset.kl_weight(epoch, epochs, len(data.train)) * kl).backward()
            optimizer.step()
            step += 1
    return layers


@every_engine
@pytest.mark.parametrize(
    "preset", [EAGER, WITHOUT_BIASES, PRESETS["modelzoos"]], ids=["eager", "plain", "published"]
)
def test_equals_the_usual_layers(preset: Preset, engine: str, data: zs.Dataset) -> None:
    modules = tiny.make(tiny.chain, 2)
    population = zs.Population.from_modules(modules)
    options = {"epochs": 2, "batch_size": BATCH, "seed": SEED, "optimizer": zs.Adam(lr=1e-2)}
    twins = zs.variational_dropout(population, data, preset=preset, engine=engine, **options)
    assert twins.masks is not None and twins.log_sigma2 is not None
    for row, module in enumerate(modules):
        layers = train_alone(module, preset, data, row, epochs=2, lr=1e-2)
        for layer in layers:
            slices = {s.name: s.slice for s in twins.layers()}
            columns = slices[f"{layer.index}.weight"]
            close = {
                "rtol": 2e-3,
                "atol": 2e-4,
            }  # the native noise is good to 1e-6, and Adam makes much of it
            learned = twins.log_sigma2[row, columns].view_as(layer.log_sigma2)
            torch.testing.assert_close(learned, layer.log_sigma2.detach(), **close)
            alpha = layer.log_alpha(layer.layer.weight, layer.log_sigma2).detach()
            certain = ((alpha - 3.0).abs() > 1e-2).flatten()
            kept = twins.masks[row, columns]
            assert torch.equal(kept[certain], (alpha < 3.0).flatten()[certain])
            weights = torch.where(kept, layer.layer.weight.detach().flatten(), 0.0)
            torch.testing.assert_close(twins.weights[row, columns], weights, **close)
            bias = slices[f"{layer.index}.bias"]
            torch.testing.assert_close(twins.weights[row, bias], layer.layer.bias.detach(), **close)
    assert preset is PRESETS["modelzoos"] or (twins.sparsity() > 0.02).all()


@pytest.mark.parametrize("preset", [EAGER, WITHOUT_BIASES], ids=["eager", "plain"])
@pytest.mark.parametrize("build", [tiny.Residual, tiny.batch_normed], ids=["residual", "batch norm"])
@pytest.mark.parametrize("streams", ["of its own", "of the module"])
def test_graphs(streams: str, build: Any, preset: Preset, data: zs.Dataset) -> None:
    """Noise has the streams of the operations; of zoos without a program it is PyTorch's, of a generator seeded by
    model, seed and step. Batch norm keeps its statistics."""
    modules = tiny.make(build, 2)
    population = zs.Population.from_modules(modules)
    program = population.architecture.program
    assert program is not None and not program.is_chain
    places = {layer.name: program.operations.index(layer) for layer in program.layers}
    if streams == "of the module":
        without = dataclasses.replace(population.architecture, program=None)
        population.architecture, places = without.retraced(modules[0]), None
    options = {"epochs": 2, "batch_size": BATCH, "seed": SEED, "optimizer": zs.Adam(lr=1e-2)}
    twins = zs.variational_dropout(population, data, preset=preset, **options)
    assert twins.masks is not None and twins.log_sigma2 is not None and (twins.sparsity() > 0.02).all()
    segments = {segment.name: segment for segment in twins.layers()}
    for row, module in enumerate(modules):
        layers = residual_alone(module.train(), preset, data, row, places, epochs=2, lr=1e-2)
        for name, tensor in module.state_dict().items():
            layer = layers.get(name.partition(".")[0])
            if layer is None and tensor.is_floating_point():  # batch norm
                learned = twins.weights[row, segments[name].slice].view_as(tensor)
                torch.testing.assert_close(learned, tensor, rtol=1e-3, atol=1e-5)
        for name, layer in layers.items():
            columns = segments[f"{name}.weight"].slice
            learned = twins.log_sigma2[row, columns].view_as(layer.log_sigma2)
            torch.testing.assert_close(learned, layer.log_sigma2.detach(), rtol=1e-3, atol=1e-4)
            kept = twins.masks[row, columns]
            alpha = layer.log_alpha(layer.layer.weight, layer.log_sigma2).detach()
            assert torch.equal(kept, (alpha < 3.0).flatten())
            weights = torch.where(kept, layer.layer.weight.detach().flatten(), 0.0)
            torch.testing.assert_close(twins.weights[row, columns], weights, rtol=1e-3, atol=1e-5)
    alone = zs.variational_dropout(population[1:], data, preset=preset, **options)
    torch.testing.assert_close(alone.weights[0], twins.weights[1], rtol=0, atol=1e-6)


def residual_alone(
    module: Any,
    preset: Preset,
    data: zs.Dataset,
    model_seed: int,
    places: dict[str, int] | None,
    epochs: int,
    lr: float,
) -> dict[str, ARDLayer]:
    """One residual network, its layers replaced by the usual ones; `places` are those of the layers in a program."""
    start, with_bias = preset.initial_log_sigma2, preset.conv_biases
    layers, step = {}, 0

    def noise(place: int, mean: Tensor) -> Tensor:
        if places is None:
            return torch.randn_like(mean)
        numbers = random.normal(
            torch.tensor([model_seed]), SEED, mean[0].numel(), step=step,
            stream=random.stream_id(random.VARIATIONAL_NOISE, place), samples=len(mean),
        )  # fmt: skip
        return numbers.view(mean.shape)

    for name in ("stem", "conv", "head"):
        place = 0 if places is None else places[name]
        layers[name] = ARDLayer(getattr(module, name), place, noise, start, with_bias)
        setattr(module, name, layers[name])
    optimizer = torch.optim.Adam(module.parameters(), lr=lr)
    for epoch in range(epochs):
        order = random.permutation(torch.tensor([model_seed]), SEED, len(data.train), epoch=epoch)[0]
        for batch in order.long().split(BATCH):
            torch.manual_seed((model_seed * 1_000_003 + SEED) * 1_000_003 + step)
            loss = F.cross_entropy(module(data.train.normalized(batch)), data.train.labels[batch])
            kl = sum(layer.kl() for layer in layers.values())
            optimizer.zero_grad()
            (loss + preset.kl_weight(epoch, epochs, len(data.train)) * kl).backward()
            optimizer.step()
            step += 1
    return layers


@every_engine
def test_the_trajectory(engine: str, data: zs.Dataset) -> None:
    population = tiny.population()
    before = population.weights.clone()
    options = {"preset": EAGER, "batch_size": BATCH, "optimizer": zs.Adam(lr=0.05), "engine": engine}
    twins = zs.variational_dropout(population, data, epochs=3, **options)
    history = twins.history
    assert torch.equal(population.weights, before) and history is not None
    assert list(history.columns) == [
        *("twin_id", "source_id", "method", "scope", "target", "matched", "series", "epoch", "sparsity"),
        *(f"sparsity_layer.{layer}" for layer in "0368"),
        *("loss", "accuracy", "agreement", "kappa", "agreement_on_errors"),
        *("empty_layers", "dead_outputs", "one_answer"),
    ]
    assert history.epoch.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    (series,) = set(history.series)
    assert series.startswith("variational-preset_")  # not one of those that have a name
    assert history.twin_id.tolist()[:3] == [f"{source}/{series}" for source in population.ids]
    assert zs.variational_dropout(population, data, epochs=0).ids[0] == f"{population.ids[0]}/variational"
    assert history.source_id.tolist()[:3] == population.ids
    assert set(history.method) == {"variational"}
    assert history[["scope", "target", "matched"]].isna().all(axis=None)
    last = history[history.epoch == 3]
    assert last.sparsity.tolist() == twins.sparsity().tolist()
    assert last.filter(like="sparsity_layer").to_numpy().tolist() == twins.sparsity(by_layer=True).tolist()
    result = zs.evaluate(twins, data)
    assert last.accuracy.tolist() == result.accuracy.tolist() and last.loss.tolist() == result.loss.tolist()
    assert torch.equal(twins.predictions, result.predictions)
    source = zs.evaluate(population, data).predictions
    assert last.agreement.tolist() == (source == twins.predictions).double().mean(1).tolist()


@every_engine
def test_dropped_weights_are_exactly_zero(engine: str, data: zs.Dataset) -> None:
    options = {"preset": EAGER, "batch_size": BATCH, "optimizer": zs.Adam(lr=0.05), "engine": engine}
    twins = zs.variational_dropout(tiny.population(), data, epochs=3, **options)
    assert twins.masks is not None
    dropped = twins.weights[~twins.masks]
    assert dropped.numel() > 30 and torch.equal(dropped, torch.zeros_like(dropped))
    assert (twins.weights[twins.masks] != 0).all()
    biases = [s.slice for s in twins.layers() if not s.prunable]
    assert all(twins.masks[:, columns].all() for columns in biases)


def test_zero_epochs(data: zs.Dataset) -> None:
    population = tiny.population()
    population.weights[0, 5] = 0.0
    twins = zs.variational_dropout(population, data, epochs=0)
    assert torch.equal(twins.weights, population.weights)
    assert twins.masks is not None and (~twins.masks).nonzero().tolist() == [[0, 5]]
    assert twins.history is not None and twins.history.epoch.tolist() == [0, 0, 0]


@every_engine
@pytest.mark.parametrize("initial", [-200.0, -10.0, 60.0])
@pytest.mark.parametrize("preset", ["modelzoos", "molchanov"])
def test_never_nan(preset: str, initial: float, engine: str, data: zs.Dataset) -> None:
    """Weights and biases of 0, tiny and large ones; variances that vanish and that drown everything."""
    population = tiny.population()
    population.weights[0, ::2] = 0.0
    population.weights[1] *= 1e-20
    population.weights[2] *= 30.0
    published = PRESETS[preset]
    extreme = Preset(
        initial, published.conv_clamp, published.linear_clamp, published.conv_biases, published.kl_weight
    )
    options = {"epochs": 2, "batch_size": BATCH, "optimizer": zs.Adam(lr=1e-2), "engine": engine}
    twins = zs.variational_dropout(population, data, preset=extreme, **options)
    assert torch.isfinite(twins.weights).all() and torch.isfinite(twins.log_sigma2).all()
    assert twins.history is not None and twins.history.loss.notna().all()


def test_models_that_are_nan(data: zs.Dataset) -> None:
    population = tiny.population()
    population.weights[2, 30] = torch.nan
    with pytest.raises(InputError, match=r"row 2 \(model '0002'\), layer '3.weight'; 1 of 3.*--allow-nan"):
        zs.variational_dropout(population, data, epochs=1)
    twins = zs.variational_dropout(population, data, epochs=1, allow_nan=True)
    sound = zs.variational_dropout(population[:2].clone(), data, epochs=1)
    assert torch.isfinite(twins.weights[:2]).all() and twins.weights[2].isnan().any()
    torch.testing.assert_close(twins.weights[:2], sound.weights)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("modelzoos", [0.0, 0.002, 0.004, 0.006, 0.008]),
        ("molchanov", [1 / 23] * 5),
    ],
)
def test_kl_weights_of_the_presets(preset: str, expected: list[float]) -> None:
    weigh = PRESETS[preset].kl_weight
    assert [weigh(epoch, 5, 23) for epoch in range(5)] == pytest.approx(expected)


def test_kl_weights_at_their_ends() -> None:
    published, original = PRESETS["modelzoos"].kl_weight, PRESETS["molchanov"].kl_weight
    assert [published(epoch, 25, 1) for epoch in range(25)] == [0.01 * epoch / 25 for epoch in range(25)]
    assert published(10_000, 10_000, 1) == pytest.approx(0.01) and published(500, 5, 1) == 1.0
    assert [original(epoch, 25, 10) for epoch in (0, 3, 4, 24)] == pytest.approx([0.02, 0.08, 0.1, 0.1])
    assert original(0, 1, 10) == pytest.approx(0.1)


def test_the_weight_of_every_epoch_is_asked_once(data: zs.Dataset) -> None:
    """Counted from 0, with the number of epochs and of training images."""
    asked: list[tuple[int, int, int]] = []

    def weigh(epoch: int, epochs: int, images: int) -> float:
        asked.append((epoch, epochs, images))
        return 0.0

    zs.variational_dropout(tiny.population(), data, epochs=3, preset=Preset(-10.0, 8.0, 10.0, False, weigh))
    assert set(asked) == {(0, 3, 23), (1, 3, 23), (2, 3, 23)}


@every_engine
@pytest.mark.parametrize("preset", ["modelzoos", "molchanov", EAGER])
def test_kl_scale_multiplies_the_weight(preset: str | Preset, engine: str, data: zs.Dataset) -> None:
    """Twins are those of a preset with so much larger weights, and are named by the scale."""
    chosen = preset if isinstance(preset, Preset) else PRESETS[preset]
    scaled = Preset(
        chosen.initial_log_sigma2,
        chosen.conv_clamp,
        chosen.linear_clamp,
        chosen.conv_biases,
        lambda *run: 30 * chosen.kl_weight(*run),
    )
    options = {"epochs": 3, "batch_size": BATCH, "engine": engine}
    twins = zs.variational_dropout(tiny.population(), data, preset=preset, kl_scale=30, **options)
    expected = zs.variational_dropout(tiny.population(), data, preset=scaled, **options)
    assert torch.equal(twins.weights, expected.weights)
    assert torch.equal(twins.log_sigma2, expected.log_sigma2)
    assert twins.ids[0].endswith("-kl_30")
    usual = zs.variational_dropout(tiny.population(), data, preset=preset, kl_scale=1, **options)
    plain = zs.variational_dropout(tiny.population(), data, preset=preset, **options)
    assert torch.equal(usual.weights, plain.weights) and usual.ids == plain.ids


def test_kl_scale_in_words() -> None:
    texts = VariationalDropout().texts()
    assert texts["kl"] == "kl 1" and VariationalDropout(kl_scale=0.25).texts()["kl"] == "kl 0.25"
    assert differences(VariationalDropout(kl_scale=30.0).texts(), texts) == ("kl 30",)


@pytest.mark.parametrize("scale", [-1, -0.5, float("nan"), float("inf"), True, "30", None, torch.tensor(2.0)])
def test_a_bad_kl_scale_is_refused(scale: Any, data: zs.Dataset) -> None:
    with pytest.raises(InputError, match=r"kl_scale.*0 or more"):
        zs.variational_dropout(tiny.population(), data, epochs=1, kl_scale=scale)


def test_no_kl_at_all(data: zs.Dataset) -> None:
    twins = zs.variational_dropout(tiny.population(), data, epochs=2, preset=EAGER, kl_scale=0)
    assert twins.ids[0].endswith("-kl_0") and torch.isfinite(twins.weights).all()


def test_a_run_begun_by_version_0_1_keeps_its_kl_weights(
    data: zs.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """They were divided by 25 whatever the epochs; what begins now, and what has another scale, is not."""
    name, published = "modelzoos", PRESETS["modelzoos"]
    options = {"epochs": 4, "batch_size": BATCH, "optimizer": zs.Adam(lr=1e-2)}

    def run(**more: Any) -> zs.Population:
        return zs.variational_dropout(tiny.population(), data, **options, **more)

    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 3:
            raise KeyboardInterrupt

    earlier = dataclasses.replace(published, kl_weight=lambda epoch, *_: min(1.0, 0.01 * epoch / 25))
    monkeypatch.setitem(PRESETS, name, earlier)  # as it was
    expected = run()
    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path / "run", progress=interrupt)
    monkeypatch.setitem(PRESETS, name, published)
    with pytest.raises(InputError, match="other settings"):
        run(checkpoint=tmp_path / "run", kl_scale=2)
    with caplog.at_level("WARNING", "zoosparse_ext"):
        again = run(checkpoint=tmp_path / "run")
    assert "begun by an earlier version" in caplog.text and "kl_scale=0.16" in caplog.text
    assert torch.equal(again.weights, expected.weights) and again.ids == expected.ids
    assert torch.equal(again.log_sigma2, expected.log_sigma2)
    fresh, scaled = run(), run(kl_scale=0.16)
    assert not torch.equal(fresh.log_sigma2, expected.log_sigma2)
    torch.testing.assert_close(scaled.log_sigma2, expected.log_sigma2)


@every_engine
def test_what_is_pruned_stays_pruned(engine: str, data: zs.Dataset) -> None:
    pruned = zs.magnitude_prune(tiny.population(), 0.5, biases=True)
    twins = zs.variational_dropout(pruned, data, epochs=2, batch_size=BATCH, engine=engine)
    assert twins.masks is not None and pruned.masks is not None
    assert (pruned.masks >= twins.masks).all() and (twins.weights[~pruned.masks] == 0.0).all()
    assert twins.models["source_id"].tolist() == pruned.ids


def test_an_interrupted_run_goes_on_to_the_same_bits(data: zs.Dataset, tmp_path: Path) -> None:
    """Even with a preset of one's own, whose function is another object after a restart."""

    def run(**options: Any) -> zs.Population:
        own = Preset(-3.0, 8.0, 10.0, True, lambda epoch, epochs, images: 0.01 * (epoch + 1))
        return zs.variational_dropout(
            tiny.population(), data, epochs=3, batch_size=BATCH, preset=own, **options
        )

    def interrupt(progress: zs.Progress) -> None:
        if progress.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(checkpoint=tmp_path / "run", progress=interrupt)
    again, expected = run(checkpoint=tmp_path / "run"), run()
    assert torch.equal(again.weights, expected.weights) and torch.equal(again.log_sigma2, expected.log_sigma2)
    assert again.history is not None and again.history.equals(expected.history)
    with pytest.raises(InputError, match="other settings"):
        run(checkpoint=tmp_path / "run", threshold=2.0)


def test_errors(data: zs.Dataset) -> None:
    with pytest.raises(InputError, match="preset must be one of modelzoos, molchanov; got 'kingma'"):
        zs.variational_dropout(tiny.population(), data, preset="kingma")
    with pytest.raises(InputError, match=r"cannot put noise on 'conv\.weight' of 'Silent'"):
        zs.variational_dropout(tiny.population(Silent), data, epochs=1)


class Silent(tiny.Residual):
    """Takes the weights of a layer past the layer."""

    def forward(self, images: Tensor) -> Tensor:
        hidden = torch.tanh(self.stem(images))
        return self.head(F.conv2d(hidden, self.conv.weight, self.conv.bias).mean((2, 3)))


@pytest.mark.parametrize("cut", [2, 3])
def test_bits_of_the_reference_do_not_depend_on_neighbors(cut: int) -> None:
    """From the second epoch on the KL has a weight; its functions must not depend on where a row lies."""
    images = zs.load_dataset("digits").limit(40)
    population = zs.Population.initialise(zs.architecture("cnn-s"), seeds=range(1, 7))
    options: dict[str, Any] = {"epochs": 2, "optimizer": zs.Adam(lr=0.01), "engine": "reference"}
    whole = zs.variational_dropout(population, images, **options)
    parts = [zs.variational_dropout(part, images, **options) for part in (population[:cut], population[cut:])]
    assert torch.equal(whole.weights, torch.cat([part.weights for part in parts]))
