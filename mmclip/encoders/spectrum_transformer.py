"""Spectra as overlapping patches of pixels, one token a patch, then a transformer.

After Parker et al. 2024 (arXiv:2310.03024, section 3.2): patches of 20 pixels every 10, each
spectrum brought to mean 0 and deviation 1, both told to the network in a token of their own.
Smaller by default than the published 768 x 6.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmclip.config import Size
from mmclip.encoders import Encoder, EncoderConfig, channels_first, seen, settings
from mmclip.encoders.transformer import Stack


@dataclass(frozen=True)
class Options:
    """Settings of `spectrum-transformer`."""

    patch: Size = 20  # pixels of a token
    stride: Size = 10
    features: Size = 128
    heads: Size = 4
    layers: Size = 4
    z_score: bool = True  # each spectrum and channel by itself; deviation not below 0.2


class SpectrumTransformer(nn.Module):
    """Spectra [B, C, L] -> patches [B, T, features] -> features [B, self.width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.own = own = settings(Options, "spectrum-transformer", config)
        channels, length = channels_first(size)
        tokens = max(1, -(-(length - own.patch) // own.stride) + 1)
        self.missing = (tokens - 1) * own.stride + own.patch - length
        self.embed = nn.Linear(2 * channels * own.patch, own.features)
        self.about = nn.Linear(2 * channels, own.features)
        self.stack = Stack(tokens + 1, own.features, own.heads, own.layers, config.dropout)
        self.width = own.features

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        tokens, observed, _ = self.tokens(values, mask)
        features: Tensor = self.stack(tokens, observed)
        return features

    def tokens(
        self, values: Tensor, mask: Tensor, hidden: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the network reads of each patch.

        Args:
            values, mask: [B, L] or [B, C, L].
            hidden: [B, T] True for patches whose pixels are not shown; their places are.

        Returns:
            Tokens [B, 1 + T, features], the first about mean and deviation; [B, 1 + T] whether
            they were observed; the patches [B, T, 2 C patch]: scaled values, then 1 where observed.
        """
        x = seen(values, mask)
        x, mask = (x.unsqueeze(1), mask.unsqueeze(1)) if x.ndim == 2 else (x, mask)
        count = mask.sum(-1, keepdim=True).clamp(min=1)
        mean = x.sum(-1, keepdim=True) / count
        off = seen(x - mean, mask)
        deviation = (off.square().sum(-1, keepdim=True) / count).sqrt()
        if self.own.z_score:
            x = off / deviation.clamp(min=0.2)
        both = functional.pad(torch.cat([x, mask.to(x.dtype)], dim=1), (0, self.missing))
        patches = both.unfold(-1, self.own.patch, self.own.stride).transpose(1, 2).flatten(2)
        observed = functional.pad(mask.any(1), (0, self.missing))
        observed = observed.unfold(-1, self.own.patch, self.own.stride).any(-1)
        # Arc-hyperbolic sine: a mean may be of any unit and sign.
        about = self.about(torch.cat([mean, deviation], dim=1).squeeze(-1).asinh())
        shown = patches if hidden is None else patches * ~hidden.unsqueeze(-1)
        tokens = torch.cat([about.unsqueeze(1), self.embed(shown)], dim=1)
        return tokens, functional.pad(observed, (1, 0), value=True), patches


ENCODER = Encoder("spectrum-transformer", SpectrumTransformer, Options, axes=(1, 2))
