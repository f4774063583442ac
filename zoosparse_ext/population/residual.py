"""ResNet-18 for small images: the large network of the published zoos."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3×3 convolutions and a shortcut around them, which is a 1×1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.activation = activation()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            shortcut = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(shortcut, nn.BatchNorm2d(after))

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.activation(self.bn1(self.conv1(images)))
        return self.activation(self.bn2(self.conv2(hidden)) + self.downsample(images))


class ResNet18(nn.Module):
    """ResNet-18 with the stem for CIFAR: a 3×3 convolution of stride 1, and no pooling after it.

    Tensors are named as in torchvision, so that its checkpoints with this stem load.

    >>> sum(parameter.numel() for parameter in ResNet18(channels=3, classes=10).parameters())
    11173962

    Source: He, Zhang, Ren, Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
    """

    def __init__(self, channels: int, classes: int, activation: Callable[[], nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, WIDTHS[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(WIDTHS[0])
        self.activation = activation()
        before = WIDTHS[0]
        for number, width in enumerate(WIDTHS, start=1):
            first = BasicBlock(before, width, 1 if number == 1 else 2, activation)
            self.add_module(f"layer{number}", nn.Sequential(first, BasicBlock(width, width, 1, activation)))
            before = width
        self.fc = nn.Linear(before, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.activation(self.bn1(self.conv1(images)))
        for number in range(1, len(WIDTHS) + 1):
            hidden = self.get_submodule(f"layer{number}")(hidden)
        return self.fc(torch.flatten(hidden.mean((2, 3)), 1))
