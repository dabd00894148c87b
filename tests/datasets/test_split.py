"""The split: a star lies on one side of it, under whatever id and in whatever survey it comes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmclip import sky
from mmclip.datasets import split
from mmclip.ids import local_id


def stars(count, seed, inner=False):
    """Positions uniform on the sky; `inner` puts them all within 2 arcsec of the edge of a cell."""
    rng = np.random.default_rng(seed)
    ra, dec = rng.uniform(0, 360, count), np.degrees(np.arcsin(rng.uniform(-1, 1, count)))
    if not inner:
        return ra, dec
    # Walk east until the cell changes, then bisect: the edge lies between the two.
    low, high = ra.copy(), ra + 0.5
    there = split.cells_at(ra, dec)
    for _ in range(40):
        middle = (low + high) / 2
        before = split.cells_at(middle % 360, dec) == there
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    return low % 360, dec


def gaia_ids(ra, dec):
    """Ids that begin with the HEALPix pixel of level 12, as Gaia's do."""
    return (sky.cell(12, ra, dec) << 35) + 4096 + np.arange(len(ra))


def own_ids(count, survey="css"):
    return np.array([local_id(survey, str(i)) for i in range(count)])


@pytest.mark.parametrize("edge", [False, True])
def test_a_star_under_a_gaia_id_and_under_its_own_lies_on_one_side(edge):
    count = 1000
    ra, dec = stars(count, 3, edge)
    # A second survey sees it half an arcsec to the east: over the edge, where it lies on one.
    seen = ra + 0.5 / 3600 / np.maximum(np.cos(np.radians(dec)), 0.1)
    ids = np.concatenate([gaia_ids(ra, dec), own_ids(count)])
    both = np.concatenate([ra, seen]), np.concatenate([dec, dec])
    parts = split.codes(split.places(ids, *both))
    np.testing.assert_array_equal(parts[:count], parts[count:])
    np.testing.assert_array_equal(parts[:count], split.codes(split.cells(ids[:count])))


def test_a_star_in_two_surveys_of_their_own_ids_lies_on_one_side():
    ra, dec = stars(1000, 4, True)
    seen = ra + 1.0 / 3600 / np.maximum(np.cos(np.radians(dec)), 0.1)
    ids = np.concatenate([own_ids(1000, "css"), own_ids(1000, "ztf")])
    parts = split.codes(split.places(ids, np.concatenate([ra, seen]), np.concatenate([dec, dec])))
    np.testing.assert_array_equal(parts[:1000], parts[1000:])


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_rows_does_not_matter(random):
    ra, dec = stars(60, 5, True)
    ids = np.concatenate([gaia_ids(ra, dec)[:30], own_ids(60)])
    ra, dec = np.concatenate([ra[:30], ra + 1e-4]), np.concatenate([dec[:30], dec])
    order = np.array(random.sample(range(90), 90))
    np.testing.assert_array_equal(
        split.places(ids[order], ra[order], dec[order]), split.places(ids, ra, dec)[order]
    )


def test_labels_drawn_at_random_cannot_be_guessed_from_the_other_side():
    """Each star twice, under two ids, with a random class: its twin would give it away."""
    count, rng = 2000, np.random.default_rng(8)
    ra, dec = stars(count, 6)
    ids = np.concatenate([gaia_ids(ra, dec), own_ids(count)])
    ra, dec, kind = np.tile(ra, 2), np.tile(dec, 2), np.tile(rng.integers(0, 4, count), 2)
    train = split.codes(split.places(ids, ra, dec)) == split.SPLITS.index("train")
    known = {(a, d): k for a, d, k in zip(ra[train], dec[train], kind[train], strict=True)}
    tested = [(a, d) for a, d in zip(ra[~train], dec[~train], strict=True)]
    assert not [star for star in tested if star in known]
