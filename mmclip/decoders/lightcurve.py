"""A light curve at any phase and time, from an embedding.

The curve is m(phase, time) = periodic part + trend: the sines and cosines of the first
`HARMONICS` multiples of the phase and a polynomial in time meet weights that the embedding
gives, so the periodic part closes on itself whatever was learned. As a view of shape (T,) the
curve is a folded one: T phases, the first at 0. As a view (T, C) its C channels are given at T
times from 0 to 1 (fractions of the time span), each with its own weights; there no period is
assumed and the harmonics are those of the time span.
"""

import math

import torch
from torch import Tensor, nn

from mmclip.decoders import Decoder
from mmclip.decoders.loss import gaussian

HIDDEN, HARMONICS, TREND = (256, 256), 12, 2
LOG_VARIANCE = (-10.0, 6.0)


class LightCurve(nn.Module):
    """D -> 256 -> 256 -> weights of the harmonics and of the trend, for mean and log variance."""

    def __init__(self, dimension: int, size: tuple[int, ...]) -> None:
        super().__init__()
        first, second = HIDDEN
        self.steps, self.channels = size[0], math.prod(size[1:])
        self.folded = len(size) == 1
        self.trunk = nn.Sequential(
            nn.Linear(dimension, first), nn.GELU(), nn.Linear(first, second), nn.GELU()
        )
        self.terms = 1 + 2 * HARMONICS + TREND
        self.weights = nn.Linear(second, 2 * self.channels * self.terms)

    def at(self, vectors: Tensor, phase: Tensor, time: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance [B, T, C] at phases and times [B, T] or [T].

        Args:
            vectors: [B, D].
            phase: In periods; only its fractional part matters.
            time: Fraction of the time span, 0 to 1.
        """
        order = torch.arange(1, HARMONICS + 1, device=phase.device)
        angle = 2 * math.pi * phase[..., None] * order
        # 1 / order: a step has harmonics that fall like this, so all weights are of one size.
        waves = torch.cat([torch.cos(angle) / order, torch.sin(angle) / order], dim=-1)
        powers = [(2 * time - 1) ** p for p in range(1, TREND + 1)]
        basis = torch.cat([torch.ones_like(phase)[..., None], waves, torch.stack(powers, -1)], -1)
        hidden = self.trunk(vectors * vectors.shape[-1] ** 0.5)
        weights = self.weights(hidden).unflatten(1, (self.terms, 2 * self.channels))
        curve = basis @ weights
        mean, log_variance = curve.chunk(2, dim=-1)
        return mean, torch.clamp(log_variance, *LOG_VARIANCE)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        place = torch.arange(self.steps, device=vectors.device, dtype=vectors.dtype)
        if self.folded:
            phase, time = place / self.steps, torch.full_like(place, 0.5)
        else:
            phase = time = place / max(self.steps - 1, 1)
        mean, log_variance = self.at(vectors, phase, time)
        return mean.flatten(1), log_variance.flatten(1)


DECODER = Decoder("lightcurve", LightCurve, loss=gaussian)
