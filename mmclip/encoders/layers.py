"""Attention and dropout, as PyTorch's own on a GPU and faster than them on a CPU.

Measured on AstroM3's light-curve encoder (`mmclip bench train`): PyTorch's fused attention and its
dropout took 35 % and 24 % of the CPU time of a training step.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORT = 512  # tokens up to which all scores of a head are held at once on a CPU


def attend(queries: Tensor, keys: Tensor, values: Tensor, allowed: Tensor | None) -> Tensor:
    """softmax(q k / sqrt(D)) v over the allowed keys.

    Args:
        queries, keys, values: [B, H, L, D].
        allowed: [B, L] True where a key may be looked at, at least one in each row; None for all.
    """
    mask = None if allowed is None else allowed[:, None, None, :]
    if queries.device.type == "cpu" and queries.shape[2] <= SHORT:
        mixed: Tensor = _Attend.apply(queries, keys, values, mask)  # type: ignore[no-untyped-call]
        return mixed
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)


class _Attend(torch.autograd.Function):
    """Plain attention that keeps no scores: the backward pass computes them again."""

    @staticmethod
    def forward(
        ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None
    ) -> Tensor:
        ctx.save_for_backward(queries, keys, values)
        ctx.mask = mask
        return _weights(queries, keys, mask) @ values

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        queries, keys, values = ctx.saved_tensors
        weights = _weights(queries, keys, ctx.mask)
        slope = grads[0].to(values.dtype)
        of_values = weights.transpose(-2, -1) @ slope
        of_weights = slope @ values.transpose(-2, -1)
        of_scores = torch._softmax_backward_data(of_weights, weights, -1, weights.dtype)
        of_scores = of_scores.mul_(queries.shape[-1] ** -0.5)
        return of_scores @ keys, of_scores.transpose(-2, -1) @ queries, of_values, None


def _weights(queries: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    if mask is not None:
        scores = scores.masked_fill_(~mask, -math.inf)
    return torch.softmax(scores, dim=-1)


class Dropout(nn.Module):
    """`nn.Dropout`; on a CPU four decisions are cut from each random number, p to 1 in 65,536."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if x.device.type != "cpu":
            return functional.dropout(x, self.p)
        dropped: Tensor = _Drop.apply(x, self.p)  # type: ignore[no-untyped-call]
        return dropped


class _Drop(torch.autograd.Function):
    """x or 0, over (1 - p); only the decisions are kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        kept = keep(x, p)
        ctx.save_for_backward(kept)
        ctx.scale = 1 / (1 - p)
        return (x * kept).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (kept,) = ctx.saved_tensors
        return (grads[0] * kept).mul_(ctx.scale), None


def keep(like: Tensor, p: float) -> Tensor:
    """A decision for each entry of a tensor on a CPU: True but with chance p, to 1 in 65,536."""
    draws = torch.empty((like.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
    edge = round(p * 65536) - 32768
    return (draws.view(torch.int16)[: like.numel()] >= edge).view(like.shape)
