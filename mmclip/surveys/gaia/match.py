"""Other catalogues against Gaia: which release their ids are of, and matching by position."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.ids import rows_of
from mmclip.sky import propagate, separation
from mmclip.surveys.client import tap
from mmclip.surveys.client.each import blocks
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.neighbours import NEIGHBOURS

Reals = NDArray[np.float64]
BY_ID = (
    "SELECT g.source_id, g.ra, g.dec, g.pmra, g.pmdec\nFROM tap_upload.ids AS u\n"
    "JOIN gaiadr3.gaia_source AS g ON g.source_id = u.source_id"
)
BY_POSITION = (
    "SELECT u.row_id, g.source_id, g.ra, g.dec, g.pmra, g.pmdec, g.phot_g_mean_mag\n"
    "FROM tap_upload.ids AS u\nJOIN gaiadr3.gaia_source AS g\n"
    "ON 1 = CONTAINS(POINT('ICRS', g.ra, g.dec), CIRCLE('ICRS', u.ra, u.dec, {radius!r}))"
)
TESTED, NEAR = 2000, 2.0  # ids of a release test; arcsec
FOUND = 0.99  # of the ids that must be in DR3
REACH, MATCH = 15.0, 1.5  # arcsec: of the search (fast stars), and after proper motion


def positions(client: Client, ids: NDArray[np.int64]) -> list[pa.Table]:
    """Rows of gaia_source (source_id, ra, dec, pmra, pmdec), in tables of a query's size."""
    service = _settings.of(client).tap
    parts = blocks(ids, client.settings.tap_chunk)
    return [tap.run(client, service, BY_ID, ("source_id", part)) for part in parts]


@dataclass(frozen=True)
class ReleaseTest:
    """What a test of an id column found.

    Attributes:
        tested: Ids that were asked for.
        in_dr3_at_the_position: Fraction of them within 2 arcsec of the catalogue's position.
        renamed_since_dr2: Ids of DR2 whose star has another number in DR3.
        release: dr3 or dr2.
    """

    tested: int
    in_dr3_at_the_position: float
    renamed_since_dr2: int
    release: str


def release_of(
    client: Client, ids: NDArray[np.int64], ra: Reals, dec: Reals, epoch: float = 2015.0
) -> ReleaseTest:
    """Whether a column holds ids of Gaia DR3 or DR2, from up to 2000 of its rows.

    `release` is dr3 if at least 99 % of the ids are in gaia_source near the catalogue's position
    and no id is rather one of DR2 whose star has another number in DR3; else dr2.
    """
    known = np.flatnonzero(ids > 0)
    rows = known[np.linspace(0, len(known) - 1, min(TESTED, len(known))).astype(int)]
    asked, first = np.unique(ids[rows], return_index=True)
    ra, dec = ra[rows][first], dec[rows][first]
    service = _settings.of(client).tap
    three = tap.run(client, service, BY_ID, ("source_id", asked))
    row = rows_of(three["source_id"].to_numpy(), asked)
    there = row >= 0
    held = {n: _numbers(three[n]) for n in three.column_names[1:]}
    moved = propagate(held["ra"], held["dec"], held["pmra"], held["pmdec"], epoch - 2016.0)
    away = separation(ra[there], dec[there], moved[0][row[there]], moved[1][row[there]])
    near, in_dr3 = int((away < NEAR).sum()), set(three["source_id"].to_pylist())
    two = tap.run(client, service, NEIGHBOURS, ("dr2_source_id", asked))
    changed = 0
    for old, new, _ in _nearest(two):
        changed += old != new and old not in in_dr3
    share = near / max(len(asked), 1)
    release = "dr3" if share >= FOUND and not changed else "dr2"
    return ReleaseTest(len(asked), round(share, 4), changed, release)


def _numbers(column: pa.ChunkedArray) -> Reals:
    return np.asarray(column.cast(pa.float64()).to_numpy(), np.float64)


def _nearest(near: pa.Table) -> list[tuple[int, int, float]]:
    kept: dict[int, tuple[int, int, float]] = {}
    for row in near.to_pylist():
        old, new, far = row["dr2_source_id"], row["dr3_source_id"], row["angular_distance"]
        if old not in kept or far < kept[old][2]:
            kept[old] = (old, new, far)
    return list(kept.values())


def by_position(
    client: Client, ra: Reals, dec: Reals, epoch: Reals
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Gaia DR3 ids by position: every star moved to the epoch of the observation, the nearest
    within 1.5 arcsec taken.

    Returns:
        source_id (0 without a match), distance in arcsec, number of stars within 1.5 arcsec.
    """
    found = np.zeros(len(ra), np.int64)
    distance = np.full(len(ra), np.nan)
    rivals = np.zeros(len(ra), np.int64)
    query = BY_POSITION.format(radius=REACH / 3600)
    size, service = client.settings.tap_chunk, _settings.of(client).tap
    for start in range(0, len(ra), size):
        rows = np.arange(start, min(start + size, len(ra)))
        upload = {"row_id": rows, "ra": ra[rows].astype(float), "dec": dec[rows].astype(float)}
        answer = tap.run(client, service, query, upload)
        at = answer["row_id"].to_numpy()
        held = {n: _numbers(answer[n]) for n in ("ra", "dec", "pmra", "pmdec")}
        years = epoch[at] - 2016.0
        moved = propagate(held["ra"], held["dec"], held["pmra"], held["pmdec"], years)
        far = separation(ra[at], dec[at], *moved)
        for i, row in enumerate(at.tolist()):
            if far[i] > MATCH:
                continue
            rivals[row] += 1
            if not far[i] >= distance[row]:
                found[row], distance[row] = answer["source_id"][i].as_py(), far[i]
    return found, distance, rivals
