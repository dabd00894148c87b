"""What validation reports about vectors: recall both ways, alignment, uniformity, modality gap.

Definitions: Wang & Isola 2020, arXiv:2005.10242 (alignment, uniformity); Liang et al. 2022,
arXiv:2203.02053 (gap). Ties count as worse for the true partner.
"""

from itertools import combinations

import torch
from torch import Tensor

MOST = 8192  # objects that are compared with each other; more take too long after each epoch


def ranks(queries: Tensor, candidates: Tensor) -> Tensor:
    """Rank (1 is best) of candidate i for query i among all candidates, [M] int64."""
    found = []
    for first in range(0, len(queries), 128):
        scores = queries[first : first + 128] @ candidates.T
        own = scores.diagonal(first).unsqueeze(1)
        found.append((scores >= own).sum(1))
    return torch.cat(found)


def uniformity(vectors: Tensor) -> float:
    """log mean exp(-2 |x_i - x_j|^2) over i < j of [M, D] unit vectors; lower spreads further."""
    square = torch.pdist(vectors[:2048]).square()
    return float(torch.logsumexp(-2 * square, 0) - torch.log(torch.tensor(float(len(square)))))


def together(present: dict[str, Tensor]) -> dict[tuple[str, str], int]:
    """Objects [objects] that have both views of each pair; `measure` looks at `MOST` of a pair."""
    pairs = combinations(sorted(present), 2)
    return {(a, b): int((present[a] & present[b]).sum()) for a, b in pairs}


@torch.no_grad()
def measure(vectors: dict[str, Tensor], present: dict[str, Tensor]) -> dict[str, float]:
    """Numbers of each pair of views, over the first `MOST` objects that have both.

    Args:
        vectors: [objects, D] unit vectors of each view.
        present: [objects] True where the view was observed.

    Returns:
        `recall@k A->B`, `median rank A->B`, `candidates A-B`, `alignment A-B`, `gap A-B`,
        `uniformity A`; and the means over all directions `recall@1`, `recall@5`, `recall@10`.
    """
    entry: dict[str, float] = {}
    for a, b in combinations(sorted(vectors), 2):
        both = (present[a] & present[b]).nonzero().flatten()[:MOST]
        if len(both) < 2:
            continue
        left, right = vectors[a][both].float(), vectors[b][both].float()
        entry[f"candidates {a}-{b}"] = len(both)
        for start, to, found in ((a, b, ranks(left, right)), (b, a, ranks(right, left))):
            for k in (1, 5, 10):
                entry[f"recall@{k} {start}->{to}"] = float((found <= k).float().mean())
            entry[f"median rank {start}->{to}"] = float(found.double().quantile(0.5))
        entry[f"alignment {a}-{b}"] = float((left - right).square().sum(1).mean())
        entry[f"gap {a}-{b}"] = float((left.mean(0) - right.mean(0)).norm())
    for name, found in vectors.items():
        chosen = found[present[name]].float()
        if len(chosen) >= 3:
            entry[f"uniformity {name}"] = uniformity(chosen)
    for k in (1, 5, 10):
        each = [v for n, v in entry.items() if n.startswith(f"recall@{k} ")]
        if each:
            entry[f"recall@{k}"] = sum(each) / len(each)
    return entry


def accuracy(logits: list[Tensor]) -> Tensor:
    """Part of the objects of a batch whose partner is most probable, over all pairs at once.

    The mean over pairs of half the softmax of the rows and half that of the transpose's rows; the
    arg-max of each row is compared with the diagonal. As in AstroM3's public code.

    Args:
        logits: One [N, N] matrix a pair, in the same order of objects.

    Returns:
        How many, a number from 0 to N.
    """
    each = [torch.softmax(x, 1) + torch.softmax(x.T, 1) for x in logits]
    truth = torch.arange(len(logits[0]), device=logits[0].device)
    return (torch.stack(each).sum(0).argmax(1) == truth).sum()
