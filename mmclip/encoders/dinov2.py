"""Galaxy images: the vision transformer of DINOv2, as the final AstroCLIP uses it.

Shapes: B images, T patches, W features.

Pre-normalised blocks with a scale of each residual branch: Oquab et al. 2023, arXiv:2304.07193;
the head, one learned query that attends to the patches, then dense layers without a residual:
Parker et al. 2024, arXiv:2310.03024, section 3.3 and its code. Names of the weights are those of
DINOv2's public code, with or without its chunks of blocks, teacher or student.
"""

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmclip.config import Size, Whole
from mmclip.encoders import Encoder, EncoderConfig, Weights, seen, settings
from mmclip.encoders.layers import Dropout
from mmclip.encoders.resnet50 import centre
from mmclip.errors import UsageError

EPSILON = 1e-6  # of every layer normalisation


@dataclass(frozen=True)
class Options:
    """Settings of `dinov2`; the defaults are AstroCLIP's, ViT-L with patches of 12 pixels."""

    patch: Size = 12  # pixels of a token's side
    features: Size = 1024
    heads: Size = 16
    layers: Size = 24
    registers: Whole = 0  # further tokens without a place
    trained: Whole = 0  # side of the images that the weights know, pixels; 0: of these images
    pool: str = "query"  # query: a head that attends to the patches | cls: the summary token
    published: bool = False  # as AstroCLIP's code: no places, no summary token, a head without end
    head_heads: Size = 4
    frozen: bool = False  # all but the head
    crop: Whole = 0  # side of the central square that is read; 0 reads all


class Attention(nn.Module):
    """Every token to every token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        count, tokens, width = x.shape
        split = self.qkv(x).view(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(split[0], split[1], split[2])
        made: Tensor = self.proj(mixed.transpose(1, 2).reshape(count, tokens, width))
        return made


class Scale(nn.Module):
    """A factor for each feature of a residual branch."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-5))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Dense(nn.Module):
    """W -> 4 W -> W."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return made


class Block(nn.Module):
    """x + scale(attention(norm(x))), then x + scale(dense(norm(x)))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=EPSILON)
        self.attn = Attention(width, heads)
        self.ls1 = Scale(width)
        self.norm2 = nn.LayerNorm(width, eps=EPSILON)
        self.mlp = Dense(width)
        self.ls2 = Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        made: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return made


class Head(nn.Module):
    """One learned query attends to the patches; normalised, then dense layers.

    Args:
        width, heads: Of the attention.
        out: Features of a last dense layer; 0: there is none, and `width` are given.
        dropout: Within the dense layers.
        features: Of the patches; 0: `width`.
        residual: Add what went into the dense layers.
    """

    def __init__(
        self, width: int, heads: int, out: int, dropout: float, features: int = 0,
        residual: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.residual = residual
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.attention = nn.MultiheadAttention(
            width, heads, batch_first=True, kdim=features or width, vdim=features or width
        )
        self.norm = nn.LayerNorm(width)
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.leave = nn.Linear(width, out) if out else nn.Identity()

    def forward(self, patches: Tensor) -> Tensor:
        query = self.query.expand(len(patches), -1, -1)
        found = self.norm(self.attention(query, patches, patches, need_weights=False)[0][:, 0])
        made: Tensor = self.leave(self.dense(found) + found * self.residual)
        return made


class DinoV2(nn.Module):
    """Images [B, channels, side, side] -> features [B, self.width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.own = own = settings(Options, "dinov2", config)
        side = min(own.crop or max(size[1:]), *size[1:])
        if side % own.patch or (own.trained and own.trained % own.patch):
            raise UsageError(
                f"images of {side} pixels are not whole patches of {own.patch}",
                f"crop={side // own.patch * own.patch} or patch=...",
            )
        known = (own.trained or side) // own.patch
        into = nn.Conv2d(size[0], own.features, own.patch, own.patch)
        self.patch_embed = nn.ModuleDict({"proj": into})
        self.cls_token = nn.Parameter(torch.zeros(1, 1, own.features))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 1 + known**2, own.features))
        if own.registers:
            self.register_tokens = nn.Parameter(torch.zeros(1, own.registers, own.features))
        self.blocks = nn.ModuleList([Block(own.features, own.heads) for _ in range(own.layers)])
        self.norm = nn.LayerNorm(own.features, eps=EPSILON)
        self.width = own.features
        if own.pool == "query":
            self.width = config.width
            last = (config.width, own.head_heads, 0, config.dropout, own.features)
            ours = (own.features, own.head_heads, config.width, config.dropout)
            self.head = Head(*(last if own.published else ours))
        for name, parameter in self.named_parameters():
            unused = own.published and name in ("cls_token", "pos_embed")
            if unused or (own.frozen and not name.startswith("head.")):
                parameter.requires_grad_(False)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        images = centre(seen(values, mask), self.own.crop)
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.own.frozen):
            x: Tensor = self.patch_embed["proj"](images)
            x = x.flatten(2).transpose(1, 2) if self.own.published else self._placed(x)
            for block in self.blocks:
                x = block(x)
            x = self.norm(x)
        if self.own.pool == "cls":
            return x[:, 0]
        first = 0 if self.own.published else 1 + self.own.registers
        features: Tensor = self.head(x[:, first:])
        return features

    def _placed(self, x: Tensor) -> Tensor:
        """Patches [B, W, high, wide] -> tokens: summary, registers, patches with their places."""
        high, wide = x.shape[2:]
        summary = self.cls_token.expand(len(x), -1, -1)
        x = torch.cat([summary, x.flatten(2).transpose(1, 2)], dim=1) + self._places(high, wide)
        if self.own.registers:
            more = self.register_tokens.expand(len(x), -1, -1)
            x = torch.cat([x[:, :1], more, x[:, 1:]], dim=1)
        return x

    def _places(self, high: int, wide: int) -> Tensor:
        """Places of `high` x `wide` patches, interpolated from those that were trained."""
        known = math.isqrt(self.pos_embed.shape[1] - 1)
        if (high, wide) == (known, known):
            return self.pos_embed
        grid = self.pos_embed[:, 1:].reshape(1, known, known, -1).permute(0, 3, 1, 2)
        grid = functional.interpolate(grid, (high, wide), mode="bicubic", antialias=False)
        return torch.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)


def head_names(published: Weights) -> Weights:
    """The head of an encoder of AstroCLIP's public code, if it is there."""
    names = {
        "cross_attention.query": "query", "cross_attention.multihead_attn": "attention",
        "cross_attention.layernorm": "norm", "mlp.encoder": "dense.0", "mlp.decoder": "dense.3",
    }  # fmt: skip
    return {
        f"head.{ours}{k.removeprefix(theirs)}": v
        for k, v in published.items()
        for theirs, ours in names.items()
        if k.startswith(theirs)
    }


def translate(published: Weights) -> Weights:
    """DINOv2's checkpoints, the teacher's where there are both, or AstroCLIP's image encoder."""
    head = head_names(published)
    for start in ("teacher.backbone.", "student.backbone.", "backbone.", "module."):
        part = {k.removeprefix(start): v for k, v in published.items() if k.startswith(start)}
        if part:
            published = part
            break
    made = {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", k): v for k, v in published.items()}
    return {k: v for k, v in made.items() if k != "mask_token"} | head


ENCODER = Encoder("dinov2", DinoV2, Options, axes=(3,), translate=translate)
