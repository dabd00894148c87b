"""What is minimised: the contrastive loss over all pairs of views, and what goes beside it.

Shapes: B objects of this process, L entries of a view, D embedding dimension.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional

from mmclip.clip.loss import contrastive
from mmclip.clip.model import ClipModel, pair_name
from mmclip.encoders.tensors import Batch
from mmclip.training.distributed import ALONE, Group

SELF_SCALE = 10.0  # inverse temperature between an object and its twin: SimCLR's tau = 0.1
Vectors = dict[str, Tensor]


@dataclass(frozen=True)
class Objective:
    """Settings of the loss.

    Attributes:
        symmetric, pairs: `mean` or `sum` of the two directions; of the pairs of views.
        reconstruction: Weight of the mean squared error of each view (`ClipModel.goal`) from its
            own vector.
        self_contrast: Weight of telling an object's twin from the others, view by view.
        rows: Rows of logits held at a time; 0 chooses.
        labels: Weight of telling the labels of the stars that have them (Huber loss).
    """

    symmetric: str = "mean"
    pairs: str = "mean"
    reconstruction: float = 0.0
    self_contrast: float = 0.0
    rows: int = 0
    labels: float = 0.0


def alignment_loss(
    model: ClipModel,
    vectors: Vectors,
    batch: Batch,
    how: Objective,
    twins: Vectors | None = None,
    group: Group = ALONE,
    labels: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Contrastive loss over all pairs of views, plus what keeps each view's own knowledge.

    An object that lacks a view takes part in the pairs it has. A pair with fewer than two common
    objects is left out.

    Args:
        vectors: [B, D] of each view.
        batch: Values and masks [B, L] of each view.
        twins: Vectors of the same objects redrawn within their errors, where a view has errors.
        labels: [B, n] of mean 0 and deviation 1, NaN where unknown; None: none are told.

    Returns:
        The loss of this process, whose mean over the processes is that of the whole batch, and
        its parts by name.
    """
    present = {n: m.any(dim=1) for n, (_, m) in batch.items()}
    parts = {}
    for a, b in combinations(sorted(vectors), 2):
        bias = model.biases[pair_name(a, b)] if model.shape.bias else None
        both = present[a] & present[b]
        term = contrastive(
            vectors[a], vectors[b], both, model.scale(a, b), how.symmetric, bias, group, how.rows
        )
        if term is not None:
            parts[f"clip {a}-{b}"] = term
    zero = torch.stack([v.sum() for v in vectors.values()]).sum() * 0.0
    loss = zero + sum(parts.values())
    if how.pairs == "mean" and parts:
        loss = loss / len(parts)
    parts["clip"] = loss
    for name, again in (twins or {}).items():
        scale = torch.tensor(SELF_SCALE, device=again.device)
        term = contrastive(vectors[name], again, present[name], scale, group=group, rows=how.rows)
        if term is not None:
            loss = loss + how.self_contrast * term / len(twins or {})
            parts[f"self {name}"] = term
    for name, (values, mask) in batch.items() if how.reconstruction else ():
        guess = model.reconstructors[name](vectors[name] * vectors[name].shape[1] ** 0.5)
        goal, known = model.goal(name, values, mask)
        square = torch.where(known, goal - guess, 0.0) ** 2
        term = square.sum() / group.total(known.sum()).clamp(min=1) * group.size
        loss = loss + how.reconstruction * term / len(batch)
        parts[f"reconstruction {name}"] = term
    for name, vector in vectors.items() if labels is not None else ():
        assert labels is not None
        told = model.label_heads[name](vector * vector.shape[1] ** 0.5)
        known = torch.isfinite(labels) & present[name][:, None]
        miss = functional.huber_loss(
            torch.where(known, told, 0.0), torch.where(known, labels, 0.0), reduction="sum"
        )
        term = miss / group.total(known.sum()).clamp(min=1) * group.size
        loss = loss + how.labels * term / len(vectors)
        parts[f"labels {name}"] = term
    return loss, {n: p.detach() for n, p in parts.items()} | {"loss": loss.detach()}


def embed_batch(model: ClipModel, batch: Batch, bfloat16: bool = False) -> Vectors:
    """Vectors [B, D] of each view of a batch, in float32, by encoders in bf16 if asked."""
    with precision(batch, bfloat16):
        return {n: model.embed(n, v, m) for n, (v, m) in batch.items()}


@contextmanager
def precision(batch: Batch, bfloat16: bool) -> Iterator[None]:
    """Autocast to bf16 on the device of a batch, if asked."""
    device = next(iter(batch.values()))[0].device.type if batch else "cpu"
    with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
        yield


def backward(
    model: ClipModel,
    batch: Batch,
    twin: Batch,
    how: Objective,
    chunk: int = 0,
    bfloat16: bool = False,
    group: Group = ALONE,
    labels: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Add the gradient of the loss of a batch to the model's parameters.

    With `chunk`, the encoders see that many objects at a time: all are embedded without gradient,
    the loss gives the gradient of each vector, and each chunk is encoded again, with the same
    random numbers, to carry it on. The gradient is that of the whole batch.

    Returns:
        Loss and parts, as `alignment_loss`.

    Source:
        Gao et al. 2021, arXiv:2101.06983, section 3.
    """
    count = len(next(iter(batch.values()))[0])
    if not chunk or chunk >= count:
        vectors, twins = embed_batch(model, batch, bfloat16), embed_batch(model, twin, bfloat16)
        loss, parts = alignment_loss(model, vectors, batch, how, twins, group, labels)
        loss.backward()
        group.average_gradients(model.alignment_parameters())
        return loss.detach(), parts
    pieces = [slice(i, i + chunk) for i in range(0, count, chunk)]
    states, found, again = [], [], []
    with torch.no_grad():
        for piece in pieces:
            states.append(_random_state())
            found.append(embed_batch(model, _part(batch, piece), bfloat16))
            again.append(embed_batch(model, _part(twin, piece), bfloat16))
    vectors, twins = _leaves(found), _leaves(again)
    loss, parts = alignment_loss(model, vectors, batch, how, twins, group, labels)
    loss.backward()
    for piece, state in zip(pieces, states, strict=True):
        _restore(state)
        made = embed_batch(model, _part(batch, piece), bfloat16)
        twice = embed_batch(model, _part(twin, piece), bfloat16)
        slopes = [(v, vectors[n].grad) for n, v in made.items()]
        slopes += [(v, twins[n].grad) for n, v in twice.items()]
        carried = [(v, g[piece]) for v, g in slopes if g is not None and v.requires_grad]
        torch.autograd.backward([v for v, _ in carried], [g for _, g in carried])
    group.average_gradients(model.alignment_parameters())
    return loss.detach(), parts


def _part(batch: Batch, piece: slice) -> Batch:
    return {n: (v[piece], m[piece]) for n, (v, m) in batch.items()}


def _leaves(found: list[Vectors]) -> Vectors:
    names = found[0] if found else {}
    return {n: torch.cat([f[n] for f in found]).requires_grad_() for n in names}


def _random_state() -> tuple[Tensor, list[Tensor]]:
    on_device = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return torch.get_rng_state(), on_device


def _restore(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
