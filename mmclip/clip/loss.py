"""Contrastive losses of two views: plain, in chunks, over several processes; and a Gaussian one.

Shapes: N objects, D embedding dimension. Logits are always float32, whatever the embeddings are.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mmclip.training.distributed import ALONE, Group

CHUNKED_FROM = 1024  # objects, above which the logits are never held whole
CHUNK_VALUES = {"cpu": 2**21, "cuda": 2**27}  # logits that are held at a time: what a cache holds
SAFE_SCALE = 40.0  # exp(-2 x 40) is still a normal float32


def clip_loss(left: Tensor, right: Tensor, scale: Tensor, symmetric: str = "mean") -> Tensor:
    """Symmetric cross-entropy of telling which left vector belongs to which right one.

    Row i of both is the same star; every other row is a negative for it.

    Args:
        left, right: [N, D] unit vectors, at least one star.
        scale: Inverse temperature.
        symmetric: `mean` or `sum` of the two directions.

    Returns:
        Loss in nats, in float32; log(N) per direction if the vectors carry no information.

    Source:
        Radford et al. 2021, arXiv:2103.00020, figure 3.
    """
    logits = scale.float() * (left.float() @ right.float().T)
    truth = torch.arange(len(left), device=left.device)
    both = functional.cross_entropy(logits, truth) + functional.cross_entropy(logits.T, truth)
    return both / 2 if symmetric == "mean" else both


def chunked_clip_loss(
    left: Tensor, right: Tensor, scale: Tensor, symmetric: str = "mean", rows: int = 0
) -> Tensor:
    """`clip_loss` with `rows` rows of the logits in memory at a time (0: a fixed amount).

    The logits are computed twice, here and in the backward pass, and never kept. Float64 vectors
    are summed in float64. In float32, value and gradient are those of float64 to 1e-6 up to a scale
    of about 40; at 100 the rounding of the logits alone is a few times that, as in `clip_loss`.
    """
    rows = rows or chunk_rows(left, len(left))
    kind = left.dtype if left.dtype == torch.float64 else torch.float32
    both: Tensor = _Chunked.apply(left.to(kind), right.to(kind), scale.to(kind), rows)  # type: ignore[no-untyped-call]
    return both / 2 if symmetric == "mean" else both


def chunk_rows(like: Tensor, objects: int) -> int:
    """Rows of logits against `objects` columns that are held at a time on a device."""
    return max(32, CHUNK_VALUES.get(like.device.type, 2**21) // objects)


class _Chunked(torch.autograd.Function):
    """Sum over i of both cross-entropies, over N; the gradient is written out.

    Logits of unit vectors lie within +-scale. Up to `SAFE_SCALE` one exponential relative to the
    scale serves rows and columns alike; above it each has its own.
    """

    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, scale: Tensor, rows: int) -> Tensor:
        ctx.rows, ctx.shift = rows, float(scale)
        turned, own = right.T.contiguous(), scale * (left * right).sum(1)
        if ctx.shift <= SAFE_SCALE:
            row_sum, columns = _sums(left, turned, ctx.shift, rows)
        else:
            row_sum, columns = _wide_sums(left, turned, ctx.shift, rows)
        ctx.save_for_backward(left, right, scale, row_sum, columns)
        loss = (row_sum - own).double().mean() + (columns - own).double().mean()
        return loss.to(left.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        left, right, scale, row_sum, columns = ctx.saved_tensors
        of_left, of_right = torch.empty_like(left), torch.zeros_like(right)
        of_scale = torch.zeros((), dtype=torch.float64, device=left.device)
        turned = right.T.contiguous()
        by_row, by_column = (ctx.shift - row_sum).exp(), (ctx.shift - columns).exp()
        # Two buffers for all the chunks: freed and asked for again, blocks of that size pile up.
        whole, other = left.new_empty((2, min(ctx.rows, len(left)), len(left)))
        for first in range(0, len(left), ctx.rows):
            here = slice(first, first + ctx.rows)
            part = left[here]
            # d loss / d logit = softmax over the row + softmax over the column - 2 on the diagonal.
            slope, more = whole[: len(part)], other[: len(part)]
            torch.mm(part, turned, out=slope).mul_(ctx.shift)
            if ctx.shift <= SAFE_SCALE:
                torch.add(by_row[here, None], by_column, out=more)
                slope.sub_(ctx.shift).exp_().mul_(more)
            else:
                torch.sub(slope, columns, out=more).exp_()
                slope.sub_(row_sum[here, None]).exp_().add_(more)
            slope.diagonal(first).sub_(2.0)
            of_left[here] = slope @ right
            of_right.addmm_(slope.T, part)
            # sum_ij slope_ij cos_ij, without the cosines.
            of_scale += (of_left[here] * part).sum(dtype=torch.float64)
        factor = grads[0] / len(left)
        return (
            of_left.mul_(scale * factor),
            of_right.mul_(scale * factor),
            (of_scale * factor).to(scale.dtype),
            None,
        )


def _sums(left: Tensor, turned: Tensor, scale: float, rows: int) -> tuple[Tensor, Tensor]:
    """log sum exp of each row and of each column of scale x left @ turned, [N] each."""
    row_sums = []
    columns = torch.zeros(turned.shape[1], dtype=torch.float64, device=left.device)
    whole = left.new_empty(min(rows, len(left)), turned.shape[1])
    for part in left.split(rows):
        powers = torch.mm(part, turned, out=whole[: len(part)]).mul_(scale).sub_(scale).exp_()
        row_sums.append(powers.sum(1))
        columns += powers.sum(0)
    return torch.cat(row_sums).log() + scale, (columns.log() + scale).to(left.dtype)


def _wide_sums(left: Tensor, turned: Tensor, scale: float, rows: int) -> tuple[Tensor, Tensor]:
    """As `_sums`, for any scale."""
    row_sums, columns = [], torch.full_like(turned[0], -torch.inf)
    whole, other = left.new_empty((2, min(rows, len(left)), turned.shape[1]))
    for part in left.split(rows):
        logits, powers = whole[: len(part)], other[: len(part)]
        torch.mm(part, turned, out=logits).mul_(scale)
        for axis in (1, 0):
            most = logits.amax(axis, keepdim=True)
            found = torch.sub(logits, most, out=powers).exp_().sum(axis).log() + most.squeeze(axis)
            if axis == 1:
                row_sums.append(found)
            else:
                columns = torch.logaddexp(columns, found)
    return torch.cat(row_sums), columns


def sigmoid_loss(left: Tensor, right: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Every pair of objects is a yes-or-no question of its own.

    -(1/N) sum_ij log sigmoid(z_ij (s S_ij + b)), z = 1 on the diagonal and -1 elsewhere; divided by
    N, not by N^2.

    Source:
        Zhai et al. 2023, arXiv:2303.15343, equation 1.
    """
    truth = torch.arange(len(left), device=left.device)
    return _sigmoid_rows(left, right, truth, scale, bias) / len(left)


