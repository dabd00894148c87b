"""XP coefficients redrawn within their covariance: CPU seconds of 1,024 stars, one thread.

python -m tests.benchmarks.measure_redraw
"""

import time

import numpy as np
import torch

from mmclip.modalities import Statistics, xp_coefficients
from mmclip.modalities.settings import configured
from mmclip.training.correlations import ErrorCorrelations

STARS, BASES = 1024, 55


def seconds(call):
    """The least CPU time of five calls."""
    found = []
    for _ in range(5):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return min(found)


def main():
    torch.set_num_threads(1)
    chance = np.random.default_rng(0)
    root = chance.normal(size=(2 * STARS, BASES, BASES + 20))
    full = root @ root.transpose(0, 2, 1)
    error = np.sqrt(np.einsum("rii->ri", full))
    i, j = np.tril_indices(BASES, -1)
    pairs = (full / error[:, :, None] / error[:, None, :])[:, i, j].astype(np.float32)
    pairs = pairs.reshape(STARS, -1)
    it = configured(xp_coefficients.MODALITY, {"correlations": True})
    plain = Statistics(np.zeros(2 * BASES), np.ones(2 * BASES), "z")
    ties = ErrorCorrelations(it, plain, torch.from_numpy(it.factors(pairs)))
    values, draw = torch.randn(2, STARS, 2 * BASES)
    rows, errors = np.arange(STARS), torch.full_like(values, 0.01)
    print(f"factors, once: {seconds(lambda: it.factors(pairs)):.4f} s")
    print(f"a step: {seconds(lambda: ties.redraw(values, errors, draw, rows)):.4f} s")


if __name__ == "__main__":
    main()
