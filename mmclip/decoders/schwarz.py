"""The RVS decoder of Schwarz & Buck 2024: D -> 64 -> 256 -> 1024 -> L.

Source: arXiv:2410.16081, section 2 (the decoder of Melchior et al. 2023, arXiv:2211.07890, with
the activation of Alsing et al. 2020, ApJS 249, 5, equation 8). As in the public code of Melchior
et al. the activation follows every layer, the last too, and its gamma and beta start as standard
normal numbers; the + 1 of their last layer is left out, since our pixels are z-scored.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from mmclip.decoders import Decoder

HIDDEN = (64, 256, 1024)


class Activation(nn.Module):
    """f(x) = [gamma + (1 - gamma) sigmoid(beta x)] x, gamma and beta trainable, one each a unit."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.randn(units))
        self.beta = nn.Parameter(torch.randn(units))

    def forward(self, x: Tensor) -> Tensor:
        return (self.gamma + (1 - self.gamma) * torch.sigmoid(self.beta * x)) * x


class Schwarz(nn.Module):
    """The mean alone: the spread is measured on validation stars."""

    def __init__(self, dimension: int, size: tuple[int, ...]) -> None:
        super().__init__()
        widths = (dimension, *HIDDEN, math.prod(size))
        layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), Activation(b))]
        self.layers = nn.Sequential(*layers)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        # The published encoders end without a norm; ours are unit vectors, brought to order 1.
        mean = self.layers(vectors * vectors.shape[-1] ** 0.5)
        return mean, torch.zeros_like(mean)


DECODER = Decoder("schwarz", Schwarz, probabilistic=False)
