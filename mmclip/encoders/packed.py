"""Transformer layers on a CPU for sequences that lie one after another, without padding.

Shapes: T steps of all sequences together, W = H x D features a step, H heads.

Scores are made one sequence at a time, so that they stay in the processor's cache, and made again
in the backward pass; nothing is moved between layouts. Of the wide layer what goes into the
activation is kept, and not what comes out of it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mmclip import compiled
from mmclip.encoders.layers import keep


def attend(entered: Tensor, lengths: Sequence[int], heads: int) -> Tensor:
    """softmax(q k / sqrt(D)) v within each sequence.

    Args:
        entered: [T, 3 W] queries, keys and values of each step.
        lengths: Steps of each sequence; their sum is T.
        heads: H.

    Returns:
        [T, W], the heads side by side.
    """
    made: Tensor = _Attend.apply(entered, lengths, heads)  # type: ignore[no-untyped-call]
    return made


def feed_forward(
    x: Tensor, widen: tuple[Tensor, Tensor], narrow: tuple[Tensor, Tensor], dropout: float
) -> Tensor:
    """narrow(dropout(gelu(widen(x)))), each a weight and a bias.

    Args:
        x: [T, W].
        dropout: Chance of each wide feature to be left out; 0 outside of training.
    """
    made: Tensor = _Wide.apply(x, *widen, *narrow, dropout)  # type: ignore[no-untyped-call]
    return made


def drop(x: Tensor, p: float) -> Tensor:
    """x [any shape] over (1 - p), each entry with chance p replaced by 0."""
    if not p:
        return x
    dropped: Tensor = _Drop.apply(x, p)  # type: ignore[no-untyped-call]
    return dropped


@dataclass(frozen=True)
class Chance:
    """Which entries of a tensor are kept: two random numbers, or a decision an entry.

    With numba the decisions are made anew wherever they are needed, and none is stored.
    """

    p: float
    numbers: tuple[int, int] | None
    kept: Tensor | None

    @staticmethod
    def drawn(like: Tensor, p: float) -> "Chance":
        """For a tensor, by torch's own random numbers."""
        if like.dtype not in (torch.float32, torch.float64) or compiled.dropout() is None:
            return Chance(p, None, keep(like, p))
        first, second = torch.randint(2**32, (2,)).tolist()
        return Chance(p, (first, second), None)

    def apply_(self, x: Tensor) -> Tensor:
        """x over (1 - p) where it is kept, else 0; x itself is changed, if it is contiguous."""
        x, scale, loop = x.contiguous(), 1 / (1 - self.p), compiled.dropout()
        if self.numbers is None or loop is None:
            assert self.kept is not None
            return x.mul_(self.kept).mul_(scale)
        values = x.detach().view(-1).numpy()
        first, second, edge = (np.uint32(n) for n in (*self.numbers, int(self.p * 2**32)))
        loop(values, first, second, edge, values.dtype.type(scale))
        return x


class _Drop(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        ctx.chance = Chance.drawn(x, p)
        made: Tensor = ctx.chance.apply_(x.clone())
        return made

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return ctx.chance.apply_(grads[0].clone()), None


def _heads(
    x: Tensor, lengths: Sequence[int], heads: int, parts: int
) -> Iterator[tuple[Tensor, ...]]:
    """[H, L, D] of each part of [T, parts x W], sequence by sequence; views of it."""
    for piece in x.split(list(lengths)):
        yield piece.view(len(piece), parts, heads, -1).permute(1, 2, 0, 3).unbind()


def _scores(queries: Tensor, keys: Tensor) -> Tensor:
    count, length, width = queries.shape
    room = queries.new_empty(count, length, keys.shape[1])
    return torch.softmax(
        torch.baddbmm(room, queries, keys.mT, beta=0, alpha=width**-0.5, out=room), dim=-1
    )


class _Attend(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, entered: Tensor, lengths: Sequence[int], heads: int) -> Tensor:
        answers = entered.new_empty(len(entered), entered.shape[1] // 3)
        ctx.shape = lengths, heads
        ctx.save_for_backward(entered, answers)
        given = _heads(entered, lengths, heads, 3)
        for (queries, keys, values), (out,) in zip(given, _heads(answers, lengths, heads, 1)):
            torch.bmm(_scores(queries, keys), values, out=out)
        return answers

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> Any:
        entered, answers = ctx.saved_tensors
        lengths, heads = ctx.shape
        slope = grads[0].contiguous()
        # Of each step and head: sum_j w_j dL/dw_j, which is the answer times its own slope.
        common = (slope * answers).view(len(slope), heads, -1).sum(-1)
        made = torch.empty_like(entered)
        sides = zip(
            _heads(entered, lengths, heads, 3), _heads(slope, lengths, heads, 1),
            _heads(made, lengths, heads, 3), common.split(list(lengths)),
        )  # fmt: skip
        for (queries, keys, values), (of,), (of_queries, of_keys, of_values), mean in sides:
            weights = _scores(queries, keys)
            torch.bmm(weights.mT, of, out=of_values)
            of_scores = torch.bmm(of, values.mT).sub_(mean.t().unsqueeze(-1)).mul_(weights)
            torch.bmm(of_scores, keys, out=of_queries)
            torch.bmm(of_scores.mT, queries, out=of_keys)
        width = slope.shape[1]
        made[:, : 2 * width] *= (width // heads) ** -0.5
        return made, None, None


class _Wide(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any, x: Tensor, widen: Tensor, at: Tensor, narrow: Tensor, by: Tensor, p: float
    ) -> Tensor:
        wide = torch.addmm(at, x, widen.t())
        ctx.chance = Chance.drawn(wide, p) if p else None
        ctx.save_for_backward(x, wide, widen, narrow)
        hidden = functional.gelu(wide)
        if p:
            ctx.chance.apply_(hidden)
        return torch.addmm(by, hidden, narrow.t())

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *grads: Tensor) -> Any:
        x, wide, widen, narrow = ctx.saved_tensors
        slope = grads[0]
        with torch.enable_grad():
            wide = wide.detach().requires_grad_()
            hidden = functional.gelu(wide)
        of_hidden = slope @ narrow
        if ctx.chance is not None:
            ctx.chance.apply_(of_hidden)
        (of_wide,) = torch.autograd.grad(hidden, wide, of_hidden)
        hidden = hidden.detach()
        if ctx.chance is not None:
            ctx.chance.apply_(hidden)
        of_narrow = slope.t() @ hidden
        return of_wide @ widen, of_wide.t() @ x, of_wide.sum(0), of_narrow, slope.sum(0), None
