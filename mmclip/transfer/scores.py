"""How well a label carries over: scores of predictions, whole, per regime and in a label plane."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mmclip.metrics import scores
from mmclip.results import Row, Value

SUBSAMPLE = 5000


def mmd2(
    predicted: NDArray[np.float64],
    reference: NDArray[np.float64],
    seed: int = 42,
    most: int = SUBSAMPLE,
) -> float:
    """Squared maximum mean discrepancy of two clouds in a label plane, unbiased.

    The kernel is exp(-d^2 / 2 s^2), s the median distance between reference points; each axis is
    first divided by the standard deviation of the reference, so that units do not matter.

    Args:
        predicted, reference: [stars, labels]; a seeded subsample of `most` is taken of each.
        seed: Of the subsample.

    Returns:
        About zero for equal distributions (it may be slightly negative), at most 2.

    Source:
        Gretton et al. 2012, JMLR 13, 723, equation 3; the kernel is not stated in
        arXiv:2602.15021.
    """
    scale = reference.std(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    rng = np.random.default_rng(seed)
    x, y = (
        v[np.sort(rng.choice(len(v), most, False))] / scale if len(v) > most else v / scale
        for v in (predicted, reference)
    )
    if len(x) < 2 or len(y) < 2:
        return float("nan")
    squares = {"xx": _squares(x, x), "yy": _squares(y, y), "xy": _squares(x, y)}
    width = float(np.median(squares["yy"][np.triu_indices(len(y), 1)]))  # of squared distances
    if width == 0:
        return float("nan")
    k = {name: np.exp(-0.5 * square / width) for name, square in squares.items()}
    within = [(k[n].sum() - np.trace(k[n])) / (len(v) * (len(v) - 1)) for n, v in
              (("xx", x), ("yy", y))]  # fmt: skip
    return float(within[0] + within[1] - 2 * k["xy"].mean())


def _squares(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1)[None, :] - 2 * a @ b.T
    return np.asarray(np.maximum(square, 0.0), np.float64)


def judge(
    truth: NDArray[np.float64],
    predicted: NDArray[np.float64],
    sigma: NDArray[np.float64],
    regimes: dict[str, NDArray[np.bool_]],
) -> list[dict[str, Value]]:
    """Scores of all stars and of each regime with two stars or more that have a prediction.

    Args:
        truth, predicted: [stars] of one label.
        sigma: [stars] predicted 1-sigma; NaN where the network gives none.
        regimes: [stars] flags by name.

    Returns:
        Rows with `regime`, those of `mmclip.metrics.scores`, and `within 1 sigma` (0.683 if the
        uncertainties are right) where sigmas are given.
    """
    rows = []
    for name, inside in {"all": np.ones(len(truth), bool), **regimes}.items():
        inside = inside & np.isfinite(predicted)
        if inside.sum() < 2:
            continue
        row: dict[str, Value] = {"regime": name, **scores(truth[inside], predicted[inside])}
        if np.isfinite(sigma[inside]).all():
            off = np.abs(predicted[inside] - truth[inside])
            row["within 1 sigma"] = float((off < sigma[inside]).mean())
        rows.append(row)
    return rows


def over_seeds(
    rows: Sequence[Row], keys: tuple[str, ...], numbers: tuple[str, ...]
) -> list[dict[str, Value]]:
    """One row for each value of `keys`: mean and population standard deviation over the seeds."""
    groups: dict[tuple[Value, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[k] for k in keys), []).append(row)
    answers = []
    for values, members in groups.items():
        answer: dict[str, Value] = dict(zip(keys, values, strict=True))
        for number in numbers:
            found = np.array([m[number] for m in members if m.get(number) is not None], float)
            if len(found):
                answer[number] = float(found.mean())
                answer[f"{number} +-"] = float(found.std())
        answer["runs"] = len(members)
        answers.append(answer)
    return answers