def contrastive(
    left: Tensor,
    right: Tensor,
    both: Tensor,
    scale: Tensor,
    symmetric: str = "mean",
    bias: Tensor | None = None,
    group: Group = ALONE,
    rows: int = 0,
) -> Tensor | None:
    """The loss of a pair of views over the objects that have both, in all processes.

    Args:
        left, right: [N, D] unit vectors of this process.
        both: [N] True where an object has both views.
        bias: For the sigmoid loss; None for the softmax one.
        rows: Rows of logits held at a time; 0 chooses, chunked above `CHUNKED_FROM` objects.

    Returns:
        What this process adds, such that the mean over the processes is the loss of the whole
        batch; None where fewer than two objects have both views.
    """
    count = int(group.total(both.sum()))
    if count < 2:
        return None
    mine_left, mine_right = left[both], right[both]
    if group.size == 1 and bias is None:
        if rows or count > CHUNKED_FROM:
            return chunked_clip_loss(mine_left, mine_right, scale, symmetric, rows)
        return clip_loss(mine_left, mine_right, scale, symmetric)
    everywhere = group.gather(both)
    all_left, all_right = group.gather(left)[everywhere], group.gather(right)[everywhere]
    before = int(everywhere[: group.rank * len(both)].sum())
    truth = torch.arange(before, before + len(mine_left), device=left.device)
    step = rows or chunk_rows(left, count)
    total = (mine_left.sum() + mine_right.sum()) * 0.0
    for part in torch.arange(len(truth), device=left.device).split(step):
        if bias is not None:
            asked = (mine_left[part], all_right, truth[part], scale, bias)
            total = total + checkpoint(_sigmoid_rows, *asked, use_reentrant=False)
            continue
        for query, keys in ((mine_left, all_right), (mine_right, all_left)):
            given = (query[part], keys, truth[part], scale)
            term = checkpoint(_softmax_rows, *given, use_reentrant=False)
            total = total + (term / 2 if symmetric == "mean" else term)
    return total / count * group.size


def _softmax_rows(query: Tensor, keys: Tensor, truth: Tensor, scale: Tensor) -> Tensor:
    logits = scale.float() * (query.float() @ keys.float().T)
    return functional.cross_entropy(logits, truth, reduction="sum")


def _sigmoid_rows(
    query: Tensor, keys: Tensor, truth: Tensor, scale: Tensor, bias: Tensor
) -> Tensor:
    logits = scale.float() * (query.float() @ keys.float().T) + bias.float()
    own = logits[torch.arange(len(query), device=query.device), truth]
    # "No" everywhere, then the true pairs put right: log sigmoid(x) = log sigmoid(-x) + x.
    return -(functional.logsigmoid(-logits).sum() + own.sum())


def gaussian_loss(mean: Tensor, log_variance: Tensor, values: Tensor, mask: Tensor) -> Tensor:
    """Negative log-likelihood per observed pixel, in nats, without the constant.

    Args:
        mean, log_variance, values: [objects, pixels] in normalised units.
        mask: [objects, pixels], True where observed.
    """
    residual = torch.where(mask, values - mean, 0.0)
    each = 0.5 * (residual**2 * torch.exp(-log_variance) + log_variance)
    return (each * mask).sum() / mask.sum().clamp(min=1)
