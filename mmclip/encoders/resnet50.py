"""Galaxy images: ResNet-50 with the MoCo-v2 head, loadable from a local weight file and frozen.

Bottleneck residual networks: He et al. 2015, arXiv:1512.03385, table 1, with the stride in the
3 x 3 convolution; the head (dense 2048 -> 2048, ReLU, dense 2048 -> width): Chen et al. 2020,
arXiv:2003.04297. Names of the weights are those of the usual published files.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmclip.config import Whole
from mmclip.encoders import Encoder, EncoderConfig, Weights, seen, settings

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # channels, blocks, first stride
GROWTH = 4


@dataclass(frozen=True)
class Options:
    """Settings of `resnet50`."""

    frozen: bool = False  # all but the two dense layers of the head
    crop: Whole = 0  # side of the central square that is read; 0 reads all


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions beside a shortcut."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        after = channels * GROWTH
        self.conv1 = nn.Conv2d(before, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, after, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(after)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            shrink = nn.Conv2d(before, after, 1, stride, bias=False)
            self.downsample = nn.Sequential(shrink, nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return torch.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class ResNet50(nn.Module):
    """Images [B, channels, height, width] -> features [B, config.width].

    Batch normalisation always uses its stored statistics, so that an image's features never
    depend on the other images of a batch.
    """

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.own = settings(Options, "resnet50", config)
        self.conv1 = nn.Conv2d(size[0], 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = 64
        for number, (channels, count, stride) in enumerate(STAGES, 1):
            blocks = []
            for i in range(count):
                blocks.append(Bottleneck(before, channels, stride if i == 0 else 1))
                before = channels * GROWTH
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
        self.fc = nn.Sequential(
            nn.Linear(before, before), nn.ReLU(), nn.Linear(before, config.width)
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        if self.own.frozen:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith("fc."))

    def train(self, mode: bool = True) -> "ResNet50":
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.eval()
        return self

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        images = centre(seen(values, mask), self.own.crop)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.own.frozen):
            x = self.maxpool(torch.relu(self.bn1(self.conv1(images))))
            for number in range(1, len(STAGES) + 1):
                x = self.get_submodule(f"layer{number}")(x)
            x = x.mean(dim=(2, 3))
        features: Tensor = self.fc(x)
        return features


def centre(images: Tensor, side: int) -> Tensor:
    """The central square of `side` pixels; the whole images if `side` is 0 or larger than they."""
    high, wide = images.shape[-2:]
    if side == 0 or side >= min(high, wide):
        return images
    top, left = (high - side) // 2, (wide - side) // 2
    return images[..., top : top + side, left : left + side]


def translate(published: Weights) -> Weights:
    """The query encoder of a MoCo checkpoint, or a plain ResNet-50; counters are left out."""
    queries = {k: v for k, v in published.items() if "encoder_q." in k}
    chosen = {k.split("encoder_q.", 1)[1]: v for k, v in queries.items()} or published
    return {k: v for k, v in chosen.items() if not k.endswith("num_batches_tracked")}


ENCODER = Encoder("resnet50", ResNet50, Options, axes=(3,), translate=translate)
