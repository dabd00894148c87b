"""Images: ResNet-18, of the Multimodal Universe's benchmarks among others.

Basic residual blocks: He et al. 2015, arXiv:1512.03385, table 1. Names of the weights are those of
the usual published files; the last dense layer is trained anew.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmclip.config import Whole
from mmclip.encoders import Encoder, EncoderConfig, Weights, seen, settings
from mmclip.encoders.resnet50 import centre

CHANNELS = (64, 128, 256, 512)
BLOCKS = 2  # a stage


@dataclass(frozen=True)
class Options:
    """Settings of `resnet18`."""

    crop: Whole = 0  # side of the central square that is read; 0 reads all


class Block(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            shrink = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(shrink, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        return torch.relu(self.bn2(self.conv2(y)) + self.downsample(x))


class ResNet18(nn.Module):
    """Images [B, channels, height, width] -> features [B, config.width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.own = settings(Options, "resnet18", config)
        self.conv1 = nn.Conv2d(size[0], CHANNELS[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(CHANNELS[0])
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = CHANNELS[0]
        for number, after in enumerate(CHANNELS, 1):
            blocks = []
            for i in range(BLOCKS):
                blocks.append(Block(before, after, 2 if i == 0 and number > 1 else 1))
                before = after
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Linear(before, config.width)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        images = centre(seen(values, mask), self.own.crop)
        x = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
        for number in range(1, len(CHANNELS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        features: Tensor = self.fc(x.mean(dim=(2, 3)))
        return features


def translate(published: Weights) -> Weights:
    """A plain ResNet-18, or the public baseline of AstroCLIP; counters are left out."""
    return {
        k.removeprefix("resnet."): v
        for k, v in published.items()
        if not k.endswith("num_batches_tracked")
    }


ENCODER = Encoder("resnet18", ResNet18, Options, axes=(3,), translate=translate)
