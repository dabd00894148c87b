"""Exact search by torch, where a GPU is: products with blocks of the vectors, the best kept.

Answers are those of FAISS's flat index; on the CPU FAISS is the better choice.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmclip.encoders.tensors import device
from mmclip.vectors.sharded import Sharded

SCORES = 2**28  # held at a time: 1 GB of float32


@dataclass(frozen=True)
class Torch:
    """Unit vectors [objects, dim] on a device; see `mmclip.vectors.index.Index`."""

    vectors: Tensor

    @property
    def ntotal(self) -> int:
        """How many they are."""
        return len(self.vectors)

    @torch.no_grad()
    def search(self, queries: NDArray[np.float32], k: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """Scores and rows [queries, k], best first; row -1 where there are fewer than k."""
        asked = torch.from_numpy(np.ascontiguousarray(queries, np.float32)).to(self.vectors.device)
        best = torch.empty((len(asked), 0), device=asked.device)
        rows = torch.empty((len(asked), 0), dtype=torch.int64, device=asked.device)
        step = max(SCORES // max(len(asked), 1), 1)
        for start in range(0, self.ntotal, step):
            part = self.vectors[start : start + step]
            value, row = (asked @ part.T).topk(min(k, len(part)))
            value, row = torch.cat([best, value], 1), torch.cat([rows, row + start], 1)
            best, kept = value.topk(min(k, value.shape[1]))
            rows = row.gather(1, kept)
        lacking = (0, k - best.shape[1])
        best = torch.nn.functional.pad(best, lacking, value=-torch.inf)
        rows = torch.nn.functional.pad(rows, lacking, value=-1)
        return best.cpu().numpy(), rows.cpu().numpy()


def on_device(vectors: NDArray[np.float32], wanted: str) -> Sharded | None:
    """An exact index over the observed rows of a store's vectors, or None for what FAISS does.

    Args:
        vectors: [stars, dim] unit vectors, NaN where unobserved.
        wanted: `cpu`, `cuda`, or `auto`: a GPU if there is one, else None.

    Raises:
        UsageError: If the device is unknown or not there.
    """
    where = device(wanted)
    if wanted == "auto" and where.type == "cpu":
        return None
    rows = np.flatnonzero(np.isfinite(vectors[:, 0]))
    placed = torch.from_numpy(np.ascontiguousarray(vectors[rows])).to(where)
    return Sharded((Torch(placed),), (rows,))
