"""A small residual network for images, and for spectra and curves, that a laptop can pre-train.

Channels 32, 64, 128 with `depth` blocks each, group normalisation (an object's features never
depend on the others of its batch), stem and pooling of stride 2 as in He et al. 2015
(arXiv:1512.03385). The widths are ours, chosen for a CPU; ResNet-50 is another encoder.
"""

import math

import torch
from torch import Tensor, nn

from mmclip.encoders import Encoder, EncoderConfig

CHANNELS = (32, 64, 128)
GROUPS = 8


class Block(nn.Module):
    """Two convolutions of width 3 beside a shortcut."""

    def __init__(self, conv: type[nn.Conv1d] | type[nn.Conv2d], before: int, after: int) -> None:
        super().__init__()
        stride = 1 if before == after else 2
        self.branch = nn.Sequential(
            conv(before, after, 3, stride, 1, bias=False),
            nn.GroupNorm(GROUPS, after),
            nn.ReLU(),
            conv(after, after, 3, 1, 1, bias=False),
            nn.GroupNorm(GROUPS, after),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride == 2:
            self.shortcut = conv(before, after, 1, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.branch(x) + self.shortcut(x))


class ResNet(nn.Module):
    """[B, *S] and its mask -> features [B, width]; S is (L,), (steps, channels) or (C, H, W)."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.axes = len(size)
        conv = nn.Conv2d if self.axes == 3 else nn.Conv1d
        pool = nn.MaxPool2d if self.axes == 3 else nn.MaxPool1d
        inputs = {1: 1, 2: size[-1], 3: size[0]}[self.axes]
        first = CHANNELS[0]
        short = min(size[1:] if self.axes == 3 else size[:1]) < 8
        layers: list[nn.Module] = [
            conv(2 * inputs, first, 5, 1 if short else 2, 2, bias=False),
            nn.GroupNorm(GROUPS, first),
            nn.ReLU(),
            nn.Identity() if short else pool(3, 2, 1),
        ]
        before = first
        for after in CHANNELS:
            for _ in range(max(1, config.depth)):
                layers.append(Block(conv, before, after))
                before = after
        self.convolve = nn.Sequential(*layers)
        self.leave = nn.Linear(before, config.width)
        nn.init.normal_(self.leave.weight, std=1 / math.sqrt(before))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        if self.axes == 1:
            values, mask = values.unsqueeze(1), mask.unsqueeze(1)
        elif self.axes == 2:
            values, mask = values.transpose(1, 2), mask.transpose(1, 2)
        seen = torch.where(mask, values, 0.0)
        x = self.convolve(torch.cat([seen, mask.to(seen.dtype)], dim=1))
        features: Tensor = self.leave(x.flatten(2).mean(dim=2))
        return features


ENCODER = Encoder("resnet", ResNet)
