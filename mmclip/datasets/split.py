"""Training, validation and test: as given, as a paper has it, or by a hash of the sky.

The hash is the default, since it survives more data.

Two rows of one star, or two blended neighbours, lie in the same HEALPix cell and never on both
sides of the split. The cell is read off a Gaia source_id; any other object has that of its
position, and one without a position is hashed by its id. The other rules divide stars, not rows:
what lies within `TOGETHER` of one another goes to one side under whatever ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
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
    by_position = cells_at(ra, dec)
    gaia = _gaia(source_id, by_id, by_position)
    if gaia.all():
        return by_id
    # Cells have numbers below 2^20: an id never passes for one.
    place = np.where(gaia, by_id, np.where(by_position >= 0, by_position, source_id + 2**20))
    ra, dec = np.asarray(ra, float), np.asarray(dec, float)
    rows = np.flatnonzero(
        _near_edges(ra, dec, by_position) | ((by_position >= 0) & (place != by_position))
    )
    _join(place, gaia, ra, dec, rows)
    return place


def stars(
    source_id: NDArray[np.int64], ra: NDArray[Any] | None = None, dec: NDArray[Any] | None = None
) -> NDArray[np.int64]:
    """[objects] one id a star, which the rows share that it has under other surveys' ids.

    A row under an id of its own is the nearest Gaia star within `TOGETHER` arcsec; without one,
    rows within that distance of one another are one star, or blended. Gaia ids stay apart.

    Args:
        source_id: [objects].
        ra, dec: [objects] deg, ICRS; NaN where unknown. None: each id is a star.
    """
    if ra is None or dec is None:
        return source_id
    by_position = cells_at(ra, dec)
    gaia = _gaia(source_id, cells(source_id), by_position)
    star = source_id.copy()
    if not gaia.all():
        rows = np.flatnonzero(by_position >= 0)
        _join(star, gaia, np.asarray(ra, float), np.asarray(dec, float), rows)
    return star


def _gaia(
    source_id: NDArray[np.int64], by_id: NDArray[np.int64], by_position: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """[objects] True where the id is Gaia's: no local one, where most carry their own cell."""
    known, local = by_position >= 0, is_local(source_id)
    parts = (slice(start, start + CHUNK) for start in range(0, len(source_id), CHUNK))
    same = sum(int((by_id[p] == by_position[p])[known[p]].sum()) for p in parts)
    return ~local if 2 * same >= (known & ~local).sum() else np.zeros(len(local), bool)


def _near_edges(ra: NDArray[Any], dec: NDArray[Any], own: NDArray[np.int64]) -> NDArray[np.bool_]:
    """[objects] True where another cell is near enough that a star may be on both sides.

    Twice `TOGETHER`: a row at the edge may have its own star on this side of it.
    """
    up = 2 * TOGETHER / 3600
    aside = up / np.maximum(np.cos(np.radians(dec)), 1e-6)
    near = np.zeros(len(own), bool)
    for a, d in ((ra + aside, dec), (ra - aside, dec), (ra, dec + up), (ra, dec - up)):
        near |= (own >= 0) & (cells_at(a, np.clip(d, -90, 90)) != own)
    return near


def _join(
    number: NDArray[np.int64],
    gaia: NDArray[np.bool_],
    ra: NDArray[Any],
    dec: NDArray[Any],
    rows: NDArray[np.int64],
) -> None:
    """Give rows that are no Gaia's the number of the star that they are, in place."""
    if len(rows) < 2:
        return
    group = sky.together(ra[rows], dec[rows], TOGETHER)
    # Gaia's rows first, then the smallest number: the same whatever the order of the rows.
    order = np.lexsort((number[rows], ~gaia[rows], group))
    first = order[np.flatnonzero(np.diff(group[order], prepend=-1))]
    chosen = number[rows][first[np.searchsorted(group[first], group)]]
    other, known = rows[~gaia[rows]], rows[gaia[rows]]
    number[other] = chosen[~gaia[rows]]
    if not len(other) or not len(known):
        return
    tree = KDTree(sky.unit_vectors(ra[known], dec[known]))
    chord = 2 * np.sin(np.radians(TOGETHER / 3600) / 2)
    far, at = tree.query(sky.unit_vectors(ra[other], dec[other]), distance_upper_bound=chord)
    there = np.isfinite(far)
    number[other[there]] = number[known[at[there]]]


def stars_of(objects: pa.Table) -> NDArray[np.int64]:
    """`stars` of a table with `source_id` and, where known, `ra` and `dec`."""
    return stars(arrays.column(objects, "source_id").astype(np.int64), *_where(objects))


