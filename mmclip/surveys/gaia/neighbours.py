"""Ids of Gaia DR2 in DR3, through the archive's own table of neighbours."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.surveys.client import tap
from mmclip.surveys.client.each import blocks
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import settings as _settings

DR2_NEAR = 100.0  # mas from the nearest, within which candidates compete by magnitude
NEIGHBOURS = (
    "SELECT u.dr2_source_id, n.dr3_source_id, n.angular_distance, n.magnitude_difference\n"
    "FROM tap_upload.ids AS u\n"
    "JOIN gaiadr3.dr2_neighbourhood AS n ON n.dr2_source_id = u.dr2_source_id"
)
DR2_RULE = (
    "nearest in dr2_neighbourhood; if others lie within 100 mas of it, the one of smallest "
    "magnitude difference; without one, ambiguous"
)


def from_dr2(client: Client, dr2_ids: tuple[int, ...]) -> tuple[pa.Table, list[tuple[int, str]]]:
    """DR3 ids of DR2 ids, by `DR2_RULE`.

    Returns:
        A table source_id, dr2_source_id, dr2_match_distance_mas, dr2_match_dmag,
        dr2_n_candidates, one row a DR3 id; and a reason for each DR2 id without one.
    """
    service = _settings.of(client).tap
    asked = np.unique(np.array(dr2_ids, np.int64))
    given = [
        tap.run(client, service, NEIGHBOURS, ("dr2_source_id", chunk))
        for chunk in blocks(asked, client.settings.tap_chunk)
    ]
    return choose_dr2(asked, pa.concat_tables([g for g in given if g.num_rows] or given[:1]))


def choose_dr2(asked: NDArray[np.int64], near: pa.Table) -> tuple[pa.Table, list[tuple[int, str]]]:
    """Apply `DR2_RULE` to rows of dr2_neighbourhood."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for row in near.to_pylist():
        rows.setdefault(row["dr2_source_id"], []).append(row)
    lost: list[tuple[int, str]] = []
    kept: dict[int, tuple[int, dict[str, Any], int]] = {}
    for two in asked.tolist():
        found = sorted(rows.get(two, []), key=lambda r: r["angular_distance"])
        if not found:
            lost.append((two, "dr2 id without a DR3 neighbour"))
            continue
        nearest_ = found[0]["angular_distance"]
        rivals = [r for r in found if r["angular_distance"] - nearest_ < DR2_NEAR]
        sizes = [r["magnitude_difference"] for r in rivals]
        if len(rivals) > 1 and (None in sizes or len({abs(s) for s in sizes}) < len(sizes)):
            lost.append((two, f"ambiguous_id: {len(rivals)} DR3 neighbours"))
            continue
        best = rivals[0] if len(rivals) == 1 else min(
            rivals, key=lambda r: abs(r["magnitude_difference"])
        )  # fmt: skip
        if best["dr3_source_id"] in kept:
            lost.append((two, "ambiguous_id: another DR2 id has the same DR3 neighbour"))
            continue
        kept[best["dr3_source_id"]] = (two, best, len(found))
    order = sorted(kept)
    return pa.table(
        {
            "source_id": pa.array(order, pa.int64()),
            "dr2_source_id": pa.array([kept[i][0] for i in order], pa.int64()),
            "dr2_match_distance_mas": [float(kept[i][1]["angular_distance"]) for i in order],
            "dr2_match_dmag": pa.array(
                [kept[i][1]["magnitude_difference"] for i in order], pa.float64()
            ),
            "dr2_n_candidates": pa.array([kept[i][2] for i in order], pa.int64()),
        }
    ), lost
