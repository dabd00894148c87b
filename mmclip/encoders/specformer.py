"""Galaxy spectra: the transformer of the final AstroCLIP, loadable from its own weights.

Shapes: B spectra, L pixels, T tokens, W features.

Patches of 20 pixels every 10, a first token of mean and deviation, learned places, blocks that
normalise before they act, then one learned query and dense layers with a residual: Parker et al.
2024, arXiv:2310.03024, section 3.2, and its public code, whose names the weights have.
`spectrum-transformer` is the same idea with masks, and what we train from nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmclip.config import Size
from mmclip.encoders import Encoder, EncoderConfig, Weights, seen, settings
from mmclip.encoders.dinov2 import Head, head_names
from mmclip.encoders.layers import Dropout
from mmclip.errors import UsageError


@dataclass(frozen=True)
class Options:
    """Settings of `specformer`; the defaults are AstroCLIP's."""

    patch: Size = 20  # pixels of a token
    stride: Size = 10
    features: Size = 768
    heads: Size = 6
    layers: Size = 6
    longest: Size = 800  # tokens with a place
    head_heads: Size = 4
    frozen: bool = False  # all but the head


class Block(nn.Module):
    """x + attention(norm(x)), then x + dense(norm(x)); names of the public code."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.layernorm1 = nn.LayerNorm(width)
        self.attention = nn.ModuleDict(
            {"attention": nn.Linear(width, 3 * width), "projection": nn.Linear(width, width)}
        )
        self.layernorm2 = nn.LayerNorm(width)
        self.mlp = nn.ModuleDict(
            {"encoder": nn.Linear(width, 4 * width), "decoder": nn.Linear(4 * width, width)}
        )
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        together = self.attention["attention"](self.layernorm1(x))
        split = together.view(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(split[0], split[1], split[2])
        mixed = mixed.transpose(1, 2).reshape(count, tokens, width)
        x = x + self.drop(self.attention["projection"](mixed))
        wide = functional.gelu(self.mlp["encoder"](self.layernorm2(x)))
        made: Tensor = x + self.drop(self.mlp["decoder"](wide))
        return made


class SpecFormer(nn.Module):
    """Spectra [B, L] -> features [B, config.width]; a pixel that was not observed is read as 0."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.own = own = settings(Options, "specformer", config)
        if 1 + self.tokens_of(size[0]) > own.longest:
            raise UsageError(
                f"spectra of {size[0]} pixels are more than {own.longest} tokens",
                "a longer stride, or longest=...",
            )
        inputs = own.patch + 2
        self.data_embed = nn.Linear(inputs, own.features)
        self.position_embed = nn.Embedding(own.longest, own.features)
        for layer in (self.data_embed, self.position_embed):
            nn.init.trunc_normal_(layer.weight, std=own.features**-0.5)
        self.drop = Dropout(config.dropout)
        self.blocks = nn.ModuleList(
            [Block(own.features, own.heads, config.dropout) for _ in range(own.layers)]
        )
        self.final_layernorm = nn.LayerNorm(own.features)
        self.head = Head(
            config.width, own.head_heads, 0, config.dropout, own.features, residual=True
        )
        self.width = config.width
        if own.frozen:
            for name, parameter in self.named_parameters():
                parameter.requires_grad_(name.startswith("head."))

    def tokens_of(self, length: int) -> int:
        """Patches of a spectrum, at least one: the published code leaves the last one out."""
        starts = -(-(length - self.own.patch + self.own.stride) // self.own.stride)
        return max(1, starts - 1)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.own.frozen):
            x = self.data_embed(self._tokens(seen(values, mask)))
            x = self.drop(x + self.position_embed.weight[: x.shape[1]])
            for block in self.blocks:
                x = block(x)
            x = self.final_layernorm(x)
        features: Tensor = self.head(x)
        return features

    def _tokens(self, x: Tensor) -> Tensor:
        """[B, 1 + T, 2 + patch]: mean and deviation, then the patches of the scaled spectrum."""
        mean, deviation = x.mean(1, keepdim=True), x.std(1, keepdim=True).clamp(min=0.2)
        x = functional.pad((x - mean) / deviation, (0, max(0, self.own.patch - x.shape[1])))
        count = self.tokens_of(x.shape[1])
        patches = x.unfold(1, self.own.patch, self.own.stride)[:, :count]
        about = torch.cat([(mean - 2) / 2, (deviation - 2) / 8], dim=1)
        first = functional.pad(about, (0, self.own.patch)).unsqueeze(1)
        return torch.cat([first, functional.pad(patches, (2, 0))], dim=1)


def translate(published: Weights) -> Weights:
    """AstroCLIP's spectrum encoder, or its backbone alone; what rebuilds patches is left out."""
    part = {k.removeprefix("backbone."): v for k, v in published.items() if "backbone." in k}
    own = part or {k: v for k, v in published.items() if not k.startswith(("cross_", "mlp."))}
    return {k: v for k, v in own.items() if not k.startswith("head.")} | head_names(published)


ENCODER = Encoder("specformer", SpecFormer, Options, axes=(1,), translate=translate)
