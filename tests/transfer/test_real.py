"""The 1462-pixel view on real stars that two instruments observed: MILES and STELIB."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmclip.arrays import Lists
from mmclip.modalities import lrs
from mmclip.modalities.settings import configured
from tests.shared import shared

GRIDS = {"miles": 3540.5 + 0.9 * np.arange(4300), "stelib": 3200.0 + np.arange(6700)}


def library(name):
    """Stars by name: spectrum over its pseudo-continuum, Teff of the catalogue."""
    table = pq.read_table(shared("spectra", "stellar_libraries", f"{name}.parquet")).to_pandas()
    grid = GRIDS[name]
    ends = np.arange(len(table) + 1) * len(grid)
    columns = {"wavelength": Lists(np.tile(grid, len(table)), ends),
               "flux": Lists(np.concatenate(table["flux"].to_list()), ends)}  # fmt: skip
    made = configured(lrs.MODALITY, {"medium": "air"}).prepare(columns)
    return dict(zip(table["star_key"], made.values, strict=True)), table


@pytest.fixture(scope="module")
def libraries():
    return {name: library(name)[0] for name in GRIDS}


def test_real_continua_are_near_one_between_the_lines(libraries):
    levels = np.array([np.nanpercentile(v, 90) for v in libraries["miles"].values()])
    assert np.median(np.abs(levels - 1)) < 0.03


def test_a_star_looks_like_itself_in_the_other_library_more_often_than_raw_spectra_do(libraries):
    pairs = pq.read_table(shared("spectra", "stellar_libraries", "pairs_miles_stelib.parquet"))
    names = pairs["star_key"].to_pylist()
    views = [np.stack([libraries[n][k] for k in names]) for n in ("miles", "stelib")]
    seen = np.isfinite(views[1]).mean(axis=1) > 0.9
    a, b = (np.nan_to_num(v[seen] - 1.0) for v in views)
    unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (a, b)]
    order = np.argsort(-(unit[0] @ unit[1].T), axis=1)
    truth = np.arange(seen.sum())[:, None]
    top1 = (order[:, :1] == truth).mean()
    top5 = (order[:, :5] == truth).any(axis=1).mean()
    # The data's own README: correlation of the raw spectra, 4000-7000 A: 31 % and 58 %.
    assert top1 > 0.31
    assert top5 > 0.58
