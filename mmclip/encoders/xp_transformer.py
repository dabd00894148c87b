"""XP coefficients, or any row of numbers: one token a number, then a transformer.

Each number is embedded by its own vector, as in Gorishniy et al. 2021, arXiv:2106.11959, section
3.3; a number that was not observed is not attended to.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmclip.config import Size
from mmclip.encoders import Encoder, EncoderConfig, seen, settings
from mmclip.encoders.transformer import Stack


@dataclass(frozen=True)
class Options:
    """Settings of `xp-transformer`."""

    features: Size = 64
    heads: Size = 4
    layers: Size = 3


class XpTransformer(nn.Module):
    """Numbers [B, L] -> tokens [B, L, features] -> features [B, self.width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        own = settings(Options, "xp-transformer", config)
        length = math.prod(size)
        self.weight = nn.Parameter(torch.randn(length, own.features) / own.features**0.5)
        self.stack = Stack(length, own.features, own.heads, own.layers, config.dropout)
        self.width = own.features

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        numbers = seen(values, mask).flatten(1)
        features: Tensor = self.stack(numbers.unsqueeze(-1) * self.weight, mask.flatten(1))
        return features


ENCODER = Encoder("xp-transformer", XpTransformer, Options, axes=(1,))
