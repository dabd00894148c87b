"""The "simple MLP" by which Schwarz & Buck 2024 decode XP: their encoder turned round.

Its widths are not published; D -> 1024 -> L with LeakyReLU(0.01) mirrors their XP encoder
(arXiv:2410.16081, section 2), whose widths are.
"""

import math

import torch
from torch import Tensor, nn

from mmclip.decoders import Decoder

HIDDEN = 1024


class MLP(nn.Module):
    """The mean alone: the spread is measured on validation stars."""

    def __init__(self, dimension: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dimension, HIDDEN), nn.LeakyReLU(0.01), nn.Linear(HIDDEN, math.prod(size))
        )

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        mean = self.layers(vectors * vectors.shape[-1] ** 0.5)
        return mean, torch.zeros_like(mean)


DECODER = Decoder("mlp", MLP, probabilistic=False)
