"""Residual multilayer perceptron for views of fixed width: XP spectra, photometry."""

import math

import torch
from torch import Tensor, nn

from mmclip.encoders import Encoder, EncoderConfig
from mmclip.encoders.layers import Dropout


class Residual(nn.Module):
    """x + W2 GELU(W1 LayerNorm(x)), with dropout on the branch."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, width),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(width, width),
        )

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = x + self.branch(x)
        return changed


class MLP(nn.Module):
    """Values and their mask side by side -> `depth` residual blocks -> features [B, width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.enter = nn.Linear(2 * math.prod(size), config.width)
        blocks = [Residual(config.width, config.dropout) for _ in range(config.depth)]
        self.blocks = nn.Sequential(*blocks, nn.LayerNorm(config.width))

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        values, mask = values.flatten(1), mask.flatten(1)
        seen = torch.where(mask, values, 0.0)
        features: Tensor = self.blocks(self.enter(torch.cat([seen, mask.to(values.dtype)], 1)))
        return features


ENCODER = Encoder("mlp", MLP)
