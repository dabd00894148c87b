"""Measures of answers: values known from counting, not from running the code."""

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmclip import metrics


@given(st.integers(1, 2000), st.sampled_from(["0.5", "0.07", "0.683", "0.68", "0.9", "0.95"]))
def test_the_conformal_rank_is_that_of_exact_arithmetic(count, coverage):
    rank = math.ceil((count + 1) * Fraction(coverage))
    found = metrics.conformal_quantile(np.arange(1.0, count + 1)[::-1], float(coverage))
    assert found == (rank if rank <= count else math.inf)


def test_sign_patterns_of_thirty_seeds_fit_into_memory_and_agree_with_the_binomial():
    """All thirty differences equal but for noise: only turning none or all reaches the mean."""
    rng = np.random.default_rng(0)
    tracemalloc.start()
    found = metrics.paired((0.1 + 1e-6 * rng.normal(size=30)).tolist(), [0.0] * 30)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20
    assert found["p"] == pytest.approx(1 / 65536)  # the least that so many patterns can say


def test_sixteen_seeds_are_counted_exactly():
    a = np.linspace(1, 2, 16)
    assert metrics.paired(a.tolist(), [0.0] * 16)["p"] == 2 / 2**16


def test_intervals_of_shares_and_means_are_those_of_statsmodels_and_tables():
    # Wilson 1927 for 8 of 10 at 95 %: (0.4902, 0.9433), as R's prop.test without correction gives.
    low, high = metrics.share_interval(0.8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert metrics.share_interval(1.0, 20)[1] == pytest.approx(1.0)
    # t of 4 degrees of freedom at 97.5 %: 2.7764; values of mean 3 and deviation sqrt(2.5).
    low, high = metrics.mean_interval(np.array([1.0, 2, 3, 4, 5]))
    assert high - 3 == pytest.approx(2.7764 * (2.5 / 5) ** 0.5, rel=1e-4)
    assert 3 - low == pytest.approx(high - 3)
    assert np.isnan(metrics.mean_interval(np.array([1.0]))).all()
