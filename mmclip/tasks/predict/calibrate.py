"""Errors that hold: conformal intervals by group, local scale, and a test of shifted populations.

The score of a star is |residual| over the one to expect of it (`widths`), so that an interval is
wide where the labels are hard to tell. Quantiles of the score are taken in groups of predicted
value x signal-to-noise of some 400 stars, and brought to the level along each predicted number as
well.

Source:
    Split conformal: Lei et al. 2018, arXiv:1604.04173; by group (Mondrian): Vovk et al. 2005,
    chapter 4; scores over a local scale: Papadopoulos et al. 2011, JAIR 40, 815; shifted
    populations: Tibshirani et al. 2019, arXiv:1904.06019.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestClassifier

from mmclip.metrics import auc, conformal_quantile

Floats = NDArray[np.floating[Any]]
LEVELS = (0.6827, 0.95)
GROUP = 100  # stars of a group, at least
CELL, BIN = 400, 1000  # stars of a group and of a bin, about: quantiles of fewer are noise
VALUES, NOISES = 5, 4  # groups of predicted value, of S/N in each, at most
BINS, ROUNDS = 8, 6  # along each axis; of bringing all to the level
LOCAL = 60  # calibration stars that give the local scale
NEAREST = 10  # reference stars whose mean distance says how far outside a star is
EDGE = 99.0  # percentile of that distance among the reference stars
SHIFTED = 0.65  # AUC from which two populations differ
APART = 0.75  # AUC against training stars drawn to be alike, from which no star is answered
SIGMAS = 5.0  # by which an AUC must exceed that of one population
ODDS = 50.0  # largest odds that a star is of the other population
FEWEST = 50  # asked stars that are a population
ASKED = 1500  # stars of either population that are told apart
CHUNK = 2048


@dataclass(frozen=True)
class Groups:
    """Quantiles of the scores: of groups of value x S/N, times factors along further axes.

    Attributes:
        values: [V - 1] edges of the predicted value; noises: [V, S - 1] of log10 S/N in each.
        quantiles: [levels, V, S].
        edges: [A, B - 1] edges along each further axis; factors: [levels, A, B].
    """

    values: Floats
    noises: Floats
    quantiles: Floats
    edges: Floats
    factors: Floats

    def of(self, predicted: Floats, noise: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The group of each star, as (place of value, place of S/N)."""
        value = np.searchsorted(self.values, predicted, side="right")
        edges = self.noises[value]
        return value, (np.nan_to_num(noise, nan=np.inf)[:, None] >= edges).sum(axis=1)

    def along(self, axes: Floats) -> list[NDArray[np.int64]]:
        """The place of each star [n, A] along each further axis."""
        filled = np.nan_to_num(axes, nan=np.inf)
        return [np.searchsorted(e, c, side="right")
                for e, c in zip(self.edges, filled.T, strict=True)]  # fmt: skip

    def __call__(self, predicted: Floats, noise: Floats, axes: Floats) -> Floats:
        """[levels, n] the score below which a new star stays with the probability of the level.

        Args:
            predicted, noise: [n] the value, log10 S/N.
            axes: [n, A] what else groups are taken along: S/N and every predicted number.
        """
        value, snr = self.of(predicted, noise)
        found = self.quantiles[:, value, snr]
        for a, place in enumerate(self.along(axes)):
            found = found * self.factors[:, a, place]
        return np.asarray(found)


