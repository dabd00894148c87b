"""Ridge regression on a view larger than memory, its penalty by leave-one-out: three passes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets import memmap

PENALTIES = np.logspace(-2, 5, 15)


@dataclass(frozen=True)
class Ridge:
    """A linear prediction: `intercept` + values @ `slope` [length]; NaN entries count as 0."""

    slope: NDArray[np.float64]
    intercept: float
    penalty: float

    def predict(self, values: NDArray[np.float32], rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        """[rows that are True] predictions of those objects."""
        found = [
            np.nan_to_num(values[part][rows[part]]).astype(np.float64) @ self.slope
            for part in memmap.blocks(*values.shape)
        ]
        return np.concatenate(found) + self.intercept


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
    count, length = int(rows.sum()), values.shape[1]
    total, products, seen = np.zeros(length), np.zeros((length, length)), np.zeros(length)
    centre = truth[rows].mean()
    blocks = [p for p in memmap.blocks(*values.shape) if rows[p].any()]
    for part in blocks:
        total += _rows(values, rows, part).sum(axis=0)
    mean = total / count
    for part in blocks:
        x = _rows(values, rows, part) - mean
        products += x.T @ x
        seen += x.T @ (truth[part][rows[part]] - centre)
    scale, axes = np.linalg.eigh(products)
    scale = np.maximum(scale, 0)[:, None] + penalties  # [length, penalties]
    weight = (axes.T @ seen)[:, None] / scale
    error = np.zeros(len(penalties))
    for part in blocks:
        z = (_rows(values, rows, part) - mean) @ axes
        residual = (truth[part][rows[part]] - centre)[:, None] - z @ weight
        error += ((residual / (1 - 1 / count - z**2 @ (1 / scale))) ** 2).sum(axis=0)
    best = int(error.argmin())
    slope = axes @ weight[:, best]
    return Ridge(slope, float(centre - mean @ slope), float(penalties[best]))


def _rows(values: NDArray[np.float32], rows: NDArray[np.bool_], part: slice) -> NDArray[np.float64]:
    return np.nan_to_num(values[part][rows[part]]).astype(np.float64)
