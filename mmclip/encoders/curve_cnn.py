"""Masked convolutions over the points or the bins of a light curve; fast on a CPU.

Shapes: B objects, n points or bins, C channels of the view, F features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmclip.config import Size
from mmclip.encoders import Encoder, EncoderConfig, seen, settings
from mmclip.encoders.layers import Dropout


@dataclass(frozen=True)
class Options:
    """Settings of `curve-cnn` and of `folded-cnn`."""

    channels: Size = 32  # of the first layer; the others have half as many again, and twice
    kernel: Size = 5  # points


class CurveCNN(nn.Module):
    """Values and their mask -> three convolutions -> mean and maximum -> features [B, F].

    Each halves the resolution. A point without any observed value does not reach
    the mean or the maximum of its layer, so that padding costs no accuracy.
    """

    def __init__(
        self, size: tuple[int, ...], config: EncoderConfig, around: bool, name: str
    ) -> None:
        super().__init__()
        own = settings(Options, name, config)
        before, self.around, self.reach = 2 * size[1], around, own.kernel // 2
        widths = (own.channels, own.channels * 3 // 2, own.channels * 2)
        layers, norms = nn.ModuleList(), nn.ModuleList()
        for after in widths:
            layers.append(nn.Conv1d(before, after, own.kernel, stride=2))
            norms.append(nn.GroupNorm(1, after))
            before = after
        self.layers, self.norms = layers, norms
        self.leave = nn.Sequential(
            nn.Linear(2 * before, 2 * before), nn.GELU(), Dropout(config.dropout),
            nn.Linear(2 * before, config.width), nn.LayerNorm(config.width),
        )  # fmt: skip

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        x = torch.cat([seen(values, mask), mask.to(values.dtype)], dim=-1).transpose(1, 2)
        there = mask.any(dim=-1)[:, None].to(x.dtype)  # [B, 1, n]
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = functional.gelu(norm(layer(self._padded(x))))
            there = functional.max_pool1d(functional.pad(there, (0, there.shape[2] % 2)), 2)
            x = x * there
        mean = x.sum(dim=2) / there.sum(dim=2).clamp(min=1)
        highest = x.masked_fill(there == 0, -1e4).amax(dim=2)
        highest = torch.where(there.any(dim=2), highest, 0.0)
        features: Tensor = self.leave(torch.cat([mean, highest], dim=1))
        return features

    def _padded(self, x: Tensor) -> Tensor:
        """Ends joined for phases, zeros beyond the ends for times."""
        if not self.around:
            return functional.pad(x, (self.reach, self.reach))
        length = x.shape[2]
        place = torch.arange(-self.reach, length + self.reach, device=x.device) % length
        return x[:, :, place]


def build(size: tuple[int, ...], config: EncoderConfig) -> nn.Module:
    """For points in order of time: nothing lies beyond the ends."""
    return CurveCNN(size, config, around=False, name="curve-cnn")


ENCODER = Encoder("curve-cnn", build, Options, axes=(2,))
