"""Training, validation and test: a hash of the sky, so it survives more data.

Two rows of one star, or two blended neighbours, lie in the same HEALPix cell and never on both
sides of the split.
"""

import numpy as np
from numpy.typing import NDArray

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)
ORDER = 8  # HEALPix cells of about 14 arcmin: many cells even in a small survey


def cells(source_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """HEALPix cell of order 8 (nested), read off a Gaia source_id: source_id >> 43."""
    return source_id >> (35 + 2 * (12 - ORDER))


def mix(values: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """64-bit hash of integers (the finaliser of SplitMix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        h = values.astype(np.uint64) + np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))


def assign(
    source_id: NDArray[np.int64], seed: int = 42, fractions: tuple[float, ...] = FRACTIONS
) -> NDArray[np.str_]:
    """`train`, `validation` or `test` for each star; depends on its cell and the seed alone."""
    uniform = mix(cells(source_id), seed).astype(np.float64) / 2.0**64
    edges = np.cumsum(fractions)[:-1]
    return np.array(SPLITS)[np.searchsorted(edges, uniform, side="right")]
