"""Random networks of all operations, as modules of PyTorch's, and layers of every kind."""

from __future__ import annotations

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

Function = Callable[..., Tensor]


class Called(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *values: Tensor) -> Tensor:
        return self.function(*values)


class Scaled(nn.Module):
    """A parameter and a buffer of the module's own."""

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(channels, *[1] * axes) + 0.5)
        self.register_buffer("shift", torch.randn(1, channels, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        return 2.0 - self.scale * x / 1.5 + self.shift


ACTIVATIONS: list[Callable[[], nn.Module]] = [
    nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.SiLU, nn.GELU, nn.ReLU6, lambda: nn.ELU(0.7), nn.SELU,
    lambda: nn.CELU(0.7), lambda: nn.Softplus(2.0, 10.0), nn.Softsign, nn.Hardswish, nn.Hardsigmoid,
    lambda: nn.Hardtanh(-0.3, 0.4), nn.Mish, lambda: nn.GELU("tanh"), nn.PReLU, nn.Hardshrink, nn.Softshrink,
    nn.Tanhshrink, nn.LogSigmoid, lambda: nn.Threshold(0.1, -2.0), lambda: nn.Softmax(1), lambda: nn.LogSoftmax(-1),
    lambda: Called(torch.sin), lambda: Called(torch.cos), lambda: Called(lambda x: x.abs()),
    lambda: Called(torch.square), lambda: Called(lambda x: -x), lambda: Called(lambda x: x**2 / 3),
]  # fmt: skip

IMAGES: dict[str, Callable[[int], nn.Module]] = {  # layers on [B, C, H, W] by the number of channels, an even one
    "conv": lambda c: nn.Conv2d(c, 4, 3, padding=1),
    "conv without bias": lambda c: nn.Conv2d(c, 2, (3, 2), (2, 1), (1, 0), bias=False),
    "conv with groups": lambda c: nn.Conv2d(c, 4, 3, padding=1, groups=2),
    "depthwise conv": lambda c: nn.Conv2d(c, 2 * c, 3, padding=1, groups=c),
    "conv of one position": lambda c: nn.Conv2d(c, 6, 1),
    "conv of one position with stride": lambda c: nn.Conv2d(c, 4, 1, (2, 3), bias=False),
    "conv with dilation": lambda c: nn.Conv2d(c, 4, 2, dilation=2, padding=1),
    "conv with same padding": lambda c: nn.Conv2d(c, 4, (3, 5), padding="same"),
    "conv, reflect": lambda c: nn.Conv2d(c, 4, 3, padding=1, padding_mode="reflect"),
    "conv, replicate": lambda c: nn.Conv2d(c, 4, 3, padding=2, padding_mode="replicate"),
    "conv, circular": lambda c: nn.Conv2d(c, 4, 3, padding=(1, 0), padding_mode="circular", groups=2),
    "transposed conv": lambda c: nn.ConvTranspose2d(c, 4, 3, 2, 1, 1),
    "transposed conv with groups": lambda c: nn.ConvTranspose2d(c, 4, (2, 3), bias=False, groups=2, dilation=(2, 1)),
    "batch norm": lambda c: nn.BatchNorm2d(c),
    "batch norm, cumulative": lambda c: nn.BatchNorm2d(c, momentum=None),
    "batch norm without affine": lambda c: nn.BatchNorm2d(c, affine=False, eps=1e-3, momentum=0.3),
    "batch norm without statistics": lambda c: nn.BatchNorm2d(c, track_running_stats=False),
    "group norm": lambda c: nn.GroupNorm(2, c),
    "group norm without affine": lambda c: nn.GroupNorm(1, c, affine=False),
    "instance norm": lambda c: nn.InstanceNorm2d(c),
    "instance norm with all": lambda c: nn.InstanceNorm2d(c, affine=True, track_running_stats=True),
    "max pool": lambda c: nn.MaxPool2d((2, 3), 1, (1, 1)),
    "max pool, ceil": lambda c: nn.MaxPool2d(2, 2, dilation=1, ceil_mode=True),
    "max pool, dilation": lambda c: nn.MaxPool2d(2, 1, dilation=2, padding=1),
    "average pool": lambda c: nn.AvgPool2d(2, 1),
    "average pool, ceil": lambda c: nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    "average pool without padding": lambda c: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "average pool, divisor": lambda c: nn.AvgPool2d(2, 1, divisor_override=3),
    "adaptive average pool": lambda c: nn.AdaptiveAvgPool2d((3, 2)),
    "adaptive average pool of one axis": lambda c: nn.AdaptiveAvgPool2d((None, 2)),
    "adaptive max pool": lambda c: nn.AdaptiveMaxPool2d(3),
    "prelu of channels": lambda c: nn.PReLU(c),
    "softmax2d": lambda c: nn.Softmax2d(),
    "a scale and a shift": lambda c: Scaled(c, 2),
    "transpose": lambda c: Called(lambda x: x.transpose(2, 3)),
    "permute": lambda c: Called(lambda x: torch.permute(x, (0, 1, 3, 2))),
    "a part": lambda c: Called(lambda x: x[:, :, 1:]),
    "every other row": lambda c: Called(lambda x: x[..., ::2, :]),
    "mean that keeps axes": lambda c: Called(lambda x: x.mean((2, 3), keepdim=True)),
    "largest of rows": lambda c: Called(lambda x: x.amax(-1, keepdim=True)),
    "sum of rows": lambda c: Called(lambda x: torch.sum(x, dim=3, keepdim=True)),
    "identity": lambda c: nn.Identity(),
}  # fmt: skip

SIGNALS: dict[str, Callable[[int], nn.Module]] = {  # layers on [B, C, L]
    "conv1d": lambda c: nn.Conv1d(c, 4, 3, padding=1),
    "conv1d with groups and dilation": lambda c: nn.Conv1d(c, 4, 3, padding=2, groups=2, dilation=2),
    "conv1d of one position": lambda c: nn.Conv1d(c, 4, 1, 2),
    "conv1d, same, circular": lambda c: nn.Conv1d(c, 4, 3, padding="same", padding_mode="circular"),
    "conv1d, reflect": lambda c: nn.Conv1d(c, 2, 3, 2, 1, padding_mode="reflect", bias=False),
    "transposed conv1d": lambda c: nn.ConvTranspose1d(c, 4, 3, 2, 1, 1, groups=2),
    "batch norm of signals": lambda c: nn.BatchNorm1d(c),
    "instance norm of signals": lambda c: nn.InstanceNorm1d(c, affine=True, track_running_stats=True, momentum=0.4),
    "group norm of signals": lambda c: nn.GroupNorm(2, c),
    "max pool of signals": lambda c: nn.MaxPool1d(2, 1, 1),
    "max pool of signals, ceil": lambda c: nn.MaxPool1d(2, ceil_mode=True),
    "average pool of signals": lambda c: nn.AvgPool1d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "adaptive pool of signals": lambda c: nn.AdaptiveAvgPool1d(3),
    "adaptive max pool of signals": lambda c: nn.AdaptiveMaxPool1d(2),
    "prelu of signals": lambda c: nn.PReLU(c),
}  # fmt: skip

FEATURES: dict[str, Callable[[int], nn.Module]] = {  # layers on [B, F]
    "linear": lambda c: nn.Linear(c, 6),
    "linear without bias": lambda c: nn.Linear(c, 4, bias=False),
    "batch norm of features": lambda c: nn.BatchNorm1d(c),
    "layer norm": lambda c: nn.LayerNorm(c),
    "layer norm without bias": lambda c: nn.LayerNorm(c, bias=False),
    "layer norm without affine": lambda c: nn.LayerNorm(c, elementwise_affine=False),
    "rms norm": lambda c: nn.RMSNorm(c),
    "group norm of features": lambda c: nn.GroupNorm(2, c),
    "softmax": lambda c: nn.Softmax(-1),
    "a scale of features": lambda c: Scaled(c, 0),
    "as an image": lambda c: Called(lambda x: x[:, :, None, None].flatten(1)),
    "unsqueezed": lambda c: Called(lambda x: x.unsqueeze(1).transpose(1, 2).reshape(x.size(0), -1)),
}  # fmt: skip


class Graph(nn.Module):
    """Layers whose results are joined: each step takes one or two results of those before it.

    Args:
        first: shape of the input.
        steps: layers with the numbers of the results that they take.
    """

    def __init__(self, steps: list[tuple[nn.Module, tuple[int, ...]]], features: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([layer for layer, _ in steps])
        self.takes = [taken for _, taken in steps]
        self.head = nn.Linear(features, 3)

    def forward(self, x: Tensor) -> Tensor:
        values = [x]
        for layer, taken in zip(self.layers, self.takes, strict=True):
            values.append(layer(*(values[number] for number in taken)))
        return self.head(torch.flatten(values[-1], 1))


JOINTS: list[Function] = [
    lambda x, y: x + y,
    lambda x, y: x * torch.sigmoid(y),
    lambda x, y: x - 0.5 * y,
    lambda x, y: torch.maximum(x, y),
    lambda x, y: torch.cat([x, y], dim=1),
    lambda x, y: torch.cat((y, x, y), 1),
]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Graph, tuple[int, ...]]:
    """A module of up to seven layers with joints, and the shape of its input."""
    table, shape = draw(
        st.sampled_from([(IMAGES, (2, 7, 6)), (IMAGES, (4, 6, 8)), (SIGNALS, (2, 11)), (FEATURES, (6,))])
    )
    values = [torch.randn(3, *shape)]
    steps: list[tuple[nn.Module, tuple[int, ...]]] = []
    for _ in range(draw(st.integers(1, 7))):
        last = len(values) - 1
        equal = [number for number, value in enumerate(values[:-1]) if value.shape == values[-1].shape]
        choice = draw(st.integers(0, 5))
        if choice < 2 and equal:
            other = draw(st.sampled_from(equal))
            layer, taken = Called(draw(st.sampled_from(JOINTS))), (last, other)
        elif choice == 2:
            layer, taken = draw(st.sampled_from(ACTIVATIONS))(), (last,)
        else:
            layer, taken = draw(st.sampled_from(list(table.values())))(values[-1].shape[1]), (last,)
        try:
            with torch.no_grad():
                value = layer.eval()(*(values[number] for number in taken))
        except (RuntimeError, ValueError):  # too small for a window
            continue
        finite = bool(value.isfinite().all())  # a pool of padding alone is not
        if (
            finite
            and 0 < value[0].numel() <= 2000
            and value.shape[1] % 2 == 0
            and value.dim() == len(shape) + 1
        ):
            values.append(value)
            steps.append((layer, taken))
    return stirred(Graph(steps, values[-1][0].numel())), shape


def stirred(module: nn.Module) -> nn.Module:
    """The module with running statistics and scales that are neither 0 nor 1."""
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name.endswith("running_var"):
                tensor.copy_(torch.rand_like(tensor) + 0.5)
            elif tensor.is_floating_point() and tensor.dim() < 2:
                tensor.add_(0.3 * torch.randn_like(tensor))
    return module


def net(layer: Callable[[int], nn.Module], shape: tuple[int, ...]) -> nn.Module:
    """A layer behind a first one of the same number of axes, and before a head."""
    first: dict[int, nn.Module] = {
        1: nn.Linear(6, 6),
        2: nn.Conv1d(2, 4, 3, padding=1),
        3: nn.Conv2d(2, 4, 3, padding=1),
    }
    before = first[len(shape)]
    hidden = before(torch.randn(3, *shape))
    made = layer(hidden.shape[1]).eval()
    with torch.no_grad():
        features = made(hidden)[0].numel()
    return stirred(nn.Sequential(before, made, nn.Flatten(), nn.Linear(features, 3)))
