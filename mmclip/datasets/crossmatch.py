"""Cross-match of two catalogues by position: mutual nearest neighbours, losses counted.

Unlike the published matcher of the Multimodal Universe it keeps pairs on both sides of a HEALPix
border, gives no right object away twice, and renames columns instead of overwriting them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import Array
from mmclip.errors import UsageError
from mmclip.sky import ARCSEC, unit_vectors
from mmclip.sky import propagate as propagate

ROUNDED = 0.11  # arcsec; what float32 costs in right ascension beyond 256 deg


@dataclass(frozen=True)
class Match:
    """Pairs of two catalogues.

    Attributes:
        left, right: Rows of each catalogue, pair by pair, in order of `left`.
        separation: Of each pair, arcsec.
        counts: `matched`, `left without neighbour`, `left whose neighbour prefers another`,
            `left without position`, `right unmatched`, `ambiguous` (a second neighbour inside the
            radius).
    """

    left: NDArray[np.int64]
    right: NDArray[np.int64]
    separation: NDArray[np.float64]
    counts: dict[str, int]


def nearest(
    left: tuple[Array, Array], right: tuple[Array, Array], radius_arcsec: float = 1.0
) -> Match:
    """Pairs that are each other's nearest neighbour within a radius.

    Args:
        left, right: (ra, dec) of each catalogue in deg, float64, at one epoch; NaN if unknown.
        radius_arcsec: Largest separation; a pair at exactly this distance counts.

    Raises:
        UsageError: If positions are float32 and the radius is not far above their rounding.
    """
    from scipy.spatial import cKDTree

    for ra, dec in (left, right):
        small = {np.asarray(ra).dtype, np.asarray(dec).dtype} & {np.dtype("f4"), np.dtype("f2")}
        if small and radius_arcsec < 10 * ROUNDED:
            raise UsageError(
                f"positions are {small.pop()}: rounded by up to {ROUNDED} arcsec, too much for a "
                f"radius of {radius_arcsec:g}",
                "take float64 positions (the HDF5 files have them), or a radius above 1.1",
            )
    if not 0 < radius_arcsec < 3600:
        raise UsageError(f"a radius of {radius_arcsec} arcsec is not meant", "0 to 3600 arcsec")
    here = [np.flatnonzero(np.isfinite(ra) & np.isfinite(dec)) for ra, dec in (left, right)]
    points = [
        unit_vectors(np.asarray(c[0])[h], np.asarray(c[1])[h])
        for c, h in zip((left, right), here, strict=True)
    ]
    sizes = (len(np.asarray(left[0])), len(np.asarray(right[0])))
    if not len(here[0]) or not len(here[1]):
        nothing = np.empty(0, np.int64)
        return Match(nothing, nothing, np.empty(0), _counts(sizes, here, nothing, nothing, 0))
    # A chord 2 sin(r/2) keeps its precision where an angle's cosine has lost it.
    chord = 2 * np.sin(radius_arcsec * ARCSEC / 2) * (1 + 1e-9)
    trees = [cKDTree(p) for p in points]
    distance, forth = trees[1].query(points[0], k=min(2, len(points[1])))
    distance, forth = distance.reshape(len(points[0]), -1), forth.reshape(len(points[0]), -1)
    back = trees[0].query(points[1])[1]
    near = distance[:, 0] <= chord
    mutual = near & (back[forth[:, 0]] == np.arange(len(points[0])))
    ambiguous = int((distance[mutual, 1:] <= chord).sum())
    i = np.flatnonzero(mutual)
    separation = 2 * np.arcsin(np.minimum(distance[i, 0] / 2, 1)) / ARCSEC
    counts = _counts(sizes, here, i, np.flatnonzero(near), ambiguous)
    return Match(here[0][i], here[1][forth[i, 0]], separation, counts)


def _counts(
    sizes: tuple[int, int],
    here: list[NDArray[Any]],
    matched: NDArray[Any],
    near: NDArray[Any],
    ambiguous: int,
) -> dict[str, int]:
    return {
        "matched": len(matched),
        "left without neighbour": len(here[0]) - len(near),
        "left whose neighbour prefers another": len(near) - len(matched),
        "left without position": sizes[0] - len(here[0]),
        "right unmatched": sizes[1] - len(matched),
        "ambiguous": ambiguous,
    }


def join(
    left: pa.Table, right: pa.Table, match: Match, names: tuple[str, str] = ("left", "right")
) -> pa.Table:
    """The matched rows side by side; a name that both have gets the catalogue's as a prefix."""
    both = set(left.column_names) & set(right.column_names)
    columns: dict[str, pa.ChunkedArray | pa.Array] = {}
    for table, rows, name in ((left, match.left, names[0]), (right, match.right, names[1])):
        taken = table.take(pa.array(rows))
        for column in table.column_names:
            title = f"{name}_{column}" if column in both else column
            if title in columns:
                raise UsageError(f"two columns would be called '{title}'", "choose other names")
            columns[title] = taken[column]
    columns["separation_arcsec"] = pa.array(match.separation)
    return pa.table(columns)
