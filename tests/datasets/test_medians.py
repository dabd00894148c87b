"""Medians found digit by digit are those of sorting."""

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mmclip.datasets import medians
from mmclip.datasets.medians import median_and_mad


def cut(values, step):
    """Gives the rows of an array some at a time, from the beginning each time."""
    return lambda: (values[i : i + step] for i in range(0, len(values), step))


def by_sorting(values):
    """NumPy's median and MAD of the finite values of each column, in float64."""
    wanted = []
    for column in values.T.astype(np.float64):
        finite = column[np.isfinite(column)]
        if len(finite) == 0:
            wanted.append((np.nan, np.nan))
            continue
        middle = np.median(finite)
        wanted.append((middle, np.median(np.abs(finite - middle))))
    return np.array(wanted).T


floats = st.floats(width=32, allow_nan=True, allow_infinity=True)
shapes = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)


@settings(max_examples=200, deadline=None)
@example(np.array([[0.0], [1.0], [-np.inf]], np.float32), 1, False)
@given(hnp.arrays(np.float32, shapes, elements=floats), st.integers(1, 4), st.booleans())
def test_medians_are_those_of_sorting_for_any_numbers(values, step, narrow):
    counts = medians.COUNTS
    medians.COUNTS = 0 if narrow else counts  # a byte at a time
    try:
        found = median_and_mad(cut(values, step), values.shape[1])
    finally:
        medians.COUNTS = counts
    np.testing.assert_allclose(found, by_sorting(values), rtol=1e-15)


def test_medians_of_many_stars_with_ties_gaps_and_signs():
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, (20_001, 6)).astype(np.float32)
    values[:, 1] = np.round(values[:, 1])
    values[:, 2] = 7.0
    values[:, 3] = np.nan
    values[rng.random(20_001) < 0.3, 4] = np.nan
    values[:, 5] = values[:, 5] * 1e-30 + 1
    found = median_and_mad(cut(values, 999), 6)
    np.testing.assert_array_equal(found, by_sorting(values))
