"""Principal components of a spectrum -> residual perceptron.

What tells [M/H] and [alpha/M] is a small part of the variance of a low-resolution spectrum. The
components of the training spectra, each divided by the square root of its deviation (half of a
whitening), are what the perceptron reads and what a vector must give again (`reconstruction`).

Shapes: B objects, L entries of a spectrum, K components.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mmclip.config import Size
from mmclip.encoders import Encoder, EncoderConfig, seen, settings
from mmclip.encoders.mlp import MLP

LEAST = 1e-5  # deviation of a component over that of the first, below which it is left out


@dataclass(frozen=True)
class Options:
    """Settings of `pca-mlp`."""

    components: Size = 80


class PcaMlp(nn.Module):
    """Values -> components [B, K] -> `mlp` -> features [B, width]."""

    centre: Tensor  # [L] mean of the training spectra
    axes: Tensor  # [L, K] until `fit`, random directions

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        length = math.prod(size)
        kept = min(settings(Options, "pca-mlp", config).components, length)
        self.register_buffer("centre", torch.zeros(length))
        self.register_buffer("axes", torch.linalg.qr(torch.randn(length, kept))[0])
        self.mlp = MLP((kept,), config)
        self.summarised = kept

    def summary(self, values: Tensor, mask: Tensor) -> Tensor:
        """The components [B, K], of mean square 1 together; an entry not observed is the mean."""
        away = torch.where(mask, values - self.centre, 0.0).flatten(1)
        return away @ self.axes

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        there = mask.flatten(1).any(1, keepdim=True)
        components = torch.where(there, self.summary(values, mask), 0.0)
        features: Tensor = self.mlp(components, there.expand_as(components))
        return features


@torch.no_grad()
def fit(module: nn.Module, values: Tensor, mask: Tensor) -> None:
    """Set the components from spectra [n, L]; there are at most n - 1 of them."""
    assert isinstance(module, PcaMlp)
    known = seen(values, mask).flatten(1).double()
    count = mask.flatten(1).sum(0).clamp(min=1)
    centre = known.sum(0) / count
    away = torch.where(mask.flatten(1), known - centre, 0.0)
    variance, turn = torch.linalg.eigh(away.T @ away / len(away))
    deviation = variance.flip(0).clamp(min=0).sqrt()
    kept = min(module.axes.shape[1], int((deviation > LEAST * deviation[0]).sum()))
    # Half white, then of mean square 1 over all components that there are.
    scale = deviation[:kept].sqrt() * deviation[:kept].mean().sqrt()
    axes = turn.flip(1)[:, :kept] / scale
    module.centre.copy_(centre)
    module.axes.zero_()
    module.axes[:, :kept] = axes


ENCODER = Encoder("pca-mlp", PcaMlp, Options, axes=(1,), fit=fit)
