"""The ready networks have the layers, names and sizes of the published zoos."""

from __future__ import annotations

import pytest
import torch

from zoosparse_ext.errors import InputError
from zoosparse_ext.population.architecture import Architecture
from zoosparse_ext.population.networks import architecture
from zoosparse_ext.population.program import ACTIVATIONS, Activation, Dropout

CNN_S_INDEX = [("module_list.0", 0, 208), ("module_list.3", 208, 1206), ("module_list.6", 1414, 100)]
CNN_S_INDEX += [("module_list.9", 1514, 740), ("module_list.11", 2254, 210)]


@pytest.mark.parametrize(
    ("name", "options", "parameters", "indices"),
    [
        ("cnn-s", {}, 2464, [0, 3, 6, 9, 11]),
        ("cnn-s", {"dropout": 0.5}, 2464, [0, 4, 8, 11, 14]),
        ("cnn-s", {"channels": 3}, 2864, [0, 3, 6, 9, 11]),
        ("cnn-m", {}, 3047, [0, 3, 6, 9, 11]),
        ("cnn-m", {"dropout": 0.0}, 3047, [0, 4, 8, 11, 14]),
        ("cnn-l", {}, 10853, [0, 4, 8, 13, 16]),
        ("cnn-l", {"dropout": 0.3}, 10853, [0, 4, 8, 13, 16]),
        ("mlp", {"size": (4, 16), "channels": 3}, 192 * 64 + 64 + 64 * 32 + 32 + 330, [1, 3, 5]),
        ("mlp", {"size": 8}, 64 * 64 + 64 + 64 * 32 + 32 + 330, [1, 3, 5]),
    ],
)
def test_sizes_and_names(name: str, options: dict, parameters: int, indices: list[int]) -> None:
    network = architecture(name, **options)
    assert network.n_parameters == parameters
    assert [s.layer for s in network.prunable_segments] == [f"module_list.{index}" for index in indices]
    assert [s.name.rpartition(".")[2] for s in network.segments] == ["weight", "bias"] * len(indices)
    assert network.program is not None and network.input_shape is not None
    assert network.program.shapes(network.input_shape)[-1] == (10, 1, 1)
    rates = {op.rate for op in network.program.operations if isinstance(op, Dropout)}
    published = {0.0} if name == "cnn-l" else set()  # the published CNN-l always has dropout layers
    assert rates == ({options["dropout"]} if "dropout" in options else published)


def test_columns_of_cnn_s_are_those_of_the_published_index() -> None:
    network = architecture("cnn-s")
    weights, biases = network.segments[::2], network.segments[1::2]
    index = [(w.layer, w.offset, w.size + b.size) for w, b in zip(weights, biases, strict=True)]
    assert index == CNN_S_INDEX
    assert network.n_prunable == 2416


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str) -> None:
    """All but the identity, which is no operation: the layers keep their indices."""
    network = architecture("cnn-s", activation=activation)
    assert network.program is not None
    operations = [op.function for op in network.program.operations if isinstance(op, Activation)]
    assert operations == ([] if activation == "identity" else [activation] * 4)
    assert network.name == f"cnn-s-{activation}"
    assert network.segments[-1].name == "module_list.11.bias"


def test_names_tell_dropout_apart() -> None:
    assert architecture("cnn-m", dropout=0.5).name == "cnn-m-tanh-dropout"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("cnn-xl", {}, "unknown architecture 'cnn-xl'; known: cnn-s, cnn-m, cnn-l, resnet18, mlp"),
        ("cnn-s", {"activation": "swish"}, "unknown activation 'swish'"),
        ("cnn-s", {"dropout": 1.0}, r"dropout rate must lie in \[0, 1\)"),
    ],
)
def test_errors(name: str, options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        architecture(name, **options)


def test_round_trip_of_an_architecture() -> None:
    network = architecture("cnn-l", dropout=0.5)
    again = Architecture.from_dict(network.to_dict())
    assert again == network and hash(again) == hash(network)
    assert again != architecture("cnn-l")
    assert again.unflatten(torch.zeros(10853)).keys() == network.module().state_dict().keys()


def test_resnet18_has_the_names_and_sizes_of_torchvision() -> None:
    """With the stem for CIFAR: 3×3, stride 1, no pooling."""
    network = architecture("resnet18")
    parameters = sum(segment.size for segment in network.segments if segment.trainable)
    assert (parameters, network.n_parameters - parameters) == (11_173_962, 9_600)
    assert network.input_shape == (3, 32, 32) and network.name == "resnet18-relu"
    segments = {segment.name: segment for segment in network.segments}
    assert segments["conv1.weight"].shape == (64, 3, 3, 3)
    assert segments["layer2.0.downsample.0.weight"].shape == (128, 64, 1, 1)
    assert segments["layer4.1.conv2.weight"].shape == (512, 512, 3, 3)
    assert segments["fc.weight"].shape == (10, 512)
    assert not segments["layer4.1.bn2.running_mean"].trainable and not segments["bn1.weight"].prunable
    assert len(network.prunable_segments) == 1 + 16 + 3 + 1
    maps = []
    module = network.module().eval()
    for name in ("conv1", "layer1", "layer2", "layer3", "layer4"):
        module.get_submodule(name).register_forward_hook(lambda _, __, output: maps.append(output.shape))
    with torch.no_grad():
        assert module(torch.rand(1, 3, 32, 32)).shape == (1, 10)
    assert [tuple(shape[1:]) for shape in maps] == [
        (64, 32, 32), (64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)
    ]  # fmt: skip


def test_resnet18_comes_back_from_plain_values_with_its_module() -> None:
    network = architecture("resnet18", channels=1, activation="gelu", classes=3, size=8)
    again = Architecture.from_dict(network.to_dict())
    assert again == network and again.input_shape == (1, 8, 8)
    assert repr(again.module()) == repr(network.module())
    with pytest.raises(InputError, match="resnet18 has no dropout layers"):
        architecture("resnet18", dropout=0.5)