def _where(objects: pa.Table) -> tuple[NDArray[Any] | None, NDArray[Any] | None]:
    held = set(objects.column_names) >= {"ra", "dec"}
    return (arrays.column(objects, "ra"), arrays.column(objects, "dec")) if held else (None, None)


def follow(parts: NDArray[np.int8], objects: pa.Table, stands: pa.Table) -> NDArray[np.int8]:
    """The split of added objects, where a star that stands under another id decides its own.

    Args:
        parts: [objects] by the rule.
        objects: What is added.
        stands: The objects that stand, with `split`.
    """
    ids = np.concatenate([arrays.column(t, "source_id") for t in (stands, objects)])
    where = [_where(t) for t in (stands, objects)]
    if any(ra is None for ra, _ in where):
        return parts
    star = stars(ids, *(np.concatenate(both) for both in zip(*where, strict=True)))
    known, first = np.unique(star[: stands.num_rows], return_index=True)
    mine = star[stands.num_rows :]
    at = np.minimum(np.searchsorted(known, mine), len(known) - 1)
    there = known[at] == mine
    words = arrays.words(stands, "split")[first[at[there]]]
    made = parts.copy()
    made[there] = [SPLITS.index(w) for w in words]
    return made


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
        held: Objects of the list that is held out, or the same star as one.
        torn: Stars whose rows the given column puts on several sides.
    """

    codes: NDArray[np.int8]
    rule: Split
    unknown: int = 0
    held: int = 0
    torn: int = 0

    @property
    def title(self) -> str:
        """For people."""
        words = self.rule.title
        if self.held:
            words += f", {self.held:,} held out for test"
        words += f"; {self.unknown:,} by cells of the sky" if self.unknown else ""
        return words + (f"; {self.torn:,} stars on several sides of it" if self.torn else "")


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
    unknown, torn, held = np.zeros(0, bool), 0, 0
    star = ids if rule.rule == "cells" and holdout is None else stars(ids, *_where(objects))
    if rule.rule == "random":
        found = shuffled(star, seed, rule.fractions)
    elif rule.rule == "labelled":
        known = _known(objects, _column(objects, rule))
        found = np.isin(star, star[known]).astype(np.int8)
    else:
        found = codes(places(ids, *_where(objects)), seed)
        if rule.rule == "column":
            given = _given(objects, _column(objects, rule))
            unknown = given < 0
            found, torn = _told(given, found, star)
    if holdout is not None:
        here = np.isin(star, star[np.isin(ids, holdout)])
        held = int(here.sum())
        if not held:
            raise UsageError("none of the objects to be held out is in the data", "--holdout FILE")
        found = np.where(here, 2, np.where(found == 2, 0, found)).astype(np.int8)
    return Parts(found, rule, int(unknown.sum()), held, torn)


def _told(
    given: NDArray[np.int8], otherwise: NDArray[np.int8], star: NDArray[np.int64]
) -> tuple[NDArray[np.int8], int]:
    """What a column says of each object, or of its star, or `otherwise`; stars on several sides."""
    told = np.flatnonzero(given >= 0)
    sides = np.unique(np.stack([star[told], given[told]], axis=1), axis=0)
    known, first, count = np.unique(sides[:, 0], return_index=True, return_counts=True)
    found = np.where(given < 0, otherwise, given).astype(np.int8)
    if len(known):
        at = np.minimum(np.searchsorted(known, star), len(known) - 1)
        open_ = (given < 0) & (known[at] == star)
        found[open_] = sides[first[at[open_]], 1]
    return found, int((count > 1).sum())


def shuffled(
    stars: NDArray[np.int64], seed: int, fractions: Sequence[float] = FRACTIONS
) -> NDArray[np.int8]:
    """A random split with exact shares (rounded down, the rest to the last that has any).

    Rows of one number go together: stars of several rows by their hash, then those of one, in the
    order of their hashes, fill the shares. It does not depend on the order of the rows.
    """
    counts = np.array([int(f * len(stars) + 1e-9) for f in fractions])
    last = max(i for i, f in enumerate(fractions) if f)
    counts[last] += len(stars) - counts.sum()
    each, row, size = np.unique(stars, return_inverse=True, return_counts=True)
    part = codes(each, seed, tuple(fractions))
    single = size == 1
    used = np.bincount(part[~single], weights=size[~single], minlength=3).astype(np.int64)
    room = np.cumsum(np.maximum(counts - used, 0))
    order = np.flatnonzero(single)[np.argsort(mix(each[single], seed), kind="stable")]
    # Where stars of several rows overfill a share, the last one gives way.
    part[order] = np.minimum(np.searchsorted(room, np.arange(len(order)), side="right"), last)
    return part[row.reshape(-1)]


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
