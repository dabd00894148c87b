"""Kernel ridge regression, the mean of a Gaussian process with a Matern 3/2 kernel.

k(r) = (1 + sqrt(3) r / l) exp(-sqrt(3) r / l). Length and ridge of each target are those with the
least leave-one-out residual alpha_i / [(K + ridge)^-1]_ii, on at most 2,000 stars. The ridge of a
star grows with the square of the error of its label.

Source:
    Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, equations 2.25, 4.17, 5.12.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from mmclip.tasks.predict.heads import Floats, Head, Predict, Sample, State

LENGTHS = (1.0, 2.0, 4.0)  # in medians of the distances between training stars
RIDGES = (0.003, 0.01, 0.03, 0.1)
CHOSEN_ON = 1200  # stars
MOST = 6000  # stars that are worth a matrix
CHUNK = 2048


def distances(a: Floats, b: Floats) -> NDArray[np.float32]:
    """[len(a), len(b)] Euclidean."""
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
    made: NDArray[np.float32] = np.sqrt(np.maximum(square, 0)).astype(np.float32)
    return made


def kernel(distance: NDArray[np.float32], length: float) -> NDArray[np.float32]:
    """Matern 3/2."""
    scaled = distance * np.float32(np.sqrt(3) / length)
    made: NDArray[np.float32] = (1 + scaled) * np.exp(-scaled)
    return made


def _drawn(count: int, most: int, seed: int) -> NDArray[np.int64]:
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, most, replace=False))


def leave_one_out(matrix: NDArray[np.float32], ridge: Floats, y: Floats) -> NDArray[np.float64]:
    """[n, t] residuals of each star predicted by all others.

    Args:
        matrix: [n, n] kernel.
        ridge: [n].
        y: [n, t], all known.
    """
    inverse = linalg.inv(matrix + np.diag(ridge).astype(matrix.dtype), check_finite=False)
    found: NDArray[np.float64] = (inverse @ y) / np.diag(inverse)[:, None]
    return found


def choose(sample: Sample, unit: float, seed: int) -> tuple[Floats, Floats]:
    """Length and ridge of each target ([t] each)."""
    targets = sample.y.shape[1]
    best, length, ridge = np.full(targets, np.inf), np.ones(targets), np.full(targets, RIDGES[1])
    for known, columns in _alike(sample.y):
        some = known[_drawn(len(known), CHOSEN_ON, seed)]
        apart = distances(sample.x[some], sample.x[some])
        for one in LENGTHS:
            matrix = kernel(apart, one * unit)
            for two in RIDGES:
                residual = leave_one_out(matrix, two / sample.weight[some],
                                         sample.y[np.ix_(some, columns)])  # fmt: skip
                miss = (residual**2).mean(axis=0)
                better = columns[miss < best[columns]]
                length[better], ridge[better] = one, two
                best[columns] = np.minimum(best[columns], miss)
    return length * unit, ridge


def _alike(y: Floats) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """(rows, columns) of targets that are known of the same stars."""
    patterns, which = np.unique(np.isfinite(y), axis=1, return_inverse=True)
    found: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for i, known in enumerate(patterns.T):
        if known.any():
            found.append((np.flatnonzero(known), np.flatnonzero(which.ravel() == i)))
    return found


def fit(sample: Sample, seed: int, like: State | None) -> State:
    """Solves for the weight of each training star; of more than 6,000 stars so many are drawn."""
    kept = _drawn(len(sample.x), MOST, seed)
    sample = sample.of(kept)
    x = sample.x
    if like is None:
        some = x[_drawn(len(x), 500, seed)]
        unit = float(np.median(distances(some, some))) or 1.0
        length, ridge = choose(sample, unit, seed)
    else:
        length, ridge = like["length"], like["ridge"]
    alpha = np.zeros(sample.y.shape, np.float32)
    for known, columns in _alike(sample.y):
        apart = distances(x[known], x[known])
        for pair in sorted({(length[c], ridge[c]) for c in columns.tolist()}):
            mine = np.array([c for c in columns.tolist() if (length[c], ridge[c]) == pair])
            matrix = kernel(apart, float(pair[0]))
            matrix[np.diag_indices(len(known))] += (pair[1] / sample.weight[known]).astype("f4")
            solved: Any = linalg.cho_solve(
                linalg.cho_factor(matrix, overwrite_a=True, check_finite=False),
                sample.y[np.ix_(known, mine)].astype(np.float32), check_finite=False,
            )  # fmt: skip
            alpha[np.ix_(known, mine)] = solved
    return {"x": x, "alpha": alpha, "length": np.asarray(length), "ridge": np.asarray(ridge)}


def load(state: State) -> Predict:
    """A sum of kernels around the training stars."""
    x, alpha, length = state["x"], state["alpha"], state["length"]

    def predict(asked: Floats) -> Floats:
        made = np.zeros((len(asked), alpha.shape[1]))
        for start in range(0, len(asked), CHUNK):
            apart = distances(asked[start : start + CHUNK].astype(np.float32), x)
            for one in np.unique(length):
                columns = np.flatnonzero(length == one)
                near = kernel(apart, float(one))
                made[start : start + CHUNK, columns] = near @ alpha[:, columns]
        return made

    return predict


HEAD = Head("kernel-ridge", "kernel ridge (Matern 3/2)", fit, load)
