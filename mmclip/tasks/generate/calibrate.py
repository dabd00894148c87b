"""Make stated uncertainties true: on validation stars, what part lies within them?

Stars are taken in groups along the first principal component of what was generated (of a spectrum
its colour, so the temperature): one width for all is too narrow for cool stars.

`z` is (observed - mean) / sigma, [stars, length], NaN where not observed.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from mmclip.config import Json

Floats = NDArray[np.floating]
ONE_SIGMA = 0.6826894921370859  # of a normal distribution within 1 sigma
LEVELS = np.array(
    [0.0005, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.1586552539, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45,
     0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.8413447461, 0.9, 0.95, 0.975, 0.99, 0.995, 0.9975,
     0.9995]
)  # fmt: skip
GROUPS, GROUP = 5, 100  # groups of stars, at most; stars of a group, at least
ROUNDS = 3  # of bringing the groups of either kind to the level
ENOUGH = 200  # stars with an entry observed, below which that entry shares the scale of all


@dataclass(frozen=True)
class Calibration:
    """What makes a decoder's sigma and intervals true.

    Attributes:
        scale: [length] what sigma is multiplied by: then 68.27 % of |z| are below 1.
        quantiles: Of the rescaled z, all entries together, at `LEVELS`.
        drawn: The same of (draw - mean) / sigma before rescaling: draws are carried from these
            quantiles to those of the observations (see `map_draws`).
        stars: Validation stars it was measured on; 0: not calibrated.
        axis: [length] along which stars are grouped (of the generated mean); zeros for no groups.
        edges: [groups - 1] along it; factors: [groups] what `scale` is multiplied by besides.
        levels, level_factors: The same along the mean log sigma that the decoder states.
    """

    scale: Floats
    quantiles: Floats
    drawn: Floats
    stars: int
    axis: Floats = field(default_factory=lambda: np.zeros(0))
    edges: Floats = field(default_factory=lambda: np.zeros(0))
    factors: Floats = field(default_factory=lambda: np.ones(1))
    levels: Floats = field(default_factory=lambda: np.zeros(0))
    level_factors: Floats = field(default_factory=lambda: np.ones(1))

    def widths(self, mean: Floats, level: Floats | None = None) -> Floats:
        """[stars, length] what sigma is multiplied by.

        Args:
            mean: [stars, length] generated.
            level: [stars] mean log sigma that the decoder states; None: no groups of it.
        """
        along = mean @ self.axis if len(self.axis) else np.zeros(len(mean))
        factor = self.factors[np.searchsorted(self.edges, along, side="right")]
        if level is not None:
            height = np.searchsorted(self.levels, level, side="right")
            factor = factor * self.level_factors[height]
        return np.asarray(factor[:, None] * self.scale)

    def to_dict(self) -> Json:
        """As JSON values."""
        return {
            "scale": self.scale.tolist(), "levels": LEVELS.tolist(),
            "quantiles": self.quantiles.tolist(), "drawn": self.drawn.tolist(),
            "stars": self.stars, "axis": self.axis.tolist(), "edges": self.edges.tolist(),
            "factors": self.factors.tolist(), "level_edges": self.levels.tolist(),
            "level_factors": self.level_factors.tolist(),
        }  # fmt: skip


def from_dict(body: Json) -> Calibration:
    """The inverse of `Calibration.to_dict`."""
    names = {n: n for n in ("scale", "quantiles", "drawn")}
    names |= {n: n for n in ("axis", "edges", "factors", "level_factors")}  # newer
    names |= {"level_edges": "levels"}
    held = {to: np.array(body[n], np.float64) for n, to in names.items() if n in body}
    return Calibration(stars=body["stars"], **held)


def none(length: int) -> Calibration:
    """Sigma as the decoder states it, and a normal distribution."""
    from scipy.stats import norm

    return Calibration(np.ones(length), norm.ppf(LEVELS), norm.ppf(LEVELS), 0)


def calibrate(
    z: Floats, drawn: Floats | None = None, mean: Floats | None = None, level: Floats | None = None
) -> Calibration:
    """Scale of each entry, a factor of each group of stars, then quantiles of all together.

    Args:
        z: Of validation stars.
        drawn: (draw - mean) / sigma of draws, any shape; by default those of a normal.
        mean: [stars, length] what was generated, by which stars are grouped; None: no groups.
        level: [stars] mean log sigma, along which they are grouped as well, the two factors being
            brought to the level in turn; None: not.

    Split-conformal: the coverage on exchangeable stars is nominal up to the sampling noise of the
    validation stars (Lei et al. 2018, JASA 113, 1094), whatever the decoder. Entries of one star
    go together, so that noise is nearer to sqrt(p (1 - p) / stars) than to that of stars x length.
    """
    size = np.abs(z)
    seen = np.isfinite(size).sum(axis=0)
    if not np.isfinite(size).any():
        return none(z.shape[1])
    whole = float(np.nanquantile(size, ONE_SIGMA))
    scale = np.full(z.shape[1], whole)
    many = seen >= ENOUGH
    if many.any():
        scale[many] = np.nanquantile(size[:, many], ONE_SIGMA, axis=0)
    scale = np.where(scale > 0, scale, whole or 1.0)
    own = none(1).drawn if drawn is None else np.quantile(drawn, LEVELS)
    stars = int(np.isfinite(z).any(axis=1).sum())
    made = Calibration(scale, own, own, stars)
    if mean is None:
        return replace(made, quantiles=np.nanquantile(z / scale, LEVELS))
    many = min(GROUPS, len(mean) // GROUP)
    if many >= 2:
        away = mean - mean.mean(axis=0)
        axis = np.linalg.eigh(away.T @ away)[1][:, -1]
        edges, group = _cut(mean @ axis, many)
        levels, height = _cut(level, many) if level is not None else (np.zeros(0), 0 * group)
        factors, level_factors = np.ones(len(edges) + 1), np.ones(len(levels) + 1)
        for _ in range(ROUNDS):
            _level(size / scale / level_factors[height][:, None], group, factors)
            if level is not None:
                _level(size / scale / factors[group][:, None], height, level_factors)
        made = replace(made, axis=axis, edges=edges, factors=factors, levels=levels,
                       level_factors=level_factors)  # fmt: skip
    return replace(made, quantiles=np.nanquantile(z / made.widths(mean, level), LEVELS))


def _cut(along: Floats, many: int) -> tuple[Floats, NDArray[np.int64]]:
    """Edges of groups of equally many stars, and the group of each."""
    edges = np.quantile(along, np.arange(1, many) / many)
    return edges, np.searchsorted(edges, along, side="right")


def _level(size: Floats, group: NDArray[np.int64], factors: Floats) -> None:
    """Set the factor of each group so that 68 % of it are within 1 sigma."""
    for g in np.unique(group):
        factors[g] = max(float(np.nanquantile(size[group == g], ONE_SIGMA)), 1e-6)


def map_draws(by: Calibration, u: Floats) -> Floats:
    """Deviates (draw - mean) / sigma -> deviates in calibrated sigma, rank by rank.

    Beyond the outermost levels the ratio of the last quantiles is kept.
    """
    inside = np.interp(u, by.drawn, by.quantiles)
    low, high = by.quantiles[0] / by.drawn[0], by.quantiles[-1] / by.drawn[-1]
    mapped: Floats = np.where(
        u < by.drawn[0], u * low, np.where(u > by.drawn[-1], u * high, inside)
    )
    return mapped


def interval(by: Calibration, part: float) -> tuple[float, float]:
    """Ends, in calibrated sigma from the mean, of the central interval that holds `part`."""
    tails = (1 - part) / 2
    low, high = np.interp([tails, 1 - tails], LEVELS, by.quantiles)
    return float(low), float(high)


def pit(by: Calibration, z: Floats) -> Floats:
    """Probability integral transform of calibrated z: uniform if the uncertainty is right."""
    ranks = np.interp(z, by.quantiles, LEVELS, left=0.0, right=1.0)
    return np.where(np.isfinite(z), ranks, np.nan)


def coverage(by: Calibration, z: Floats, part: float) -> float:
    """Part of the finite calibrated z within the central interval of `part`."""
    low, high = interval(by, part)
    known = z[np.isfinite(z)]
    return float(((known >= low) & (known <= high)).mean()) if len(known) else float("nan")
