"""Layers of torch.nn, one kind each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.population.kinds.kind import (
    CLASSES,
    FAST,
    RUNS,
    Kind,
    after,
    features,
    layer_kinds,
    sequences,
    signals,
    stirred,
    tokens,
    volumes,
)


class First(nn.Module):
    """The first of several outputs of a layer, such as a recurrent one."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


class Attention(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **options)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        keys = x[..., : self.attention.kdim]
        return self.head(self.attention(x, keys, keys)[0].mean(1))


class Pairs(nn.Module):
    """Bilinear: the input with itself."""

    def __init__(self) -> None:
        super().__init__()
        self.pairs = nn.Bilinear(6, 6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.pairs(x, x)


class Unpooled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.pool, self.unpool = (
            nn.Conv2d(1, 2, 3),
            nn.MaxPool2d(2, return_indices=True),
            nn.MaxUnpool2d(2),
        )
        self.head = nn.Linear(72, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.unpool(*self.pool(self.conv(x))).flatten(1))


class Cells(nn.Module):
    """A recurrent cell in a loop written by hand."""

    def __init__(self, cell: type[nn.RNNCellBase]) -> None:
        super().__init__()
        self.cell = cell(6, 5)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        return self.head(state[0] if isinstance(state, tuple) else state)


class Tokens(nn.Module):
    def __init__(self, embedding: nn.Module, mean: bool) -> None:
        super().__init__()
        self.embedding, self.mean, self.head = embedding, mean, nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embedding(x)
        return self.head(hidden.mean(1) if self.mean else hidden)


class Decoder(nn.Module):
    """A transformer decoder that looks at its input twice, with a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.decoder = nn.TransformerDecoderLayer(6, 2, 8, batch_first=True)
        self.register_buffer("causal", nn.Transformer.generate_square_subsequent_mask(5))
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.decoder(x, x, tgt_mask=self.causal)[:, -1])


def conv(*arguments: int, **options: object) -> nn.Module:
    return nn.Conv2d(*arguments, **options)  # type: ignore[arg-type]


FAST_LAYERS = [
    ("Conv2d", lambda: nn.Conv2d(4, 3, 3)),
    (
        "Conv2d with stride, padding and a kernel that is not square",
        lambda: conv(4, 3, (3, 2), stride=(2, 1), padding=(0, 1)),
    ),
    ("Conv2d without a bias", lambda: conv(4, 3, 3, bias=False)),
    ("Conv2d with padding='same'", lambda: conv(4, 3, 3, padding="same")),
    ("Conv2d with padding='valid'", lambda: conv(4, 3, 3, padding="valid")),
    ("Linear", lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 5))),
    ("MaxPool2d", lambda: nn.MaxPool2d((2, 3), stride=2, padding=(0, 1))),
    ("AvgPool2d", lambda: nn.AvgPool2d(2)),
    ("AdaptiveAvgPool2d(1)", lambda: nn.AdaptiveAvgPool2d(1)),
    ("Dropout", lambda: nn.Dropout(0.4)),
    ("Flatten", nn.Flatten),
    ("Identity", nn.Identity),
    ("ReLU", nn.ReLU),
    ("ReLU in place", lambda: nn.ReLU(inplace=True)),
    ("LeakyReLU", lambda: nn.LeakyReLU(0.3)),
    ("Tanh", nn.Tanh),
    ("Sigmoid", nn.Sigmoid),
    ("SiLU", nn.SiLU),
    ("GELU", nn.GELU),
]

IMAGE_LAYERS = [
    ("Conv2d with groups", lambda: conv(4, 6, 3, groups=2)),
    ("Depthwise Conv2d", lambda: conv(4, 4, 3, groups=4)),
    ("Conv2d with dilation", lambda: conv(4, 3, 2, dilation=2)),
    ("Conv2d with padding_mode='reflect'", lambda: conv(4, 3, 3, padding=1, padding_mode="reflect")),
    ("Conv2d with padding_mode='circular'", lambda: conv(4, 3, 3, padding=1, padding_mode="circular")),
    ("Conv2d with padding_mode='replicate'", lambda: conv(4, 3, 3, padding=1, padding_mode="replicate")),
    ("MaxPool2d with ceil_mode or dilation", lambda: nn.MaxPool2d(2, 2, dilation=2, ceil_mode=True)),
    ("AvgPool2d with padding or ceil_mode", lambda: nn.AvgPool2d(3, 2, padding=1, ceil_mode=True)),
    ("AdaptiveAvgPool2d to another size", lambda: nn.AdaptiveAvgPool2d((2, 3))),
    ("AdaptiveMaxPool2d", lambda: nn.AdaptiveMaxPool2d(2)),
    ("LPPool2d", lambda: nn.LPPool2d(2, 2)),
    ("BatchNorm2d", lambda: nn.BatchNorm2d(4)),
    ("BatchNorm2d without affine", lambda: nn.BatchNorm2d(4, affine=False)),
    ("BatchNorm2d with momentum=None", lambda: nn.BatchNorm2d(4, momentum=None)),
    ("BatchNorm2d without running statistics", lambda: nn.BatchNorm2d(4, track_running_stats=False)),
    ("InstanceNorm2d", lambda: nn.InstanceNorm2d(4, affine=True, track_running_stats=True)),
    ("GroupNorm", lambda: nn.GroupNorm(2, 4)),
    ("LayerNorm", lambda: nn.LayerNorm([6, 6])),
    ("RMSNorm", lambda: nn.RMSNorm(6)),
    ("LocalResponseNorm", lambda: nn.LocalResponseNorm(3)),
    ("PReLU", lambda: nn.PReLU(4)),
    ("RReLU", nn.RReLU),
    ("ELU", lambda: nn.ELU(0.7)),
    ("SELU", nn.SELU),
    ("CELU", lambda: nn.CELU(0.7)),
    ("GELU with approximate='tanh'", lambda: nn.GELU("tanh")),
    ("Mish", nn.Mish),
    ("Softplus", lambda: nn.Softplus(2.0)),
    ("Softsign", nn.Softsign),
    ("ReLU6", nn.ReLU6),
    ("Hardtanh", lambda: nn.Hardtanh(-0.3, 0.4)),
    ("Hardswish", nn.Hardswish),
    ("Hardsigmoid", nn.Hardsigmoid),
    ("Hardshrink", nn.Hardshrink),
    ("Tanhshrink", nn.Tanhshrink),
    ("LogSigmoid", nn.LogSigmoid),
    ("Threshold", lambda: nn.Threshold(0.1, -2.0)),
    ("GLU", lambda: nn.GLU(1)),
    ("Softmax", lambda: nn.Softmax(1)),
    ("Softmax2d", nn.Softmax2d),
    ("LogSoftmax", lambda: nn.LogSoftmax(1)),
    ("Dropout2d", lambda: nn.Dropout2d(0.4)),
    ("AlphaDropout", lambda: nn.AlphaDropout(0.4)),
    ("Linear on the last axis of an image", lambda: nn.Linear(6, 5)),
    ("PixelShuffle", lambda: nn.PixelShuffle(2)),
    ("PixelUnshuffle", lambda: nn.PixelUnshuffle(2)),
    ("ChannelShuffle", lambda: nn.ChannelShuffle(2)),
    ("Upsample", lambda: nn.Upsample(scale_factor=2)),
    (
        "Upsample with mode='bilinear'",
        lambda: nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False),
    ),
    ("Unfold", lambda: nn.Unfold(2)),
    ("Unflatten", lambda: nn.Unflatten(1, (2, 2))),
    ("ZeroPad2d", lambda: nn.ZeroPad2d(1)),
    ("ReflectionPad2d", lambda: nn.ReflectionPad2d(1)),
    ("CircularPad2d", lambda: nn.CircularPad2d(1)),
]

LSTM_WEIGHTS = frozenset({"body.0.layer.weight_ih_l0", "body.0.layer.weight_hh_l0", "head.weight"})

KINDS = [
    *layer_kinds(FAST, FAST_LAYERS),
    *layer_kinds(RUNS, IMAGE_LAYERS),
    *layer_kinds(
        RUNS,
        [("FractionalMaxPool2d", lambda: nn.FractionalMaxPool2d(2, 3))],
    ),
    *layer_kinds(RUNS, [("SyncBatchNorm", lambda: nn.SyncBatchNorm(4))]),
    Kind("MaxUnpool2d", Unpooled, RUNS),
    Kind("Fold", after(lambda: nn.Conv2d(1, 4, 3), lambda: nn.Unfold(2), lambda: nn.Fold(6, 2)), RUNS),
    Kind(
        "ConvTranspose2d",
        after(lambda: nn.ConvTranspose2d(1, 3, 3, 2, 1, 1, groups=1)),
        RUNS,
        prunable=frozenset({"body.0.weight", "head.weight"}),
    ),
    *layer_kinds(
        RUNS,
        [
            ("Conv1d", lambda: nn.Conv1d(2, 3, 3, dilation=2)),
            ("MaxPool1d", lambda: nn.MaxPool1d(2)),
            ("AvgPool1d", lambda: nn.AvgPool1d(2)),
            ("BatchNorm1d", lambda: nn.BatchNorm1d(2)),
            ("ConstantPad1d", lambda: nn.ConstantPad1d(2, 0.5)),
        ],
        signals,
    ),
    Kind(
        "ConvTranspose1d",
        after(lambda: nn.ConvTranspose1d(2, 3, 3), example=signals),
        RUNS,
        signals,
        prunable=frozenset({"body.0.weight", "head.weight"}),
    ),
    Kind(
        "Conv3d",
        after(lambda: nn.Conv3d(1, 2, 3), example=volumes),
        RUNS,
        volumes,
        prunable=frozenset({"body.0.weight", "head.weight"}),
    ),
    Kind(
        "ConvTranspose3d",
        after(lambda: nn.ConvTranspose3d(1, 2, 2), example=volumes),
        RUNS,
        volumes,
        prunable=frozenset({"body.0.weight", "head.weight"}),
    ),
    *layer_kinds(
        RUNS,
        [
            ("MaxPool3d", lambda: nn.MaxPool3d(2)),
            ("AvgPool3d", lambda: nn.AvgPool3d(2)),
            ("BatchNorm3d", lambda: nn.BatchNorm3d(1)),
        ],
        volumes,
    ),
    Kind(
        "Embedding",
        lambda: Tokens(nn.Embedding(11, 6, padding_idx=0), mean=True),
        RUNS,
        tokens,
        prunable=frozenset({"head.weight"}),
    ),
    Kind(
        "EmbeddingBag",
        lambda: Tokens(nn.EmbeddingBag(11, 6), mean=False),
        RUNS,
        tokens,
        prunable=frozenset({"head.weight"}),
    ),
    Kind(
        "RNN",
        after(lambda: First(nn.RNN(6, 5, batch_first=True)), example=sequences),
        RUNS,
        sequences,
        prunable=LSTM_WEIGHTS,
    ),
    Kind(
        "LSTM",
        after(lambda: First(nn.LSTM(6, 5, batch_first=True)), example=sequences),
        RUNS,
        sequences,
        prunable=LSTM_WEIGHTS,
    ),
    Kind(
        "LSTM, bidirectional, two layers, projected",
        after(
            lambda: First(nn.LSTM(6, 5, 2, batch_first=True, bidirectional=True, proj_size=3, dropout=0.2)),
            example=sequences,
        ),
        RUNS,
        sequences,
    ),
    Kind(
        "GRU",
        after(lambda: First(nn.GRU(6, 5, batch_first=True)), example=sequences),
        RUNS,
        sequences,
        prunable=LSTM_WEIGHTS,
    ),
    Kind(
        "LSTMCell in a loop",
        lambda: Cells(nn.LSTMCell),
        RUNS,
        sequences,
        prunable=frozenset({"cell.weight_ih", "cell.weight_hh", "head.weight"}),
    ),
    Kind("GRUCell in a loop", lambda: Cells(nn.GRUCell), RUNS, sequences),
    Kind(
        "MultiheadAttention",
        Attention,
        RUNS,
        sequences,
        prunable=frozenset({"attention.in_proj_weight", "attention.out_proj.weight", "head.weight"}),
    ),
    Kind(
        "MultiheadAttention with keys of another size",
        lambda: Attention(kdim=4, vdim=4),
        RUNS,
        sequences,
        prunable=frozenset(
            {f"attention.{part}_proj_weight" for part in "qkv"} | {"attention.out_proj.weight", "head.weight"}
        ),
    ),
    Kind(
        "TransformerEncoderLayer",
        after(lambda: nn.TransformerEncoderLayer(6, 2, 8, batch_first=True), example=sequences),
        RUNS,
        sequences,
    ),
    Kind(
        "TransformerEncoder",
        after(
            lambda: nn.TransformerEncoder(
                nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, norm_first=True),
                2,
                enable_nested_tensor=False,
            ),
            example=sequences,
        ),
        RUNS,
        sequences,
    ),
    Kind("TransformerDecoderLayer with a causal mask", Decoder, RUNS, sequences),
    Kind("Bilinear", Pairs, RUNS, features, prunable=frozenset({"pairs.weight"})),
    Kind("A bare Linear", lambda: nn.Linear(6, CLASSES), RUNS, features, prunable=frozenset({"weight"})),
    Kind(
        "Linear layers on vectors",
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES)),
        FAST,
        features,
    ),
    Kind(
        "BatchNorm1d on vectors",
        lambda: stirred(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, CLASSES))),
        RUNS,
        features,
    ),
    Kind("CosineSimilarity and PairwiseDistance", lambda: Compared(), RUNS, features, chosen=("prototypes",)),
]


class Compared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(CLASSES, 6))
        self.angle, self.distance = nn.CosineSimilarity(dim=-1), nn.PairwiseDistance()

    def forward(self, x: Tensor) -> Tensor:
        x = x[:, None].expand(-1, CLASSES, -1)
        return self.angle(x, self.prototypes) - self.distance(x, self.prototypes.expand_as(x))