def groups(
    predicted: Floats, noise: Floats, score: Floats, axes: Floats,
    levels: Sequence[float] = LEVELS,
) -> Groups:  # fmt: skip
    """Learn the quantiles from calibration stars: [n] each, axes [n, A]; S/N may be NaN.

    `score` may be [levels, n], where it is another for each level.

    The quantiles of groups of value x S/N, and of bins along each axis alone, are brought to the
    level in turn until they hold at once, as a table is raked to its margins (Deming & Stephan
    1940): an interval that is right by S/N may be wrong by metallicity.
    """
    score = np.broadcast_to(score, (len(levels), len(predicted)))
    count = len(predicted)
    many = max(1, min(VALUES, round(np.sqrt(count / CELL))))
    values = np.quantile(predicted, np.arange(1, many) / many)
    place = np.searchsorted(values, predicted, side="right")
    parts = max(1, min(NOISES, count // many // CELL)) if np.isfinite(noise).any() else 1
    noises = np.full((many, parts - 1), np.inf)
    filled = np.nan_to_num(noise, nan=np.inf)
    for v in range(many):
        if parts > 1 and (place == v).any():
            ranks = np.arange(1, parts) / parts
            noises[v] = np.quantile(filled[place == v], ranks, method="lower")
    bins = max(1, min(BINS, count // BIN))
    edges = np.quantile(np.nan_to_num(axes, nan=np.inf), np.arange(1, bins) / bins, axis=0,
                        method="lower").T  # fmt: skip
    made = Groups(values, noises, np.ones((len(levels), many, parts)), edges,
                  np.ones((len(levels), axes.shape[1], bins)))  # fmt: skip
    value, snr = made.of(predicted, noise)
    cells = [(made.quantiles[:, v, s], (value == v) & (snr == s))
             for v in range(many) for s in range(parts)]  # fmt: skip
    lines = [(made.factors[:, a, b], at == b)
             for a, at in enumerate(made.along(axes)) for b in range(bins)]  # fmt: skip
    for _ in range(ROUNDS):
        for factor, inside in lines + cells:
            if inside.sum() < GROUP // 2:
                continue
            current = made(predicted[inside], noise[inside], axes[inside])
            for i, level in enumerate(levels):
                edge = conformal_quantile(score[i, inside] / current[i], level)
                factor[i] *= edge if np.isfinite(edge) else float(score[i, inside].max())
    if count < GROUP // 2:
        for i, level in enumerate(levels):
            edge = conformal_quantile(score[i], level)
            made.quantiles[i] = edge if np.isfinite(edge) else score[i].max(initial=1.0)
    return made


@dataclass(frozen=True)
class Near:
    """What the surroundings of some stars say.

    Attributes:
        support: [n] reference stars within the radius of an ordinary neighbourhood.
        outside: [n] mean distance to the nearest, in units of the edge: above 1 is outside.
        scale: [n, t] mean |residual| of the nearest calibration stars; NaN without a residual.
    """

    support: NDArray[np.int64]
    outside: Floats
    scale: Floats


@dataclass(frozen=True)
class Around:
    """Reference stars: features [m, d], ids, residuals out of fold [m, t] (NaN unknown).

    `columns`: the features that make a distance.
    """

    x: NDArray[np.float32]
    source_id: NDArray[np.int64]
    residual: Floats
    columns: NDArray[np.int64]
    radius: float = 1.0
    edge: float = 1.0

    def near(self, x: NDArray[np.float32], source_id: NDArray[np.int64]) -> Near:
        """Of new or reference stars; a star is no neighbour of itself."""
        support = np.zeros(len(x), np.int64)
        outside, scale = np.zeros(len(x)), np.full((len(x), self.residual.shape[1]), np.nan)
        size, own = np.abs(self.residual), self.x[:, self.columns]
        square = (own**2).sum(axis=1)
        known = [np.flatnonzero(np.isfinite(column)) for column in size.T]
        alike = {k.tobytes(): k for k in known}
        itself = np.isin(source_id, self.source_id)
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            mine = x[part][:, self.columns]
            apart = -2 * mine @ own.T
            apart += (mine**2).sum(axis=1)[:, None]
            apart += square
            np.sqrt(np.maximum(apart, 0, out=apart), out=apart)
            seen = np.flatnonzero(itself[part])
            same = self.source_id == source_id[part][seen, None]
            apart[seen] = np.where(same, np.inf, apart[seen])
            support[part] = np.count_nonzero(apart <= self.radius, axis=1)
            take = min(NEAREST, len(self.x) - 1)
            outside[part] = np.partition(apart, take - 1, axis=1)[:, :take].mean(axis=1)
            for key, rows in alike.items():
                columns = [j for j, k in enumerate(known) if k.tobytes() == key]
                among = apart if len(rows) == len(own) else apart[:, rows]
                if len(rows) > 1:
                    scale[part, columns] = _mean_near(among, size[rows][:, columns], LOCAL)
        # A floor, so that neighbours that agree by chance do not promise certainty.
        floor = 0.1 * np.array([np.nanmedian(c[k]) if len(k) else np.nan
                                for c, k in zip(size.T, known, strict=True)])  # fmt: skip
        return Near(support, outside / self.edge, np.maximum(scale, floor + 1e-12))


def _mean_near(apart: Floats, values: Floats, most: int) -> Floats:
    """[n, c] mean of values [m, c] over the `most` of m that are nearest by apart [n, m].

    What is as far as the last of them is among them. A partition of numbers is ten times as fast
    as one of their places.
    """
    take = min(most, apart.shape[1] - 1)
    inside = apart <= np.partition(apart, take - 1, axis=1)[:, take - 1, None]
    count = np.count_nonzero(inside, axis=1)
    rows = np.nonzero(inside)[1]
    sums = np.add.reduceat(values[rows], np.cumsum(count) - count, axis=0)
    return np.asarray(sums / count[:, None])


def around(
    x: NDArray[np.float32], source_id: NDArray[np.int64], residual: Floats,
    columns: NDArray[np.int64] | None = None,
) -> Around:  # fmt: skip
    """Reference stars with their radius (median distance to the 13th of them) and edge."""
    every = x
    columns = np.arange(x.shape[1]) if columns is None else columns
    x = x[:, columns]
    some = np.random.default_rng(42).permutation(len(x))[:CHUNK]
    apart = (x[some] ** 2).sum(axis=1)[:, None] + (x**2).sum(axis=1) - 2 * x[some] @ x.T
    apart = np.sort(np.sqrt(np.maximum(apart, 0)), axis=1)  # the first is the star itself
    radius = float(np.median(apart[:, min(13, len(x) - 1)])) or 1.0
    edge = np.percentile(apart[:, 1 : 1 + min(NEAREST, len(x) - 1)].mean(axis=1), EDGE)
    return Around(every, source_id, residual, columns, radius, float(edge) or 1.0)


@dataclass(frozen=True)
class Shift:
    """How unlike the training stars the asked ones are.

    Attributes:
        auc: With which forests tell them apart: 0.5 not at all or by chance, 1 every one.
        odds: [asked] that a star is of the asked population; calibration: of the reference stars.
        left: The AUC against reference stars drawn by their odds: 0.5 where the asked stars are a
            part of what was learned from, near 1 where they are of another kind.
    """

    auc: float
    odds: Floats
    calibration: Floats
    left: float = 0.5

    @property
    def shifted(self) -> bool:
        """True if the populations differ enough that intervals must know of it."""
        return self.auc >= SHIFTED

    @property
    def apart(self) -> bool:
        """True if most of the asked stars are of a kind that was not learned from.

        No weighting helps then: a dwarf whose spectrum looks like a giant's is answered as one.
        """
        return self.shifted and self.left >= APART


def shift(reference: Floats, asked: Floats, seed: int = 42) -> Shift:
    """Tell two populations [n, d] apart by random forests, each star by one that did not see it.

    Fewer than 50 asked stars are no population: their odds are 1. Where the two differ, reference
    stars are drawn with the odds as their weights, and told apart from the asked once more.
    """
    found = _told_apart(reference, asked, seed)
    if not found.shifted:
        return found
    draw = np.random.default_rng(seed + 1)
    weight = found.calibration / found.calibration.sum()
    drawn = draw.choice(len(reference), min(len(asked), ASKED), p=weight)
    alike = np.unique(drawn)
    some = draw.permutation(len(asked))[: max(FEWEST, len(alike))]
    return replace(found, left=_told_apart(reference[alike], asked[some], seed).auc)


def _told_apart(reference: Floats, asked: Floats, seed: int) -> Shift:
    if min(len(asked), len(reference)) < FEWEST // 2 or len(asked) < FEWEST:
        return Shift(0.5, np.ones(len(asked)), np.ones(len(reference)))
    draw = np.random.default_rng(seed)
    ours = draw.permutation(len(reference))[:ASKED]
    theirs = draw.permutation(len(asked))[:ASKED]
    x = np.concatenate([reference[ours], asked[theirs]])
    which = np.repeat([0, 1], [len(ours), len(theirs)])
    halves = [draw.permutation(len(x)) % 2 == i for i in (0, 1)]
    halves[1] = ~halves[0]
    own, made = np.empty(len(x)), [np.zeros(len(reference)), np.zeros(len(asked))]
    for half in halves:
        trees = RandomForestClassifier(
            60, min_samples_leaf=10, class_weight="balanced", random_state=seed, n_jobs=1
        )
        trees.fit(x[half], which[half])
        own[~half] = trees.predict_proba(x[~half])[:, 1]
        for whole, part in zip(made, (reference, asked), strict=True):
            whole += trees.predict_proba(part)[:, 1] / 2
    found = auc(which == 1, own)
    made[0][ours], made[1][theirs] = own[: len(ours)], own[len(ours) :]
    noise = np.sqrt((len(x) + 1) / (12 * len(ours) * len(theirs)))  # of the AUC of one population
    if found < 0.5 + SIGMAS * noise:
        found = 0.5
    odds = [np.clip(p / np.maximum(1 - p, 1e-9), 1 / ODDS, ODDS) for p in made]
    return Shift(float(found), odds[1], odds[0])


def widening(score: Floats, weight: Floats, odds: Floats, own: Floats) -> Floats:
    """[levels, n] by what an interval grows when calibration stars count by their odds.

    Args:
        score, weight: [m] of the calibration stars: their scores, and the odds that a star like
            them is of the asked population.
        odds: [n] of the asked stars; each stands for a score that may be anything.
        own: [levels] the quantiles of the scores when all count alike.

    Returns:
        At least 1; infinite where too few stars are like this one to promise the level.
    """
    order = np.argsort(score)
    mass, total = np.cumsum(weight[order]), float(weight.sum())
    ranked = np.append(score[order], np.inf)
    found = np.empty((len(LEVELS), len(odds)))
    for i, level in enumerate(LEVELS):
        place = np.searchsorted(mass, level * (total + odds), side="left")
        found[i] = ranked[np.minimum(place, len(score))] / max(float(own[i]), 1e-12)
    return np.maximum(found, 1.0)


def temperature(score: Floats, truth: NDArray[np.int64]) -> float:
    """The temperature of softmax(score / T) with the least log loss; score [n, classes].

    Source:
        Guo et al. 2017, arXiv:1706.04599.
    """
    grid = np.geomspace(0.03, 2.0, 40)
    rows = np.arange(len(truth))
    loss = [-np.log(np.maximum(softmax(score / t)[rows, truth], 1e-12)).mean() for t in grid]
    return float(grid[int(np.argmin(loss))])


def softmax(score: Floats) -> Floats:
    """[n, classes] probabilities."""
    raised = np.exp(score - score.max(axis=1, keepdims=True))
    made: Floats = raised / raised.sum(axis=1, keepdims=True)
    return made
