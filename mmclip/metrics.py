"""How good an answer is: regression, classification, intervals, coverage, significance."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT_SEEDS = 16  # up to which every pattern of signs is counted
Values = NDArray[Any]  # [stars] numbers or names
Numbers = dict[str, float]  # scores by name; `stars` is how many they are of


def scores(truth: Values, predicted: Values) -> Numbers:
    """R2, bias and robust scatter of predictions.

    Returns:
        `R2` = 1 - SS_res / SS_tot about the mean of the evaluated rows; `bias` = mean of
        (predicted - truth); `scatter` = standard deviation of the residual after iterative
        3-sigma clipping (at most 5 rounds, about the median, as astropy's sigma_clip);
        `NMAD` = 1.4826 median |r - median r|; `stars`.
    """
    residual = predicted - truth
    total = ((truth - truth.mean()) ** 2).sum()
    clipped = residual
    for _ in range(5):
        inside = np.abs(clipped - np.median(clipped)) <= 3 * clipped.std()
        if inside.all():
            break
        clipped = clipped[inside]
    return {
        "R2": float(1 - (residual**2).sum() / total) if total > 0 else float("nan"),
        "bias": float(residual.mean()),
        "scatter": float(clipped.std()),
        "NMAD": float(1.4826 * np.median(np.abs(residual - np.median(residual)))),
        "stars": len(truth),
    }


def bootstrap(
    measure: Callable[[Values, Values], Numbers],
    truth: Values,
    predicted: Values,
    resamples: int = 200,
    level: float = 0.95,
    seed: int = 42,
) -> Numbers:
    """`NAME_low` and `NAME_high` of every number that `measure` gives, over resampled rows.

    Args:
        measure: (truth, predicted) -> numbers by name.
        truth, predicted: [rows].
        resamples: How many; 0 for none.
        level: Part of the resamples between low and high.
        seed: Of the resampling.

    Source:
        Percentile bootstrap: Efron 1979, Ann. Statist. 7, 1.
    """
    generator = np.random.default_rng(seed)
    drawn = []
    for _ in range(resamples):
        rows = generator.integers(0, len(truth), len(truth))
        drawn.append(measure(truth[rows], predicted[rows]))
    found: Numbers = {}
    for name in drawn[0] if drawn else ():
        values = np.array([d[name] for d in drawn], float)
        if name != "stars":
            known = values[~np.isnan(values)]  # R^2 of equal labels is unknown
            low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2]) if len(known) else (
                math.nan, math.nan,
            )  # fmt: skip
            found |= {f"{name}_low": float(low), f"{name}_high": float(high)}
    return found


def share_interval(right: float, count: int, level: float = 0.95) -> tuple[float, float]:
    """Low and high end of a share that was `right` of `count`, none of them beyond 0 and 1.

    Source:
        Wilson 1927, J. Am. Stat. Assoc. 22, 209.
    """
    from scipy.stats import norm

    if count < 1:
        return math.nan, math.nan
    z = float(norm.ppf(0.5 + level / 2))
    middle = (right + z * z / (2 * count)) / (1 + z * z / count)
    half = math.sqrt(right * (1 - right) / count + z * z / (4 * count * count)) * z
    half /= 1 + z * z / count
    return middle - half, middle + half


def mean_interval(values: Values, level: float = 0.95) -> tuple[float, float]:
    """Low and high end of the mean of a few runs, by Student's t; NaN of fewer than two."""
    from scipy.stats import t

    if len(values) < 2:
        return math.nan, math.nan
    half = float(t.ppf(0.5 + level / 2, len(values) - 1) * np.std(values, ddof=1))
    half /= math.sqrt(len(values))
    return float(np.mean(values)) - half, float(np.mean(values)) + half


def conformal_quantile(scores: Values, coverage: float) -> float:
    """The value that a new score stays below with probability `coverage` or a little more.

    Infinite if there are too few scores to promise that.

    Source:
        Split conformal prediction: Vovk et al. 2005; Lei et al. 2018, arXiv:1604.04173: the
        ceil((n + 1) coverage)-th smallest of n scores.
    """
    # As decimals: 0.07 x 100 is 7.000000000000001 in binary, and would ask for the eighth.
    place = math.ceil((len(scores) + 1) * Fraction(repr(float(coverage))))
    return float(np.sort(scores)[place - 1]) if place <= len(scores) else math.inf


def confusion(truth: Values, predicted: Values, classes: list[str]) -> NDArray[np.int64]:
    """Counts [classes, classes]: row the true class, column the predicted one."""
    place = {c: i for i, c in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(counts, ([place[t] for t in truth], [place[p] for p in predicted]), 1)
    return counts


def accuracies(counts: NDArray[np.int64]) -> Numbers:
    """`micro` (correct / all) and `macro` (mean recall of the classes that occur) accuracy."""
    there = counts.sum(axis=1) > 0
    recall = np.diag(counts)[there] / counts.sum(axis=1)[there]
    return {
        "micro": float(np.diag(counts).sum() / max(counts.sum(), 1)),
        "macro": float(recall.mean()) if there.any() else float("nan"),
        "stars": int(counts.sum()),
    }


def macro_f1(counts: NDArray[np.int64]) -> float:
    """Mean over the classes that occur of 2 right / (true + called), the harmonic mean of both."""
    true, called = counts.sum(axis=1), counts.sum(axis=0)
    there = true > 0
    return float((2 * np.diag(counts)[there] / (true + called)[there]).mean()) if there.any() else (
        math.nan
    )  # fmt: skip


@dataclass(frozen=True)
class Calibration:
    """A classifier's confidence against its accuracy, by bin of confidence.

    Attributes:
        ece: Expected calibration error: the mean |accuracy - confidence| over bins, weighted by
            their stars.
        confidence, accuracy: [bins] means; 0 in an empty bin.
        counts: [bins] stars.
    """

    ece: float
    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    counts: NDArray[np.int64]


def calibration(probability: Values, correct: NDArray[np.bool_], bins: int = 15) -> Calibration:
    """Confidence of a classifier against its accuracy, for a reliability diagram.

    Args:
        probability: [stars] given to the predicted class.
        correct: [stars] whether it was right.
        bins: Of equal width.

    Source:
        Guo et al. 2017, arXiv:1706.04599, equation 3.
    """
    place = np.minimum((probability * bins).astype(int), bins - 1)
    counts = np.bincount(place, minlength=bins)
    filled = np.maximum(counts, 1)
    confidence = np.bincount(place, probability, bins) / filled
    accuracy = np.bincount(place, correct.astype(float), bins) / filled
    gap = float((np.abs(accuracy - confidence) * counts).sum() / max(len(place), 1))
    return Calibration(gap, confidence, accuracy, counts)


def paired(a: list[float], b: list[float]) -> Numbers:
    """Whether a is above b over the same seeds.

    Returns:
        `difference` (mean of a - b), `p` (two-sided, by turning the sign of every subset of the
        differences: exact, no assumption on their shape but symmetry; beyond 16 seeds by 65,535
        subsets drawn at random), `t p` (paired t test), `seeds`. With five seeds the smallest exact
        p is 2 / 2^5 = 0.0625. Where every seed gives the same difference the seeds changed nothing
        and say nothing: both are NaN.

    Source:
        Fisher's randomisation test; Student 1908.
    """
    from scipy.stats import ttest_rel

    difference = np.array(a, float) - np.array(b, float)
    count = len(difference)
    means = np.abs((_signs(count) * difference).mean(axis=1)) if count else np.zeros(1)
    reached = means >= abs(difference.mean()) - 1e-12 if count else np.ones(1, bool)
    same = count < 2 or float(difference.std()) == 0
    return {
        "difference": float(difference.mean()) if count else math.nan,
        "p": float("nan") if same and difference.any() else float(reached.mean()),
        "t p": float("nan") if same else float(ttest_rel(a, b).pvalue),
        "seeds": count,
    }


def _signs(count: int) -> NDArray[np.int8]:
    """[patterns, count] of +1 and -1: all of them, or 65,536 of which the first turns none."""
    if count <= EXACT_SEEDS:
        patterns = np.arange(2**count)[:, None] >> np.arange(count)
        return (1 - 2 * (patterns & 1)).astype(np.int8)
    drawn = np.random.default_rng(0).integers(0, 2, (2**EXACT_SEEDS, count), np.int8)
    drawn[0] = 0
    return 1 - 2 * drawn


def auc(member: NDArray[np.bool_], score: Values) -> float:
    """Probability that a member scores above a non-member; ties count half.

    Source:
        Hanley & McNeil 1982, Radiology 143, 29: the area under the ROC curve.
    """
    from scipy.stats import rankdata

    ranks = rankdata(score)
    others, members = int((~member).sum()), int(member.sum())
    return float((ranks[member].sum() - members * (members + 1) / 2) / (others * members))
