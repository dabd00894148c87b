"""How large a residual is to be expected of a star, learned from residuals out of fold.

log |residual| is a smooth function of what is known of a star before its label is: every predicted
number, S/N, the distance to the training stars, and the residuals of its neighbours among them.
Kernel ridge (Matern 3/2) around some of the calibration stars learns it, one target at a time.

Source:
    Scores over a learned scale: Papadopoulos et al. 2011, JAIR 40, 815; Lei et al. 2018,
    arXiv:1604.04173, section 5.2. Conditional on the label: Vovk et al. 2005, 4.5.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.tasks.predict.heads.kernel_ridge import distances, kernel

Floats = NDArray[np.floating[Any]]
POINTS, RIDGE, LENGTH = 400, 3.0, 3.0  # stars with a kernel; ridge; length, in deviations
FOLDS = 5
CHUNK = 8192  # stars at a time
LEAST = 0.1  # of a half width, that an interval goes to either side
FLOOR = 0.02  # of the median residual, under the logarithm
TAILS, EACH = 10, 300  # bins of the label, at most; calibration stars of one
PART = 0.75  # how far intervals go from even ends to those that hold for every label
STEPS = 12  # of solving for the ends
BOUND = 4.0  # deviations to which a feature is limited


@dataclass(frozen=True)
class Widths:
    """The function; f features, m points, t targets.

    Attributes:
        centre, spread: [f] of the features.
        points: [m, f] scaled features with a kernel.
        weight: [m, t] of each kernel; level: [t] mean log |residual|.
    """

    centre: Floats
    spread: Floats
    points: NDArray[np.float32]
    weight: Floats
    level: Floats

    def kernels(self, features: Floats) -> Floats:
        """[n, m] of stars [n, f]; an unknown feature counts as an ordinary one."""
        scaled = _scaled(features, self.centre, self.spread)
        return kernel(distances(scaled, self.points), LENGTH)

    def __call__(self, features: Floats) -> Floats:
        """[n, t] geometric mean of |residual| of stars like these [n, f]."""
        made = np.empty((len(features), len(self.level)))
        for start in range(0, len(features), CHUNK):
            part = slice(start, start + CHUNK)
            made[part] = np.exp(self.level + self.kernels(features[part]) @ self.weight)
        return made


def _scaled(features: Floats, centre: Floats, spread: Floats) -> NDArray[np.float32]:
    scaled = np.nan_to_num((features - centre) / spread, posinf=0.0, neginf=0.0)
    return np.clip(scaled, -BOUND, BOUND).astype(np.float32)


def learn(features: Floats, residual: Floats, seed: int = 42) -> tuple[Widths, Floats]:
    """Learn from calibration stars: features [n, f], residuals [n, t] (NaN unknown).

    Returns:
        The function, and [n, t] what it says of each star when learned without it (in five parts).
    """
    draw = np.random.default_rng(seed)
    filled = np.where(np.isfinite(features), features, np.nan)
    seen = np.isfinite(filled).any(axis=0)
    centre, spread = np.zeros(features.shape[1]), np.ones(features.shape[1])
    centre[seen] = np.nanmean(filled[:, seen], axis=0)
    spread[seen] = np.nanstd(filled[:, seen], axis=0)
    spread[spread == 0] = 1.0
    some = draw.permutation(len(features))[:POINTS]
    points = _scaled(features[some], centre, spread)
    part = draw.permutation(len(features)) % FOLDS
    made = Widths(centre, spread, points, np.zeros((len(points), residual.shape[1])),
                  np.zeros(residual.shape[1]))  # fmt: skip
    near = made.kernels(features).astype(np.float64)
    ridge = RIDGE * kernel(distances(points, points), LENGTH) + 1e-4 * np.eye(len(points))
    held = np.full(residual.shape, np.nan)
    for j, size in enumerate(np.abs(residual).T):
        known = np.isfinite(size)
        if not known.any():
            continue
        log = np.log(size[known] + FLOOR * np.median(size[known]) + 1e-12)
        made.level[j] = log.mean()
        rows, own = near[known], part[known]
        square = [rows[own == p].T @ rows[own == p] for p in range(FOLDS)]
        right = [rows[own == p].T @ (log[own == p] - log.mean()) for p in range(FOLDS)]
        whole, answer = np.sum(square, axis=0) + ridge, np.sum(right, axis=0)
        made.weight[:, j] = np.linalg.solve(whole, answer)
        for p in range(FOLDS):
            weight = np.linalg.solve(whole - square[p], answer - right[p])
            where = part == p
            held[where, j] = np.exp(log.mean() + near[where] @ weight)
    return made, held


def as_new(residual: Floats, expected: Floats, held: NDArray[np.int64]) -> Floats:
    """Residuals out of fold, brought to the size of those of stars that were held out.

    A head that is fitted without a fold learns from fewer stars, and errs more. By how much follows
    from the held-out stars, as far as their number tells: the mean of log |residual / expected|
    of n stars is known to 1.1 / sqrt(n), and is taken to be within .05 of none.

    Args:
        residual, expected: [n, t], NaN where unknown.
        held: Rows that were held out of all; the others are out of fold.
    """
    score = np.log(np.abs(residual) / expected + FLOOR)
    folded = np.setdiff1d(np.arange(len(residual)), held)
    made = residual.copy()
    for j in range(residual.shape[1]):
        new, old = (score[rows, j][np.isfinite(score[rows, j])] for rows in (held, folded))
        if len(new) and len(old):
            trust = len(new) / (len(new) + (1.1 / 0.05) ** 2)
            made[folded, j] *= np.exp(trust * (new.mean() - old.mean()))
    return made


@dataclass(frozen=True)
class Tails:
    """Where predictions lie for stars of a known label, in units of the interval.

    A prediction is drawn towards frequent labels: metal-poor stars come out too rich, and an even
    interval that holds for every predicted value misses too many of them. All labels among whose
    stars the prediction is usual would be an interval that holds for every label, and a wide one
    for labels that are hard to tell; three quarters of the way between the two is taken.

    Attributes:
        label: [b] medians of the bins; low, high: [levels, b] quantiles of
            (predicted - label) / width of each.
        width: [levels] of all, over the expected residual.
    """

    label: Floats
    low: Floats
    high: Floats
    width: Floats

    def __call__(self, predicted: Floats, expected: Floats) -> Floats:
        """[2, levels, n] how far below and above a prediction [n] its interval goes.

        Args:
            predicted: [n]; expected: [n] the residual to expect, see `Widths`.
        """
        made = np.empty((2, len(self.width), len(predicted)))
        for i, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            size = self.width[i] * expected
            down, up = np.ones(len(size)), np.ones(len(size))
            for _ in range(STEPS):
                below = np.interp(predicted - size * down, self.label, high)
                above = np.interp(predicted + size * up, self.label, low)
                down = 0.5 * (down + 1 + PART * (below - 1))
                up = 0.5 * (up + 1 - PART * (above + 1))
            made[:, i] = size * np.stack([down, up])
        return made


def tails(
    predicted: Floats, label: Floats, expected: Floats, levels: Sequence[float]
) -> Tails:  # fmt: skip
    """Learn from calibration stars ([n] each); of none the interval is even."""
    if not len(label):
        one = np.ones((len(levels), 1))
        return Tails(np.zeros(1), -one, one, one[:, 0])
    score = (predicted - label) / expected
    count = max(1, min(TAILS, len(label) // EACH))
    place = np.searchsorted(np.quantile(label, np.arange(1, count) / count), label, side="right")
    bins = [place == b for b in range(count) if (place == b).any()]
    width = np.array([np.quantile(np.abs(score), level) for level in levels])
    ends = np.empty((2, len(levels), len(bins)))
    for i, level in enumerate(levels):
        for b, inside in enumerate(bins):
            ends[:, i, b] = np.quantile(score[inside], [(1 - level) / 2, (1 + level) / 2])
    ends /= width[:, None]
    low, high = np.minimum(ends[0], -LEAST), np.maximum(ends[1], LEAST)
    return Tails(np.array([np.median(label[inside]) for inside in bins]), low, high, width)
