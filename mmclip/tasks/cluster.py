"""Groups of stars in the embedding space, and the columns that tell them apart."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.artifacts import Artifact
from mmclip.config import MOST, AtLeast0, Count, Range, Seed, Whole, check
from mmclip.datasets.build import Dataset
from mmclip.datasets.objects import periods, portraits
from mmclip.errors import UsageError
from mmclip.ids import reorder
from mmclip.metrics import auc
from mmclip.modalities import restore
from mmclip.results import Result, Row, Value, from_rows, from_table
from mmclip.tasks.dbscan import dbscan
from mmclip.vectors.store import Store

Method = Literal["kmeans", "dbscan", "hdbscan"]
METHODS = get_args(Method)
Flags = NDArray[np.bool_]  # [stars]
Points = NDArray[np.float64]  # [stars, dim]
Labels = NDArray[np.int64]  # [stars] groups
Weights = NDArray[np.float64]  # [points]
APART = {
    "group": ("", "number of the group; 0 is the largest"),
    "stars": ("", "in the group"),
    "column": ("", "column of the objects, or a value of a column of names"),
    "inside": ("", "median in the group, or fraction that has the name"),
    "outside": ("", "the same of the stars in other groups"),
    "AUC": ("", "probability that a star of the group has the larger value; 0.5 tells nothing"),
    "known": ("", "stars with a value"),
}
SCAN = {"k": ("", "number of groups"), "silhouette": ("", "mean silhouette; 1 is best")}
NOISE = -1
EQUAL = 1e-9  # distance below which two vectors are one
MOST_SCANNED = 10  # groups of k-means that the silhouette scan tries
BLOCK = 65_536  # stars that are put into groups at a time
Assign = Callable[[Points], Labels]  # a label each


@dataclass(frozen=True)
class ClusterConfig:
    """Settings of `mmclip cluster`; they are printed with the answer."""

    method: Method = "kmeans"
    k: Annotated[int, Range(2, MOST)] | None = (
        None  # groups of k-means; None: the best silhouette of 2 to 10
    )
    epsilon: AtLeast0 | None = None  # DBSCAN; None: the 90th percentile of the neighbour distance
    min_samples: Count = 5  # DBSCAN and HDBSCAN
    min_size: Annotated[int, Range(2, MOST)] = 20  # smallest group of HDBSCAN
    seed: Seed = 42
    sample: Whole = 0  # stars that groups of k-means and DBSCAN are found from; 0: all

    def __post_init__(self) -> None:
        check("cluster", self)


@dataclass(frozen=True)
class Clusters:
    """Groups of stars, and how they were found.

    Attributes:
        labels: [stars] group of each; -1: in no group; -2: not asked or not observed.
        about: Method, parameters and counts.
        scan: Silhouette by number of groups, where k-means chose it; else empty.
    """

    labels: Labels
    about: dict[str, Value]
    scan: Result


def cluster(
    points: NDArray[np.float32], asked: NDArray[np.bool_], config: ClusterConfig
) -> Clusters:
    """Group the rows that are asked for; labels are ordered by size, 0 the largest group.

    Args:
        points: [stars, dim] vectors, or places on a map; NaN rows are left out.
        asked: [stars] which of them.
        config: See `ClusterConfig`.

    Returns:
        Labels, the parameters, and for k-means without k the silhouettes that were scanned.

    Source:
        Silhouette: Rousseeuw 1987, J. Comput. Appl. Math. 20, 53. k-means with a scan of 2 to 10
        and DBSCAN with epsilon 0.20 on the map: the Cambridge reproduction of AstroCLIP.
    """
    rows = np.flatnonzero(asked & np.isfinite(points[:, 0]))
    if len(rows) < max(10, 2 * config.min_samples):
        raise UsageError(f"{len(rows)} stars are too few to be grouped", "a larger class, or all")
    fitted = min(config.sample or len(rows), len(rows))
    if config.method == "kmeans" and (config.k or 2) > fitted:
        raise UsageError(f"{config.k} groups of {fitted} stars cannot be", f"-k {fitted // 2}")
    drawn, weights = np.arange(len(rows)), None
    if 0 < config.sample < len(rows) and config.method != "hdbscan":
        chance = np.random.default_rng(config.seed)
        likely = _likely(points[rows]) if config.method == "kmeans" else None
        drawn = np.sort(chance.choice(len(rows), config.sample, replace=False, p=likely))
        weights = None if likely is None else 1 / likely[drawn]
    mine, about, scan, assign = _group(points[rows[drawn]].astype(np.float64), config, weights)
    found = mine
    if len(drawn) < len(rows):
        about["fitted on"] = len(drawn)
        found = _assigned(points, rows, assign)
        found[drawn] = mine
    names, counts = np.unique(found[found >= 0], return_counts=True)
    order = {int(n): i for i, n in enumerate(names[np.argsort(-counts, kind="stable")])}
    labels = np.full(len(points), -2, np.int64)
    known = np.full(int(found.max()) + 2, NOISE, np.int64)  # the last is that of noise
    for name, rank in order.items():
        known[name] = rank
    labels[rows] = known[found]
    about |= {"stars": len(rows), "groups": len(names), "in none": int((found < 0).sum())}
    return Clusters(labels, about, from_rows(scan, "silhouettes", SCAN))


def _likely(points: NDArray[np.float32]) -> Weights:
    """Chance of each point to be drawn for k-means: half of it alike, half by squared distance.

    A plain draw may miss a small group far from the others, which decides where the centres lie.

    Source:
        Bachem, Lucic & Krause 2018, KDD, arXiv:1702.08248: lightweight coresets.
    """
    centre = points.mean(axis=0, dtype=np.float64)
    away = np.concatenate(
        [
            ((points[at : at + BLOCK] - centre) ** 2).sum(axis=1)
            for at in range(0, len(points), BLOCK)
        ]
    )
    far = away / away.sum() if away.sum() > 0 else 1 / len(points)
    return 0.5 / len(points) + 0.5 * far + np.zeros(len(points))


def _assigned(points: NDArray[np.float32], rows: NDArray[np.int64], assign: Assign) -> Labels:
    found = np.empty(len(rows), np.int64)
    for start in range(0, len(rows), BLOCK):
        part = slice(start, start + BLOCK)
        found[part] = assign(points[rows[part]].astype(np.float64))
    return found


def _group(
    points: Points, config: ClusterConfig, weights: Weights | None = None
) -> tuple[Labels, dict[str, Value], list[Row], Assign]:
    """Labels of the points, what is said of them, and what labels other points.

    Points that were not drawn alike have weights.
    """
    from sklearn.cluster import HDBSCAN
    from sklearn.neighbors import NearestNeighbors

    if config.method == "kmeans":
        return _kmeans(points, config, weights)
    about: dict[str, Value] = {"method": config.method, "min_samples": config.min_samples}
    if config.method == "hdbscan":
        made = HDBSCAN(min_cluster_size=config.min_size, min_samples=config.min_samples, copy=True)
        about["min_size"] = config.min_size
        return made.fit_predict(points), about, [], lambda others: np.full(len(others), NOISE)
    epsilon = config.epsilon
    if epsilon is None:
        near = NearestNeighbors(n_neighbors=config.min_samples).fit(points)
        epsilon = float(np.percentile(near.kneighbors(points)[0][:, -1], 90))
    epsilon = max(epsilon, EQUAL)  # of equal vectors the distance is 0, which DBSCAN does not take
    labels, cores = dbscan(points, epsilon, config.min_samples)
    nearest = NearestNeighbors(n_neighbors=1).fit(points[cores]) if len(cores) else None

    def assign(others: Points) -> Labels:
        """The group of the nearest core star, if that is within epsilon."""
        if nearest is None:
            return np.full(len(others), NOISE)
        distance, at = nearest.kneighbors(others)
        return np.where(distance[:, 0] <= epsilon, labels[cores[at[:, 0]]], NOISE)

    return labels, about | {"epsilon": epsilon}, [], assign


def silhouette(
    points: Points,
    labels: Labels,
    seed: int = 42,
    most: int = 5000,
    weights: Weights | None = None,
) -> float:
    """Mean silhouette of all points; of more than `most`, estimated from as many of each group.

    A small group far from the others decides the value; a plain draw may miss it. Distances within
    a group and to another are means, which a draw within each group estimates; the groups' means
    are then weighed by their sizes: how many they are, or the sums of `weights` [points].

    Source:
        Rousseeuw 1987, J. Comput. Appl. Math. 20, 53.
    """
    from sklearn.metrics import silhouette_samples

    names, group = np.unique(labels, return_inverse=True)
    if len(names) < 2:
        return float("nan")
    counts = np.bincount(group, weights)
    each = len(points) if len(points) <= most else max(most // len(names), 2)
    chance = np.random.default_rng(seed)
    drawn = []
    for name in names:
        mine = np.flatnonzero(labels == name)
        drawn.append(mine if len(mine) <= each else chance.choice(mine, each, replace=False))
    rows = np.concatenate(drawn)
    value = silhouette_samples(points[rows], labels[rows])
    means = [float(value[labels[rows] == name].mean()) for name in names]
    return float(np.average(means, weights=counts))


def _kmeans(
    points: Points, config: ClusterConfig, weights: Weights | None
) -> tuple[Labels, dict[str, Value], list[Row], Assign]:
    from sklearn.cluster import KMeans

    def fitted(k: int) -> Any:
        made = KMeans(k, n_init=10, random_state=config.seed)
        return made.fit(points, sample_weight=weights)

    scan: list[Row] = []
    k = config.k
    if k is None:
        quality: dict[int, float] = {}
        for tried in range(2, min(MOST_SCANNED, len(points) - 1) + 1):
            labels = fitted(tried).labels_
            quality[tried] = silhouette(points, labels, config.seed, weights=weights)
            scan.append({"k": tried, "silhouette": quality[tried]})
        k = max(quality, key=quality.__getitem__)
    about: dict[str, Value] = {"method": "kmeans", "k": k, "seed": config.seed}
    made = fitted(int(k))
    return made.labels_, about, scan, made.predict


def apart(data: Dataset, labels: Labels, most: int = 8, kind: str | None = None) -> Result:
    """Which columns tell each group from the other grouped stars, the clearest first.

    Args:
        data: The objects, in the order of `labels`.
        labels: [objects]; negative ones are in no group.
        most: Columns a group.
        kind: The class that was grouped, for the heading.

    Returns:
        One row a group and numeric column: median in the group and outside, `AUC` (probability
        that a star of the group has the larger value; 0.5 tells nothing; an effect size, Cliff's
        delta is 2 AUC - 1), known values. For a column of names: the name most over-represented,
        its part inside and outside. Of columns with the same values the first is listed.
    """
    rows: list[Row] = []
    numeric = _distinct(data)
    named = [f.name for f in data.objects.schema
             if arrays.is_name(f.type) and f.name != "split"]  # fmt: skip
    for group in range(int(labels.max()) + 1):
        inside, outside = labels == group, (labels >= 0) & (labels != group)
        found = [_numeric(data, name, inside, outside) for name in numeric]
        found += [_named(data, name, inside, outside) for name in named]
        known = sorted((c for c in found if c is not None), key=lambda c: -abs(c.auc - 0.5))
        rows += [
            {"group": group, "stars": int(inside.sum()), "column": c.column, "inside": c.inside,
             "outside": c.outside, "AUC": c.auc, "known": c.known}
            for c in known[:most]
        ]  # fmt: skip
    title = f"what tells the groups {f'of {kind} ' if kind else ''}apart"
    return from_rows(rows, title, APART, data.artifact)


@dataclass(frozen=True)
class Contrast:
    """How a column differs inside and outside a group; see `APART`."""

    column: str
    inside: float
    outside: float
    auc: float
    known: int


def _distinct(data: Dataset) -> list[str]:
    """Numeric columns of the objects, without those that repeat an earlier one."""
    seen: dict[bytes, str] = {}
    for f in data.objects.schema:
        if f.name != "source_id" and arrays.is_number(f.type):
            seen.setdefault(arrays.floats(data.objects, f.name).tobytes(), f.name)
    return list(seen.values())


def _numeric(data: Dataset, name: str, inside: Flags, outside: Flags) -> Contrast | None:
    values = arrays.floats(data.objects, name)
    a, b = (values[m & np.isfinite(values)] for m in (inside, outside))
    if len(a) < 3 or len(b) < 3:
        return None
    member = np.arange(len(a) + len(b)) < len(a)
    larger = auc(member, np.concatenate([a, b]))
    return Contrast(name, float(np.median(a)), float(np.median(b)), larger, len(a) + len(b))


def _named(data: Dataset, name: str, inside: Flags, outside: Flags) -> Contrast | None:
    kinds, codes = arrays.encode(data.objects, name)
    if not kinds or len(kinds) > 100 or not outside.any():
        return None
    part = {k: ((codes[inside] == i).mean(), (codes[outside] == i).mean())
            for i, k in enumerate(kinds)}  # fmt: skip
    best = max(kinds, key=lambda k: part[k][0] - part[k][1])
    a, b = part[best]
    # Of "is of this kind" as a score: ties count half.
    half = float(0.5 + (a - b) / 2)
    known = int((codes[inside | outside] >= 0).sum())
    return Contrast(f"{name} = {best}", float(a), float(b), half, known)


def mean_views(data: Dataset, labels: NDArray[np.int64], view: str) -> NDArray[np.float64]:
    """[groups, length] mean of a view over each group, in the view's unit; NaN if none has it."""
    shown = data.views[view]
    values = restore(shown.values, shown.statistics)
    found = np.full((int(labels.max()) + 1, values.shape[1]), np.nan)
    for group in range(len(found)):
        mine = values[(labels == group) & shown.present]
        if len(mine):
            found[group] = np.nanmean(mine, axis=0)
    return found


