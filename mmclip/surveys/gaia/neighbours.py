"""Ids of one release of Gaia in another, through the archive's own tables of neighbours.

The documentation forbids taking the same number across releases: a star may have none, one or
several neighbours, and two may have the same.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.config import Json
from mmclip.surveys import Request
from mmclip.surveys.client import tap
from mmclip.surveys.client.each import blocks
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.dr3 import DR3
from mmclip.surveys.gaia.release import Release

NEAR = 100.0  # mas from the nearest, within which candidates compete by magnitude
RULE = (
    "nearest in {table}; if others lie within 100 mas of it, the one of smallest "
    "magnitude difference; without one, ambiguous"
)
Pair = tuple[str, str, str]  # table of neighbours, release of the given ids, release wanted


def text(table: str, old: str, new: str) -> str:
    """The query for the neighbours of uploaded ids of the release `old` in `new`."""
    one, two = f"{old.lower()}_source_id", f"{new.lower()}_source_id"
    return (
        f"SELECT u.{one}, n.{two}, n.angular_distance, n.magnitude_difference\n"
        "FROM tap_upload.ids AS u\n"
        f"JOIN {table} AS n ON n.{one} = u.{one}"
    )


NEIGHBOURS = text(DR3.neighbours, "DR2", "DR3")


def others(release: Release, request: Request) -> dict[Pair, tuple[int, ...]]:
    """Ids of other releases that a request names, by the table that maps them to this one."""
    own, given = release.ids, {"DR2": request.dr2_ids, "DR3": request.dr3_ids}
    pairs = {(release.neighbours, release.earlier.old, own): given.get(release.earlier.old, ())}
    if own == "DR3":
        # The table of the later release is read from its other side.
        pairs[("gaiadr4.dr3_neighbourhood", "DR4", "DR3")] = request.dr4_ids
    return {pair: ids for pair, ids in pairs.items() if ids}


@dataclass(frozen=True)
class Mapped:
    """Ids of another release.

    Attributes:
        table: source_id, and of the release `old` `old_source_id`, `old_match_distance_mas`,
            `old_match_dmag`, `old_n_candidates`; one row a source_id.
        lost: A reason for each given id without one.
        counts: mapped; split: of several candidates one was taken; ambiguous: none could be;
            merged: another id has the same neighbour; without a neighbour.
    """

    table: pa.Table
    lost: list[tuple[int, str]]
    counts: dict[str, int]


def convert(client: Client, release: Release, pair: Pair, ids: tuple[int, ...]) -> Mapped:
    """Ids of the wanted release, by `RULE`."""
    table, old, new = pair
    service = _settings.of(client, release.settings).tap
    asked = np.unique(np.array(ids, np.int64))
    given = [
        tap.run(client, service, text(table, old, new), (f"{old.lower()}_source_id", chunk))
        for chunk in blocks(asked, client.settings.tap_chunk)
    ]
    return choose(asked, pa.concat_tables([g for g in given if g.num_rows] or given[:1]), old, new)


def from_dr2(client: Client, dr2_ids: tuple[int, ...]) -> tuple[pa.Table, list[tuple[int, str]]]:
    """DR3 ids of DR2 ids: the table of `Mapped`, and a reason for each id without one."""
    found = convert(client, DR3, (DR3.neighbours, "DR2", "DR3"), dr2_ids)
    return found.table, found.lost


def choose(asked: NDArray[np.int64], near: pa.Table, old: str = "DR2", new: str = "DR3") -> Mapped:
    """Apply `RULE` to rows of a table of neighbours."""
    low, one, two = old.lower(), f"{old.lower()}_source_id", f"{new.lower()}_source_id"
    rows: dict[int, list[Json]] = {}
    for row in near.to_pylist():
        rows.setdefault(row[one], []).append(row)
    lost: list[tuple[int, str]] = []
    kept: dict[int, tuple[int, Json, int]] = {}
    counts = dict.fromkeys(("mapped", "split", "ambiguous", "merged", "without_neighbour"), 0)
    for given in asked.tolist():
        found = sorted(rows.get(given, []), key=lambda r: r["angular_distance"])
        if not found:
            lost.append((given, f"{low} id without a {new} neighbour"))
            counts["without_neighbour"] += 1
            continue
        rivals = [r for r in found if r["angular_distance"] - found[0]["angular_distance"] < NEAR]
        best = _best(rivals)
        if best is None:
            lost.append((given, f"ambiguous_id: {len(rivals)} {new} neighbours"))
            counts["ambiguous"] += 1
            continue
        if best[two] in kept:
            lost.append((given, f"ambiguous_id: another {old} id has the same {new} neighbour"))
            counts["merged"] += 1
            continue
        counts["split"] += len(found) > 1
        kept[best[two]] = (given, best, len(found))
    order = sorted(kept)
    counts["mapped"] = len(order)
    columns = {
        "source_id": pa.array(order, pa.int64()),
        one: pa.array([kept[i][0] for i in order], pa.int64()),
        f"{low}_match_distance_mas": pa.array(
            [float(kept[i][1]["angular_distance"]) for i in order], pa.float64()
        ),
        f"{low}_match_dmag": pa.array(
            [kept[i][1]["magnitude_difference"] for i in order], pa.float64()
        ),
        f"{low}_n_candidates": pa.array([kept[i][2] for i in order], pa.int64()),
    }
    return Mapped(pa.table(columns), lost, counts)


def _best(rivals: list[Json]) -> Json | None:
    """The neighbour that is meant of several near ones; None if that is unclear."""
    if len(rivals) == 1:
        return rivals[0]
    steps = [r["magnitude_difference"] for r in rivals]
    if None in steps or len({abs(s) for s in steps}) < len(steps):
        return None
    return min(rivals, key=lambda r: abs(r["magnitude_difference"]))
