"""Mean and variance of every pixel from an embedding (a heteroscedastic Gaussian)."""

import math

import torch
from torch import Tensor, nn

from mmclip.decoders import Decoder
from mmclip.decoders.loss import gaussian

HIDDEN = (256, 512)
LOG_VARIANCE = (-10.0, 6.0)  # of normalised units: keeps the loss finite


class Gaussian(nn.Module):
    """D -> 256 -> 512 -> (mean [L], log variance [L])."""

    def __init__(self, dimension: int, size: tuple[int, ...]) -> None:
        super().__init__()
        first, second = HIDDEN
        length = math.prod(size)
        self.trunk = nn.Sequential(
            nn.Linear(dimension, first), nn.GELU(), nn.Linear(first, second), nn.GELU()
        )
        self.mean = nn.Linear(second, length)
        self.log_variance = nn.Linear(second, length)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        # Entries of a unit vector are of order 1 / sqrt(D); the layers expect order 1.
        hidden = self.trunk(vectors * vectors.shape[-1] ** 0.5)
        return self.mean(hidden), torch.clamp(self.log_variance(hidden), *LOG_VARIANCE)


DECODER = Decoder("gaussian", Gaussian, loss=gaussian)
