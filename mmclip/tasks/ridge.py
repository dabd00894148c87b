"""Ridge regression on a view larger than memory, its penalty by leave-one-out: three passes.

A view with more than `LONGEST` entries (an image) is first laid on the principal axes of some of
its training objects; of no more objects than axes these hold all there is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets import memmap

PENALTIES = np.logspace(-2, 5, 15)
LONGEST = 4096  # entries; X'X of so many takes 128 MB
AXES = 2048  # at most, of a longer view
ENTRIES = 1 << 26  # of all axes together: 256 MB
PIECE = 1 << 23  # entries of a view worked on at a time


@dataclass(frozen=True)
class Ridge:
    """A linear prediction: `intercept` + values @ `slope` [length]; NaN entries count as 0.

    `axes` is the number of principal axes that it was learnt on, 0 if on the entries themselves.
    """

    slope: NDArray[np.float64]
    intercept: float
    penalty: float
    axes: int = 0

    def predict(self, values: NDArray[np.float32], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[rows that are True] predictions of those objects."""
        found = [_rows(values, part) @ self.slope for part in _pieces(values, np.flatnonzero(rows))]
        return np.concatenate([*found, np.zeros(0)]) + self.intercept


def fit(
    values: NDArray[np.float32],
    truth: NDArray[np.float64],
    rows: NDArray[np.bool_],
    penalties: NDArray[np.float64] = PENALTIES,
) -> Ridge:
    """Ridge regression with the penalty of the least mean squared leave-one-out error.

    With X centred, the leave-one-out error of row i is its residual over 1 - h_i, where
    h_i = 1/n + x_i (X'X + penalty)^-1 x_i': with the eigenvectors of X'X one pass gives it for all
    penalties.

    Args:
        values: [objects, length], held or mapped; NaN counts as 0.
        truth: [objects], finite in `rows`.
        rows: [objects] True for those to learn from, two or more.
        penalties: To choose from.

    Source:
        Hoerl & Kennard 1970, Technometrics 12, 55; leave-one-out: Allen 1974, Technometrics 16,
        125. The choice is that of scikit-learn's RidgeCV.
    """
    chosen, length = np.flatnonzero(rows), values.shape[1]
    count, centre = len(chosen), truth[rows].mean()
    pieces = list(_pieces(values, chosen))
    mean = np.zeros(length)
    for part in pieces:
        mean += _rows(values, part).sum(axis=0) / count
    basis = principal_axes(values, chosen, mean) if length > LONGEST else None
    width = length if basis is None else basis.shape[1]
    products, seen = np.zeros((width, width)), np.zeros(width)
    for part in pieces:
        x = _laid(values, part, mean, basis)
        products += x.T @ x
        seen += x.T @ (truth[part] - centre)
    scale, turn = np.linalg.eigh(products)
    scale = np.maximum(scale, 0)[:, None] + penalties  # [width, penalties]
    weight = (turn.T @ seen)[:, None] / scale
    error = np.zeros(len(penalties))
    for part in pieces:
        z = _laid(values, part, mean, basis) @ turn
        residual = (truth[part] - centre)[:, None] - z @ weight
        error += ((residual / (1 - 1 / count - z**2 @ (1 / scale))) ** 2).sum(axis=0)
    best = int(error.argmin())
    slope = turn @ weight[:, best]
    if basis is not None:
        slope = basis @ slope
    intercept = float(centre - mean @ slope)
    return Ridge(slope, intercept, float(penalties[best]), 0 if basis is None else width)


def principal_axes(
    values: NDArray[np.float32], chosen: NDArray[np.int64], mean: NDArray[np.float64]
) -> NDArray[np.float32]:
    """[length, axes] orthonormal principal axes of objects evenly spread over those chosen.

    Found from the products of objects with one another, so nothing of length x length is held.
    """
    length = values.shape[1]
    most = max(1, min(AXES, ENTRIES // length, len(chosen)))
    some = chosen[np.linspace(0, len(chosen) - 1, most).astype(np.int64)]
    step = max(1, PIECE // most)
    columns = [slice(start, start + step) for start in range(0, length, step)]

    def block(where: slice) -> NDArray[np.float64]:
        return np.nan_to_num(values[some, where]).astype(np.float64) - mean[where]

    products = np.zeros((most, most))
    for where in columns:
        x = block(where)
        products += x @ x.T
    scale, turn = np.linalg.eigh(products)
    kept = scale > 1e-10 * scale[-1]
    turn = turn[:, kept] / np.sqrt(scale[kept])
    return np.concatenate([(block(where).T @ turn).astype(np.float32) for where in columns])


def _pieces(values: NDArray[np.float32], chosen: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Rows worked on at a time."""
    for part in memmap.blocks(*values.shape):
        here = chosen[np.searchsorted(chosen, part.start) : np.searchsorted(chosen, part.stop)]
        step = max(1, PIECE // values.shape[1])
        for start in range(0, len(here), step):
            yield here[start : start + step]


def _rows(values: NDArray[np.float32], part: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.nan_to_num(values[part]).astype(np.float64)


def _laid(
    values: NDArray[np.float32], part: NDArray[np.int64], mean: NDArray[np.float64],
    basis: NDArray[np.float32] | None,
) -> NDArray[np.float64]:  # fmt: skip
    x = _rows(values, part) - mean
    return x if basis is None else x @ basis
