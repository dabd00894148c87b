"""Exact search of all stars among themselves: by cells, and by FAISS, in turns.

    python -m tests.benchmarks.measure_cells noise WORKSPACE:VIEW ...

`noise` are vectors of independent normal numbers, 100,000 x 32, in which no cell can be left out.
Of more than 20,000 stars so many ask. CPU seconds of this process; k is what `search -k 10` takes.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

from mmclip.artifacts.workspace import Workspace
from mmclip.compiled import keep_best
from mmclip.vectors import cells
from mmclip.vectors.exact import Exact
from mmclip.vectors.store import Store, unit

ASKED, K, TURNS = 20_000, 30, 3


def vectors_of(name):
    """Unit vectors [stars, dim]."""
    if name == "noise":
        return unit(np.random.default_rng(0).normal(size=(100_000, 32)).astype(np.float32))
    folder, _, view = name.rpartition(":")
    vectors = Store(Workspace(Path(folder)).get("vectors")).vectors(view)
    return np.ascontiguousarray(vectors[np.isfinite(vectors[:, 0])])


def line(name):
    """CPU nanoseconds a pair of stars by both ways, and the part of the products that was made."""
    import faiss

    vectors, made, keep = vectors_of(name), [], keep_best()
    queries = vectors[np.random.default_rng(1).permutation(len(vectors))[:ASKED]]
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    exact = Exact(vectors)
    ways = {"faiss": lambda: index.search(queries, K), "cells": lambda: exact.search(queries, K)}
    spent = {way: [] for way in ways}
    for _ in range(TURNS):
        for way, ask in ways.items():
            begun = time.process_time()
            ask()
            spent[way].append(time.process_time() - begun)
    cells.compiled.keep_best = lambda: lambda p, *given: (made.append(p.size), keep(p, *given))
    same = np.abs(ways["cells"]()[0] - ways["faiss"]()[0]).max()
    cells.compiled.keep_best = lambda: keep
    pairs = len(queries) * len(vectors)
    told = {way: round(1e9 * float(np.median(s)) / pairs, 3) for way, s in spent.items()}
    return {
        "vectors": name, "shape": vectors.shape, "asked": len(queries), "ns a pair": told,
        "products made": round(sum(made) / pairs, 4), "largest difference": float(same),
    }  # fmt: skip


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(json.dumps(line(name)), flush=True)
