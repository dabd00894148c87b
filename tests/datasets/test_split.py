"""The split: a star lies on one side of it, under whatever id and in whatever survey it comes."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmclip import sky
from mmclip.datasets import split
from mmclip.ids import local_id
from mmclip.papers.split import parse


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


def twins(count, seed):
    """Each star under a Gaia id and, an arcsec to the north, under a survey's own."""
    ra, dec = stars(count, seed)
    ids = np.concatenate([gaia_ids(ra, dec), own_ids(count)])
    return pa.table(
        {
            "source_id": ids,
            "ra": np.tile(ra, 2),
            "dec": np.concatenate([dec, np.clip(dec + 1 / 3600, -90, 90)]),
            "part": ["test" if i % 3 else "train" for i in range(count)] + [None] * count,
            "feh": [0.1 if i % 4 == 0 else None for i in range(count)] + [None] * count,
        }
    )


@pytest.mark.parametrize("rule", ["cells", "random 80/10/10", "random 90/10", "labelled feh",
                                  "column part"])  # fmt: skip
@pytest.mark.parametrize("held", [False, True])
def test_no_rule_puts_a_star_under_two_ids_on_two_sides(rule, held):
    table = twins(500, 7)
    holdout = table["source_id"].to_numpy()[::7] if held else None
    found = split.divide(table, parse(rule), 42, holdout)
    np.testing.assert_array_equal(found.codes[:500], found.codes[500:])
    assert found.torn == 0
    if rule == "random 80/10/10" and not held:
        # By their hashes: binomial, sigma 0.4^2 x 500 = 9 pairs.
        assert np.bincount(found.codes)[0] == pytest.approx(800, abs=60)


def test_stars_of_one_row_fill_the_shares_that_those_of_several_leave():
    numbers = np.concatenate([np.arange(1000), np.arange(100)])
    found = split.shuffled(numbers, 42, (0.8, 0.1, 0.1))
    np.testing.assert_array_equal(found[:100], found[1000:])
    assert np.bincount(found).tolist() == [880, 110, 110]
    turned = np.random.default_rng(0).permutation(1100)
    np.testing.assert_array_equal(split.shuffled(numbers[turned], 42), found[turned])


def test_a_column_that_puts_one_star_on_two_sides_is_followed_and_told():
    table = twins(20, 9)
    part = ["train", "test"] * 10 + ["train"] * 20
    found = split.divide(table.set_column(3, "part", pa.array(part)), parse("column part"), 42)
    assert [split.SPLITS[c] for c in found.codes] == part
    assert found.torn == 10
    assert "10 stars on several sides of it" in found.title


def test_an_added_row_goes_to_the_side_on_which_its_star_stands():
    table = twins(300, 10)
    stands, added = table.slice(0, 300), table.slice(300)
    sides = split.divide(stands, parse("random 50/20/30"), 1).codes
    stands = stands.append_column("split", pa.array([split.SPLITS[c] for c in sides]))
    alone = split.divide(added, parse("random 50/20/30"), 1).codes
    assert (alone != sides).mean() > 0.3
    np.testing.assert_array_equal(split.follow(alone, added, stands), sides)


def test_of_two_gaia_stars_at_an_edge_the_nearer_one_is_the_star():
    ra, dec = stars(200, 11, inner=True)
    east = 1 / 3600 / np.maximum(np.cos(np.radians(dec)), 0.1)
    # Three arcsec apart across the edge, and each again under an id of its own.
    where = np.concatenate([ra - 1.5 * east, ra + 1.5 * east]), np.tile(dec, 2)
    ids = np.concatenate([gaia_ids(*where), own_ids(400)])
    parts = split.codes(split.places(ids, np.tile(where[0], 2), np.tile(where[1], 2)))
    np.testing.assert_array_equal(parts[:400], parts[400:])
    assert (parts[:200] != parts[200:400]).any()