def in_order_of(data: Dataset, store: Store, labels: Labels) -> Labels:
    """Labels of the store's stars in the order of the data's objects; -2 for those not there."""
    at = reorder(store.source_id, data.source_id)
    return labels if at is None else np.where(at >= 0, labels[at], -2)


def members(store: Store, labels: Labels) -> Result:
    """One row a star that was asked for: source_id and group, -1 where it is in none."""
    asked = labels >= NOISE
    table = pa.table({"source_id": store.source_id[asked], "group": labels[asked]})
    return from_table(table, "groups", APART, store.artifact)


BINS = 40  # of phase
HARMONICS = 4  # of the smooth curve that says where phase 0 is


@dataclass(frozen=True)
class MeanCurve:
    """Folded light curves of a group, each less its median.

    Attributes:
        stars: How many were averaged.
        period: Their median period, days.
        middle, low, high: [BINS] median, 16th and 84th percentile over the stars, by phase.
    """

    stars: int
    period: float
    middle: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def mean_curves(
    data: Dataset, raw: Artifact | None, labels: NDArray[np.int64], view: str, seed: int = 42,
    most: int = 300,
) -> tuple[list[MeanCurve], bool, str]:  # fmt: skip
    """The mean folded light curve of each group; stars without a period are left out.

    Args:
        data: The objects, in the order of `labels`.
        raw: Where the light curves are; of prepared ones nothing is folded.
        labels: [objects]; negative ones are in no group.
        view: Of light curves.
        seed: Of the draw of stars.
        most: Stars a group; of a larger one so many are drawn.

    Returns:
        A curve a group; whether phase 0 is where stars are faintest (groups of eclipses: they are
        bright most of the time) or brightest; and what to write at the axis.

    Raises:
        UsageError: If no star of any group has light curve and period.
    """
    known, rng = periods(data, raw), np.random.default_rng(seed)
    drawn: list[list[Folded]] = []
    label = ""
    for group in range(int(labels.max()) + 1):
        mine = [int(s) for s in data.source_id[labels == group] if int(s) in known]
        mine = [int(s) for s in rng.permutation(mine)[:most]]
        seen = [p for p in portraits(data, raw, mine, view) if p.kind == "light curve"]
        # Brightness upwards in every unit.
        curves = [_binned(known[p.source_id], p.x, -p.y if p.inverted else p.y) for p in seen]
        drawn.append([c for c in curves if c is not None])
        label = seen[0].ylabel if seen else label
    if not any(drawn):
        raise UsageError("no star of these groups has a light curve and a period", "no --plot")
    faint = float(np.median([c.lean for curves in drawn for c in curves])) < 0
    return [_mean(curves, faint) for curves in drawn], faint, label


