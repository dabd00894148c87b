"""Cross-match and HEALPix cells, against brute force, geometry and Gaia's own ids."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip import sky
from mmclip.datasets import crossmatch
from mmclip.errors import UsageError
from tests.shared import shared

ARCSEC = 1 / 3600


def brute(left, right, radius):
    """Mutual nearest pairs by every distance, with the haversine formula."""
    (a1, d1), (a2, d2) = (tuple(np.radians(c) for c in x) for x in (left, right))
    half = (
        np.sin((d1[:, None] - d2) / 2) ** 2
        + np.cos(d1)[:, None] * np.cos(d2) * np.sin((a1[:, None] - a2) / 2) ** 2
    )
    distance = 2 * np.degrees(np.arcsin(np.sqrt(half))) * 3600
    pairs = []
    for i in range(len(a1)):
        j = int(distance[i].argmin())
        if distance[i, j] <= radius and distance[:, j].argmin() == i:
            pairs.append((i, j))
    return pairs


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([-89.9995, -30, 0, 45, 89.9999]))
def test_matches_are_those_of_brute_force(seed, dec):
    rng = np.random.default_rng(seed)
    width = 4 * ARCSEC / max(np.cos(np.radians(dec)), 1e-3)
    left = (
        np.mod(rng.uniform(-width, width, 40), 360),
        np.clip(dec + rng.uniform(-4, 4, 40) * ARCSEC, -90, 90),
    )
    right = (
        np.mod(rng.uniform(-width, width, 30), 360),
        np.clip(dec + rng.uniform(-4, 4, 30) * ARCSEC, -90, 90),
    )
    found = crossmatch.nearest(left, right, 1.0)
    assert list(zip(found.left, found.right, strict=True)) == brute(left, right, 1.0)
    assert len(set(found.right)) == len(found.right)


def test_the_roles_can_be_exchanged():
    rng = np.random.default_rng(1)
    left, right = ((rng.uniform(0, 0.01, n), rng.uniform(0, 0.01, n)) for n in (80, 60))
    one, two = crossmatch.nearest(left, right, 3.0), crossmatch.nearest(right, left, 3.0)
    assert set(zip(one.left, one.right, strict=True)) == set(zip(two.right, two.left, strict=True))


def test_a_pair_across_a_cell_border_and_across_zero_hours_is_kept():
    left = (np.array([359.99995]), np.array([0.00005]))
    right = (np.array([0.00005]), np.array([-0.00005]))
    cells = [sky.cell(4, *c)[0] for c in (left, right)]
    assert cells[0] != cells[1]  # the published matcher drops this pair
    found = crossmatch.nearest(left, right, 1.0)
    assert len(found.left) == 1
    assert found.separation[0] == pytest.approx(3600 * np.hypot(1e-4, 1e-4), rel=1e-6)


def test_losses_are_counted():
    left = (np.array([10.0, 10 + 0.3 * ARCSEC, 50.0, np.nan]), np.zeros(4))
    right = (np.array([10.0, 90.0]), np.zeros(2))
    found = crossmatch.nearest(left, right, 1.0)
    assert found.counts == {
        "matched": 1,
        "left without neighbour": 1,
        "left whose neighbour prefers another": 1,
        "left without position": 1,
        "right unmatched": 1,
        "ambiguous": 0,
    }


def test_a_second_neighbour_is_called_ambiguous():
    left = (np.array([10.0]), np.array([0.0]))
    right = (np.array([10.0, 10 + 0.5 * ARCSEC]), np.zeros(2))
    assert crossmatch.nearest(left, right, 1.0).counts["ambiguous"] == 1


def test_an_empty_catalogue_matches_nothing():
    empty = (np.array([]), np.array([]))
    found = crossmatch.nearest((np.array([1.0]), np.array([1.0])), empty)
    assert found.counts["left without neighbour"] == 1


def test_positions_rounded_to_float32_are_refused_for_a_small_radius():
    exact = (np.array([300.0]), np.array([1.0]))
    rounded = (exact[0].astype("f4"), exact[1].astype("f4"))
    with pytest.raises(UsageError, match="float32"):
        crossmatch.nearest(exact, rounded, 1.0)
    assert len(crossmatch.nearest(exact, rounded, 2.0).left) == 1


def test_names_that_both_have_are_prefixed_and_nothing_is_lost():
    left = pa.table({"id": [1, 2], "z": [0.1, 0.2]})
    right = pa.table({"id": [7], "z": [0.3], "mag": [12.0]})
    match = crossmatch.Match(np.array([1]), np.array([0]), np.array([0.5]), {})
    joined = crossmatch.join(left, right, match, ("desi", "gaia"))
    assert joined.to_pylist() == [
        {"desi_id": 2, "desi_z": 0.2, "gaia_id": 7, "gaia_z": 0.3, "mag": 12.0,
         "separation_arcsec": 0.5}
    ]  # fmt: skip


def test_proper_motion_of_barnards_star():
    # Gaia DR3 4472832130942575872: -801.551 and 10362.394 mas / yr, epoch 2016.0
    ra, dec = np.array([269.44850252543836]), np.array([4.739420051112412])
    pmra, pmdec = np.array([-801.551]), np.array([10362.394])
    a, d = crossmatch.propagate(ra, dec, pmra, pmdec, -16.0)
    # Hipparcos-2 places it at J2000.0 at 17h57m48.4997s +04d41m36.111s
    assert a[0] == pytest.approx(15 * (17 + 57 / 60 + 48.4997 / 3600), abs=0.2 * ARCSEC)
    assert d[0] == pytest.approx(4 + 41 / 60 + 36.111 / 3600, abs=0.2 * ARCSEC)


def test_no_motion_moves_nothing_and_unknown_motion_counts_as_none():
    ra, dec = np.array([10.0, 359.0]), np.array([89.0, -45.0])
    a, d = crossmatch.propagate(ra, dec, np.array([0.0, np.nan]), np.array([0.0, np.nan]), 100.0)
    np.testing.assert_allclose(a, ra, atol=1e-10)
    np.testing.assert_allclose(d, dec, atol=1e-10)


def test_real_positions_of_two_surveys_match_as_their_catalogue_says():
    table = pq.read_table(shared("variables", "asassn_gaia", "asassn_gaia.parquet"))
    c = {n: table[n].to_numpy() for n in table.column_names if n.endswith(("_deg", "_arcsec"))}
    found = crossmatch.nearest(
        (c["asassn_ra_deg"], c["asassn_dec_deg"]), (c["gaia_ra_deg"], c["gaia_dec_deg"]), 5.0
    )
    assert (found.left == found.right).mean() > 0.99
    same = found.left == found.right
    stated = c["separation_arcsec"][found.left[same]]
    np.testing.assert_allclose(found.separation[same], stated, atol=0.01)


# HEALPix


@pytest.mark.parametrize("order", [0, 4, 8])
def test_cells_are_those_in_gaias_ids(order):
    table = pq.read_table(shared("variables", "asassn_gaia", "gaia_dr3_variables_20k.parquet"))
    ids, ra, dec = (table[n].to_numpy() for n in ("source_id", "ra_deg", "dec_deg"))
    inside = sky.cell(order, ra, dec) == ids >> (35 + 2 * (12 - order))
    assert inside.mean() > 0.999  # ids were given from an early position


@pytest.mark.parametrize("order", [0, 1, 5, 12, 29])
def test_a_cell_lies_in_the_cell_above_it(order):
    rng = np.random.default_rng(order)
    ra, dec = rng.uniform(0, 360, 500), np.degrees(np.arcsin(rng.uniform(-1, 1, 500)))
    fine = sky.cell(order, ra, dec)
    assert fine.min() >= 0
    assert fine.max() < 12 * 4**order
    np.testing.assert_array_equal(fine >> (2 * order), sky.cell(0, ra, dec))


def test_cells_have_equal_areas():
    rng = np.random.default_rng(0)
    ra, dec = rng.uniform(0, 360, 400_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 400_000)))
    counts = np.bincount(sky.cell(2, ra, dec), minlength=192)
    expected = 400_000 / 192
    assert len(counts) == 192
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)


def test_the_poles_and_unknown_positions():
    assert sky.cell(0, [45.0, 45.0], [90.0, -90.0]).tolist() == [0, 8]
    assert sky.cell(3, [np.nan, 0.0], [0.0, np.nan]).tolist() == [-1, -1]
