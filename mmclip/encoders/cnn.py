"""One-dimensional convolutions for long spectra: RVS.

The stack follows the recommended reading of Schwarz & Buck 2024 (their layer widths appear only
in a figure, so these are not published): channels 16, 32, 64, 64, kernels 11, 7, 5, 5, pooling 2.
"""

import math

import torch
from torch import Tensor, nn

from mmclip.encoders import Encoder, EncoderConfig
from mmclip.encoders.layers import Dropout

CHANNELS, KERNELS = (16, 32, 64, 64), (11, 7, 5, 5)


class CNN(nn.Module):
    """Flux and mask as two channels -> four pooled convolutions -> features [B, width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, left = 2, math.prod(size)
        for after, kernel in zip(CHANNELS, KERNELS, strict=True):
            layers += [nn.Conv1d(before, after, kernel, padding=kernel // 2), nn.LeakyReLU(0.01)]
            if left >= 2:
                layers.append(nn.MaxPool1d(2))
                left //= 2
            before = after
        self.convolve = nn.Sequential(*layers, nn.Flatten())
        self.leave = nn.Sequential(
            nn.Linear(before * left, config.width),
            nn.LeakyReLU(0.01),
            Dropout(config.dropout),
            nn.LayerNorm(config.width),
        )

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        values, mask = values.flatten(1), mask.flatten(1)
        seen = torch.where(mask, values, 0.0)
        features: Tensor = self.leave(self.convolve(torch.stack([seen, mask.to(seen.dtype)], 1)))
        return features


ENCODER = Encoder("cnn", CNN)
