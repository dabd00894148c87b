"""Kernel ridge regression, the mean of a Gaussian process with a Matern 3/2 kernel.

It is done up to four times, and the answers averaged: with each pixel of a spectrum as it is and in
units of its error, and of either with and without the columns of tables.

k(r) = (1 + sqrt(3) r / l) exp(-sqrt(3) r / l). Length and ridge of each target are those with the
least leave-one-out residual alpha_i / [(K + ridge)^-1]_ii, on at most 1,200 stars. The ridge of a
star grows with the square of the error of its label. The same formula answers each training star
without itself, and without rows of the same star on the sky.

Source:
    Rasmussen & Williams 2006, Gaussian Processes for Machine Learning, equations 2.25, 4.17, 5.12.
"""

from dataclasses import replace
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
ROWS = 512  # of distances worked on at once


def distances(a: Floats, b: Floats) -> NDArray[np.float32]:
    """[len(a), len(b)] Euclidean; some rows at a time, which takes little more than the answer."""
    made = np.empty((len(a), len(b)), np.float32)
    norm = (b**2).sum(axis=1)
    for start in range(0, len(a), ROWS):
        part = a[start : start + ROWS]
        square = part @ b.T
        square *= -2
        square += norm
        square += (part**2).sum(axis=1)[:, None]
        made[start : start + ROWS] = np.sqrt(np.maximum(square, 0, out=square), out=square)
    return made


def kernel(distance: NDArray[np.float32], length: float) -> NDArray[np.float32]:
    """Matern 3/2."""
    scaled: NDArray[np.float32] = distance * np.float32(-np.sqrt(3) / length)
    made: NDArray[np.float32] = np.exp(scaled)
    np.subtract(1, scaled, out=scaled)
    made *= scaled
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
    """Solves for the weight of each training star; of more than 6,000 stars so many are drawn.

    Returns:
        `x` [n, d]; by regression `columns` [m, d] (which features it reads), `alpha` [m, n, t],
        `length` and `ridge` [m, t]; without `like` also `rows` [n] of the sample and `left_out`
        [n, t], each star as the others predict it.
    """
    rows = _drawn(len(sample.x), MOST, seed)
    sample = sample.of(rows)
    read = [sample.features(w, s) for w in (False, True) for s in (False, True)]
    read = list({r.tobytes(): r for r in read}.values())
    made = []
    for i, columns in enumerate(read):
        taken = {n: np.broadcast_to(like[n], (len(read), sample.y.shape[1]))[i]
                 for n in ("length", "ridge")} if like else None  # fmt: skip
        made.append(_solve(replace(sample, x=sample.x[:, columns]), seed, taken))
    mask = np.zeros((len(read), sample.x.shape[1]), bool)
    for row, columns in zip(mask, read, strict=True):
        row[columns] = True
    kept = {n: np.stack([one[n] for one in made]) for n in ("alpha", "length", "ridge")}
    if like is None:
        kept |= {"rows": rows, "left_out": np.mean([one["left_out"] for one in made], axis=0)}
    return {"x": sample.x, "columns": mask, **kept}


def _solve(sample: Sample, seed: int, like: State | None) -> State:
    """`alpha` and, without `like`, `left_out` [n, t], `length` and `ridge` [t] of a regression."""
    x = sample.x
    if like is None:
        some = x[_drawn(len(x), 500, seed)]
        unit = float(np.median(distances(some, some))) or 1.0
        length, ridge = choose(sample, unit, seed)
    else:
        length, ridge = like["length"], like["ridge"]
    alpha, left = np.zeros(sample.y.shape, np.float32), np.full(sample.y.shape, np.nan)
    for known, columns in _alike(sample.y):
        apart = distances(x[known], x[known])
        for pair in sorted({(length[c], ridge[c]) for c in columns.tolist()}):
            mine = np.array([c for c in columns.tolist() if (length[c], ridge[c]) == pair])
            matrix = kernel(apart, float(pair[0]))
            matrix[np.diag_indices(len(known))] += (pair[1] / sample.weight[known]).astype("f4")
            factor = linalg.cho_factor(matrix.T, overwrite_a=True, check_finite=False)
            y = sample.y[np.ix_(known, mine)]
            solved: Any = linalg.cho_solve(factor, y.astype(np.float32), check_finite=False)
            alpha[np.ix_(known, mine)] = solved
            if like is None:
                star = None if sample.star is None else sample.star[known]
                left[np.ix_(known, mine)] = y - _missing(factor[0], solved, star)
    made = {"alpha": alpha, "length": np.asarray(length), "ridge": np.asarray(ridge)}
    return made if like else made | {"left_out": left}


def _missing(
    factor: NDArray[np.float32], alpha: NDArray[np.float32], star: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """[n, t] residuals of each row predicted without the rows of its own star.

    Args:
        factor: Cholesky's, upper; it is overwritten.
        alpha: [n, t] solution.
        star: [n] rows of one star share a number; None: every row is a star.
    """
    inverse, failed = linalg.lapack.spotri(factor, lower=0, overwrite_c=1)
    assert not failed
    residual: NDArray[np.float64] = alpha / np.diag(inverse)[:, None].astype(np.float64)
    if star is None:
        return residual
    order = np.argsort(star, kind="stable")
    _, first, count = np.unique(star[order], return_index=True, return_counts=True)
    for start, many in zip(first[count > 1], count[count > 1], strict=True):
        rows = np.sort(order[start : start + many])
        block = np.triu(inverse[np.ix_(rows, rows)])
        block = block + np.triu(block, 1).T
        residual[rows] = np.linalg.solve(block.astype(np.float64), alpha[rows])
    return residual


def left_out(sample: Sample, state: State) -> Floats:
    """[n, t] the training stars, each predicted without itself.

    Raises:
        KeyError: If the state was fitted with the choices of another.
    """
    made = np.full(sample.y.shape, np.nan)
    made[state["rows"]] = state["left_out"]
    lacking = np.flatnonzero(~np.isfinite(made).all(axis=1))
    plain = load(state)(sample.x[lacking])
    made[lacking] = np.where(np.isfinite(made[lacking]), made[lacking], plain)
    return made


def load(state: State) -> Predict:
    """Sums of kernels around the training stars, averaged over the regressions."""
    regressions = list(zip(state["columns"], state["alpha"], state["length"], strict=True))

    def predict(asked: Floats) -> Floats:
        made = np.zeros((len(asked), state["alpha"].shape[2]))
        for read, alpha, length in regressions:
            x = np.ascontiguousarray(state["x"][:, read])
            for start in range(0, len(asked), CHUNK):
                part = slice(start, start + CHUNK)
                apart = distances(asked[part][:, read].astype(np.float32), x)
                for one in np.unique(length):
                    columns = np.flatnonzero(length == one)
                    near = kernel(apart, float(one)) @ alpha[:, columns]
                    made[part, columns] += near / len(regressions)
        return made

    return predict


HEAD = Head("kernel-ridge", "kernel ridge (Matern 3/2)", fit, load, left_out=left_out)
