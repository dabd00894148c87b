"""Numbers that validation measures of a model: losses, accuracy, recall, shape of the space."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmclip.clip import retrieval_metrics
from mmclip.clip.model import ClipModel
from mmclip.clip.objective import Objective, alignment_loss, embed_batch
from mmclip.encoders.tensors import Batch
from mmclip.training.batches import Batches

Rows = NDArray[np.int64]


def alignment(
    model: ClipModel,
    batches: Batches,
    chunks: Sequence[Rows],
    objective: Objective,
    seed: int,
    augmented: bool = False,
    bfloat16: bool = False,
) -> dict[str, float]:
    """Loss and its parts, accuracy, and `retrieval_metrics.measure` of the validation objects.

    Args:
        chunks: Rows of the validation objects, a batch at a time; negatives are those of a batch.
        seed, augmented: Of `Batches.batch`.
    """
    losses: list[tuple[int, dict[str, float]]] = []
    vectors: dict[str, list[Tensor]] = {n: [] for n in model.sizes}
    present: dict[str, list[Tensor]] = {n: [] for n in model.sizes}
    right = complete = 0
    pairs: Counter[tuple[str, str]] = Counter()
    for chunk in chunks:
        batch, _ = batches.batch(chunk, seed=seed, augmented=augmented)
        found = embed_batch(model, batch, bfloat16)
        _, parts = alignment_loss(model, found, batch, objective)
        losses.append((len(chunk), {k: float(v) for k, v in parts.items()}))
        seen = {n: mask.any(dim=1) for n, (_, mask) in batch.items()}
        if len(found) == 1:  # nothing to compare with
            continue
        right += _right(model, found, seen)
        complete += int(torch.stack(list(seen.values())).all(0).sum())
        # Of millions of vectors only the first are measured.
        if min(pairs.values(), default=0) < retrieval_metrics.MOST:
            pairs.update(retrieval_metrics.together(seen))
            for name in batch:
                vectors[name].append(found[name])
                present[name].append(seen[name])
    entry = _means(losses)
    if len(model.sizes) == 1:
        return entry
    whole = {n: torch.cat(v) for n, v in vectors.items()}
    there = {n: torch.cat(p) for n, p in present.items()}
    if complete:
        entry["accuracy"] = right / complete
    return entry | retrieval_metrics.measure(whole, there)


def _means(losses: list[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Mean of each part over the objects of the batches that have it."""
    entry = {}
    for key in dict.fromkeys(key for _, parts in losses for key in parts):
        held = [(parts[key], count) for count, parts in losses if key in parts]
        entry[key] = sum(v * n for v, n in held) / sum(n for _, n in held)
    return entry


def _right(model: ClipModel, vectors: dict[str, Tensor], present: dict[str, Tensor]) -> int:
    """How many complete objects of a batch are nearest to their own other views."""
    complete = torch.stack(list(present.values())).all(0)
    names = sorted(vectors)
    logits = [
        model.scale(a, b) * vectors[a][complete] @ vectors[b][complete].T
        for i, a in enumerate(names)
        for b in names[i + 1 :]
    ]
    return int(retrieval_metrics.accuracy(logits)) if bool(complete.any()) else 0


def generation(
    model: ClipModel, chunks: Iterable[tuple[dict[str, Tensor], Batch]]
) -> dict[str, float]:
    """Mean generation loss over the validation objects, from (vectors, batch) of each chunk."""
    losses, weights = [], []
    for vectors, batch in chunks:
        losses.append(model.generation_loss(vectors, batch).item())
        weights.append(len(next(iter(vectors.values()))))
    return {"loss": float(np.average(losses, weights=weights))}
