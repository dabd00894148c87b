"""Blocks shared by the transformer encoders: attention among the tokens that were observed."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmclip.encoders.layers import Dropout, attend


class Block(nn.Module):
    """x + attention(norm(x)), then x + dense(norm(x)); Xiong et al. 2020, arXiv:2002.04745."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.enter = nn.Linear(width, 3 * width)
        self.leave = nn.Linear(width, width)
        self.dense = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        """`x` [B, T, W]; `observed` [B, T], at least one True in each row."""
        count, tokens, width = x.shape
        split = self.enter(self.norms[0](x)).view(count, tokens, 3, self.heads, -1)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        mixed = attend(queries, keys, values, observed)
        x = x + self.drop(self.leave(mixed.transpose(1, 2).reshape(count, tokens, width)))
        made: Tensor = x + self.drop(self.dense(self.norms[1](x)))
        return made


class Stack(nn.Module):
    """A summary token before the others, blocks, and the summary's features [B, width]."""

    def __init__(self, tokens: int, width: int, heads: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.summary = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.places = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.blocks = nn.ModuleList([Block(width, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, observed: Tensor) -> Tensor:
        return self.every(x, observed)[:, 0]

    def every(self, x: Tensor, observed: Tensor) -> Tensor:
        """Features [B, 1 + T, width] of the summary and of each token."""
        x = torch.cat([self.summary.expand(len(x), -1, -1), x + self.places], dim=1)
        observed = functional.pad(observed, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, observed)
        features: Tensor = self.norm(x)
        return features
