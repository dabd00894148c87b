"""Search under a condition: exactly among the stars that satisfy it, or by FAISS's own filter.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.measure_where 200000 64

Made vectors (the mixture of `mmclip bench search`) with an IVF index; 200 queries, 10 answers. A
condition holds for a part of the stars, drawn at random, or those on one side of a plane, as a cut
in Teff would: then many queries lie far from every star that satisfies it. `exact` is what
`mmclip search --where` does, `filter` FAISS's search of 32 lists with an IDSelector. Recall@10 is
against products with all vectors; CPU ms a query, the better of two.
"""

import sys
import time

import numpy as np

from mmclip.tasks.bench.search import NEIGHBOURS, PROBES, made
from mmclip.tasks.bench.train import processor
from mmclip.tasks.search import Queries, nearest
from mmclip.vectors import index_cost
from mmclip.vectors.exact import Exact
from mmclip.vectors.index import trained

PARTS = (0.01, 0.1, 0.5)


def quickest(work):
    """CPU seconds of the quicker of two, and the answer."""
    taken = []
    for _ in range(2):
        begun = time.process_time()
        answer = work()
        taken.append(time.process_time() - begun)
    return min(taken), answer


def main(rows, dimension):
    import faiss

    faiss.omp_set_num_threads(1)
    vectors, asked = made(rows, dimension, 42)
    cells = index_cost.lists(rows)
    sample = np.random.default_rng(1).choice(rows, min(rows, 40 * cells), replace=False)
    index = trained(vectors[np.sort(sample)], f"IVF{cells},Flat;nprobe={PROBES}")
    index.add(vectors)
    chance = np.random.default_rng(2)
    along = vectors @ vectors[:1000].mean(axis=0)
    queries = Queries(list(range(len(asked))), asked, np.full(len(asked), -1))
    print(f"{processor()}; {rows:,} x {dimension}, IVF{cells}, nprobe {PROBES}")
    print("| condition | stars | way | recall@10 | CPU ms a query |\n|---|---|---|---|---|")
    for kind in ("random", "one side of a plane"):
        for part in PARTS:
            value = chance.random(rows) if kind == "random" else -along
            behind = np.flatnonzero(value <= np.quantile(value, part))
            truth = np.sort(asked @ vectors[behind].T, axis=1)[:, -NEIGHBOURS]

            def exactly(behind=behind):
                found = nearest(Exact(vectors, behind), behind, queries, NEIGHBOURS, None, vectors)
                return found.row.reshape(len(asked), -1)

            def filtered(behind=behind):
                some = faiss.SearchParametersIVF(sel=faiss.IDSelectorBatch(behind), nprobe=PROBES)
                return index.search(asked, NEIGHBOURS, params=some)[1]

            for name, way in (("exact", exactly), ("filter", filtered)):
                seconds, found = quickest(way)
                near = np.einsum("qkd,qd->qk", vectors[np.maximum(found, 0)], asked)
                recall = ((near >= truth[:, None] - 1e-6) & (found >= 0)).mean()
                print(f"| {kind}, {part:.0%} | {len(behind):,} | {name} | {recall:.3f} | "
                      f"{1000 * seconds / len(asked):.3f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