@dataclass(frozen=True)
class Folded:
    """A star's light curve by phase, less its median, gaps filled.

    Attributes:
        period: Days.
        curve: [BINS] brightness, upwards.
        lean: Skew of the values: below 0 where the star is bright most of the time.
    """

    period: float
    curve: Points
    lean: float


def _binned(period: float, time: Points, up: Points) -> Folded | None:
    """A folded light curve; None if it fills less than half of the phases."""
    phase = time / period
    good = np.isfinite(phase) & np.isfinite(up)
    place = (phase[good] % 1.0 * BINS).astype(int) % BINS
    values = [up[good][place == b] for b in range(BINS)]
    filled = np.array([len(v) > 0 for v in values])
    if filled.sum() < BINS // 2:
        return None
    middles = np.array([np.median(v) if len(v) else np.nan for v in values])
    whole = np.interp(np.arange(BINS), np.flatnonzero(filled), middles[filled], period=BINS)
    low, middle, high = np.percentile(whole, [5, 50, 95])
    return Folded(period, whole - middle, float(high + low - 2 * middle))


def _mean(curves: list[Folded], faint: bool) -> MeanCurve:
    if not curves:
        nothing = np.full(BINS, np.nan)
        return MeanCurve(0, float("nan"), nothing, nothing, nothing)
    turned = []
    for folded in curves:
        waves = np.fft.rfft(folded.curve)
        waves[HARMONICS + 1 :] = 0
        smooth = np.fft.irfft(waves, BINS)
        turned.append(np.roll(folded.curve, -int(smooth.argmin() if faint else smooth.argmax())))
    low, middle, high = np.percentile(turned, [16, 50, 84], axis=0)
    period = float(np.median([folded.period for folded in curves]))
    return MeanCurve(len(curves), period, middle, low, high)
