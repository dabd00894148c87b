"""Training, validation and test: as given, as a paper has it, or by a hash of the sky.

The hash is the default, since it survives more data.

Two rows of one star, or two blended neighbours, lie in the same HEALPix cell and never on both
sides of the split. The cell is read off a Gaia source_id; any other object has that of its
position, and one without a position is hashed by its id.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from mmclip import arrays, sky
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.ids import is_local
from mmclip.papers.split import Split

SPLITS = ("train", "validation", "test")
FRACTIONS = (0.8, 0.1, 0.1)
CHUNK = 1 << 18  # objects worked on at a time
TOGETHER = 5.0  # arcsec: rows nearer to one another are one star, or blended
ORDER = 8  # HEALPix cells of about 14 arcmin: many cells even in a small survey


def cells(source_id: NDArray[np.int64]) -> NDArray[np.int64]:
    """HEALPix cell of order 8 (nested), read off a Gaia source_id: source_id >> 43."""
    return source_id >> (35 + 2 * (12 - ORDER))


def cells_at(ra: NDArray[Any], dec: NDArray[Any], order: int = ORDER) -> NDArray[np.int64]:
    """HEALPix cell (nested) of positions, deg; -1 where there is none."""
    ra, dec = np.asarray(ra), np.asarray(dec)
    found = np.empty(len(ra), np.int64)
    for start in range(0, len(ra), CHUNK):
        here = slice(start, start + CHUNK)
        found[here] = sky.cell(order, ra[here], dec[here])
    return found


def mix(values: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """64-bit hash of integers, another one for each seed."""
    with np.errstate(over="ignore"):
        step = np.uint64(seed + 1) * np.uint64(0x9E3779B97F4A7C15)
        return arrays.splitmix64(values.astype(np.uint64) + step)


def assign(
    source_id: NDArray[np.int64], seed: int = 42, fractions: tuple[float, ...] = FRACTIONS
) -> NDArray[np.str_]:
    """`train`, `validation` or `test` for each star; depends on its cell and the seed alone."""
    return assign_by(cells(source_id), seed, fractions)


def assign_by(
    place: NDArray[np.int64], seed: int = 42, fractions: tuple[float, ...] = FRACTIONS
) -> NDArray[np.str_]:
    """The same for any number that what belongs together has in common."""
    return np.array(SPLITS)[codes(place, seed, fractions)]


def codes(
    place: NDArray[np.int64], seed: int = 42, fractions: tuple[float, ...] = FRACTIONS
) -> NDArray[np.int8]:
    """As `assign_by`, but the place in `SPLITS`: a byte an object."""
    edges = np.cumsum(fractions)[:-1]
    found = np.empty(len(place), np.int8)
    for start in range(0, len(place), CHUNK):
        uniform = mix(place[start : start + CHUNK], seed).astype(np.float64) / 2.0**64
        found[start : start + CHUNK] = np.searchsorted(edges, uniform, side="right")
    return found


def places(
    source_id: NDArray[np.int64], ra: NDArray[Any] | None = None, dec: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """What is hashed for each object: its HEALPix cell, or its id where it has none.

    A Gaia id carries its cell; every other object has that of its position, so that a star lies on
    one side of the split under whatever id it comes. Rows within `TOGETHER` arcsec of one another
    across the edge of a cell share a place too. Ids are Gaia's if the cell written in them is that
    of the position for most objects that have one; without positions, ids from 2^32 on are.

    Args:
        source_id: [objects] Gaia's, or local ones (`mmclip.ids.local_id`).
        ra, dec: [objects] deg, ICRS; NaN where unknown. None: no object has a position.

    Returns:
        [objects] a number that is the same for rows that belong together.
    """
    by_id = np.where(source_id >= 2**32, cells(source_id), source_id)
    if ra is None or dec is None:
        return by_id
    by_position, local = cells_at(ra, dec), is_local(source_id)
    known = by_position >= 0
    parts = (slice(start, start + CHUNK) for start in range(0, len(source_id), CHUNK))
    same = sum(int((by_id[p] == by_position[p])[known[p]].sum()) for p in parts)
    gaia = ~local if 2 * same >= (known & ~local).sum() else np.zeros(len(local), bool)
    if gaia.all():
        return by_id
    # Cells have numbers below 2^20: an id never passes for one.
    place = np.where(gaia, by_id, np.where(known, by_position, source_id + 2**20))
    _join_across_edges(place, gaia, np.asarray(ra, float), np.asarray(dec, float), by_position)
    return place


def _join_across_edges(
    place: NDArray[np.int64],
    gaia: NDArray[np.bool_],
    ra: NDArray[Any],
    dec: NDArray[Any],
    own: NDArray[Any],
) -> None:
    """Give rows that lie together on two sides of a cell's edge one place: a Gaia row's, if any."""
    step = TOGETHER / 3600
    aside = step / np.maximum(np.cos(np.radians(dec)), 1e-6)
    around = ((ra + aside, dec), (ra - aside, dec), (ra, dec + step), (ra, dec - step))
    near = np.zeros(len(place), bool)
    for a, d in around:
        near |= (own >= 0) & (cells_at(a, np.clip(d, -90, 90)) != own)
    rows = np.flatnonzero(near | ((own >= 0) & (place != own)))
    if len(rows) < 2:
        return
    tree = KDTree(sky.unit_vectors(ra[rows], dec[rows]))
    pairs = tree.query_pairs(2 * np.sin(np.radians(step) / 2), output_type="ndarray")
    links = coo_array((np.ones(len(pairs), bool), pairs.T), shape=(len(rows), len(rows)))
    _, group = connected_components(links, directed=False)
    # Gaia's rows first, then the smallest place: the same whatever the order of the rows.
    order = np.lexsort((place[rows], ~gaia[rows], group))
    first = np.flatnonzero(np.diff(group[order], prepend=-1))
    chosen = np.empty(int(group.max()) + 1, np.int64)
    chosen[group[order][first]] = place[rows][order][first]
    place[rows] = np.where(gaia[rows], place[rows], chosen[group])


WORDS = {
    "train": 0, "training": 0, "validation": 1, "valid": 1, "val": 1, "dev": 1, "test": 2,
    "testing": 2,
}  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """The split of each object.

    Attributes:
        codes: [objects] its place in `SPLITS`.
        rule: By which it was made.
        unknown: Objects of which the given column says nothing: split by their cells.
        held: Objects of the list that is held out.
    """

    codes: NDArray[np.int8]
    rule: Split
    unknown: int = 0
    held: int = 0

    @property
    def title(self) -> str:
        """For people."""
        words = self.rule.title
        if self.held:
            words += f", {self.held:,} held out for test"
        return words + (f"; {self.unknown:,} by cells of the sky" if self.unknown else "")


def divide(
    objects: pa.Table, rule: Split, seed: int, holdout: NDArray[np.int64] | None = None
) -> Parts:
    """The split of each object by a rule.

    Args:
        objects: With `source_id` and, for a rule that reads columns, these; `ra`, `dec` if known.
        rule: See `Split`; `random` gives exact shares, by the order of a hash of the ids.
        seed: Of the hashes.
        holdout: Ids of test objects; what the rule would have put to test is for training.

    Raises:
        NotFound: If there is no such column.
        UsageError: If the column says something else, or none of the ids is there.
    """
    ids = arrays.column(objects, "source_id").astype(np.int64)
    unknown = np.zeros(0, bool)
    if rule.rule == "random":
        found = shuffled(ids, seed, rule.fractions)
    elif rule.rule == "labelled":
        found = _known(objects, _column(objects, rule)).astype(np.int8)
    else:
        where = [
            arrays.column(objects, n) if n in objects.column_names else None for n in ("ra", "dec")
        ]
        found = codes(places(ids, *where), seed)
        if rule.rule == "column":
            given = _given(objects, _column(objects, rule))
            unknown = given < 0
            found = np.where(unknown, found, given).astype(np.int8)
    held = 0
    if holdout is not None:
        here = np.isin(ids, holdout)
        held = int(here.sum())
        if not held:
            raise UsageError("none of the objects to be held out is in the data", "--holdout FILE")
        found = np.where(here, 2, np.where(found == 2, 0, found)).astype(np.int8)
    return Parts(found, rule, int(unknown.sum()), held)


def shuffled(
    ids: NDArray[np.int64], seed: int, fractions: Sequence[float] = FRACTIONS
) -> NDArray[np.int8]:
    """A random split with exact shares (rounded down, the rest to the last that has any).

    It depends on the set of ids and the seed, not on their order.
    """
    counts = [int(f * len(ids) + 1e-9) for f in fractions]
    last = max(i for i, f in enumerate(fractions) if f)
    counts[last] += len(ids) - sum(counts)
    found = np.empty(len(ids), np.int8)
    found[np.argsort(mix(ids, seed), kind="stable")] = np.repeat(np.arange(3), counts)
    return found


def _column(objects: pa.Table, rule: Split) -> str:
    """The first column of a rule that is there, however it is capitalised."""
    name = arrays.find(objects, rule.columns)
    if name is None:
        known = nearest(rule.columns[0], objects.column_names)
        raise NotFound(
            f"the split '{rule.text}' needs a column {' or '.join(rule.columns)} ({known})",
            "--split cells, or --raw or --labels with that column",
        )
    return name


def _known(objects: pa.Table, name: str) -> NDArray[np.bool_]:
    """[objects] True where a column has a value: not null, NaN or an empty text."""
    column = objects[name]
    known = pc.is_valid(column)
    if pa.types.is_floating(column.type):
        known = pc.and_(known, pc.fill_null(pc.invert(pc.is_nan(column)), False))
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        known = pc.and_(
            known, pc.fill_null(pc.not_equal(pc.utf8_trim_whitespace(column), ""), False)
        )
    return np.asarray(known, np.bool_)


def _given(objects: pa.Table, name: str) -> NDArray[np.int8]:
    """[objects] what a column of `train`, `validation`, `test` says; -1 where it says nothing."""
    column = objects[name].cast(pa.string()).combine_chunks().dictionary_encode()
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    numbers = []
    for word in column.dictionary.to_pylist():
        plain = word.strip().lower()
        if plain and plain not in WORDS:
            raise UsageError(
                f"the column {name} says '{word}'", f"known: {', '.join(WORDS)}; --split cells"
            )
        numbers.append(WORDS.get(plain, -1))
    table = np.array([*numbers, -1], np.int8)
    codes = column.indices.fill_null(len(numbers)).to_numpy(zero_copy_only=False)
    return np.asarray(table[codes], np.int8)
