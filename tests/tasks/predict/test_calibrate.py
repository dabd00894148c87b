"""Intervals: what they promise, group by group, and under a shift."""

import numpy as np
import pytest

from mmclip.tasks.predict import calibrate
from mmclip.tasks.predict.calibrate import LEVELS


def scattered(count, seed):
    """Predictions whose scatter depends on the value, on S/N and on a second value."""
    rng = np.random.default_rng(seed)
    value, noise, other = rng.normal(size=(3, count))
    sigma = np.exp(0.5 * value - 0.4 * noise + 0.6 * np.abs(other))
    return value, noise, np.stack([noise, value, other], axis=1), sigma * rng.normal(size=count)


@pytest.mark.parametrize("level", [0, 1])
def test_coverage_is_within_three_points_in_every_quartile_of_value_noise_and_another(level):
    value, noise, axes, residual = scattered(8000, 0)
    groups = calibrate.groups(value, noise, np.abs(residual), axes)
    value, noise, axes, residual = scattered(40_000, 1)
    inside = np.abs(residual) <= groups(value, noise, axes)[level]
    for along in axes.T:
        quartile = np.digitize(along, np.quantile(along, [0.25, 0.5, 0.75]))
        for part in range(4):
            assert abs(inside[quartile == part].mean() - LEVELS[level]) < 0.03


def test_no_group_has_fewer_than_a_hundred_stars():
    value, noise, axes, residual = scattered(450, 2)
    groups = calibrate.groups(value, noise, np.abs(residual), axes)
    at = np.stack(groups.of(value, noise))
    assert np.unique(at, axis=1, return_counts=True)[1].min() >= 100


def test_without_signal_to_noise_there_are_groups_of_value_alone():
    value, _, _, residual = scattered(1000, 3)
    unknown = np.full(1000, np.nan)
    axes = np.stack([unknown, value], axis=1)
    groups = calibrate.groups(value, unknown, np.abs(residual), axes)
    inside = np.abs(residual) <= groups(value, unknown, axes)[0]
    assert abs(inside.mean() - LEVELS[0]) < 0.03


def test_equal_weights_widen_nothing_and_a_lone_star_is_not_promised_anything():
    score = np.random.default_rng(0).exponential(size=2000)
    own = np.quantile(score, LEVELS)
    same = calibrate.widening(score, np.ones(2000), np.ones(3), own)
    np.testing.assert_allclose(same, 1.0, atol=0.02)
    alone = calibrate.widening(score, np.full(2000, 0.02), np.full(1, 50.0), own)
    assert np.isinf(alone).all()  # 50 / (40 + 50) of the mass may be anything


def test_weighted_intervals_hold_where_the_noisy_stars_are_asked():
    """Scores are larger at x > 0, where all the asked stars are: equal weights would fail."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=6000)
    score = np.abs(rng.normal(size=6000)) * np.where(x > 0, 3.0, 1.0)
    weight = np.where(x > 0, 50.0, 0.02)
    own = np.quantile(score, LEVELS)
    grown = calibrate.widening(score, weight, np.full(1, 50.0), own)[:, 0] * own
    asked = 3 * np.abs(rng.normal(size=20_000))
    assert (own[0] >= asked).mean() < 0.5
    assert abs((grown[0] >= asked).mean() - LEVELS[0]) < 0.03


def test_one_population_is_not_told_apart_and_two_are():
    rng = np.random.default_rng(2)
    ours, same, other = (rng.normal(size=(800, 5)) for _ in range(3))
    assert not calibrate.shift(ours, same).shifted
    other[:, 0] += 3
    found = calibrate.shift(ours, other)
    assert found.auc > 0.95
    assert np.median(found.odds) > 10 > 0.1 > np.median(found.calibration)


def test_a_part_of_the_training_stars_is_answered_and_another_kind_is_not():
    """A tenth of a mixture is shifted, but weights make up for it; what lies beside it is apart."""
    rng = np.random.default_rng(6)
    ours = rng.normal(size=(3000, 4))
    ours[:300, 0] += 4
    part, beside = rng.normal(size=(2, 400, 4))
    part[:, 0] += 4
    beside[:, 0] -= 4
    found = calibrate.shift(ours, part)
    assert found.shifted
    assert not found.apart
    assert calibrate.shift(ours, beside).apart


def test_a_star_is_no_neighbour_of_itself():
    x = np.random.default_rng(3).normal(size=(100, 3)).astype(np.float32)
    ids = np.arange(100)
    residual = np.zeros((100, 1))
    residual[7] = 1000.0
    around = calibrate.around(x, ids, residual)
    near = around.near(x[7:8], ids[7:8])
    assert near.scale[0, 0] == pytest.approx(0.0, abs=1e-9)
    assert around.near(x[7:8], np.array([-1])).scale[0, 0] > 1


def test_support_distance_and_scale_are_those_of_the_nearest_references():
    rng = np.random.default_rng(8)
    x, asked = (rng.normal(size=(n, 4)).astype(np.float32) for n in (300, 40))
    residual = rng.normal(size=(300, 2))
    residual[::2, 1] = np.nan
    around = calibrate.around(x, np.arange(300), residual)
    near = around.near(asked, np.full(40, -1))
    apart = np.linalg.norm(asked[:, None].astype(float) - x, axis=2)
    assert (near.support == (apart <= around.radius).sum(axis=1)).all()
    closest = np.sort(apart, axis=1)[:, : calibrate.NEAREST].mean(axis=1)
    np.testing.assert_allclose(near.outside, closest / around.edge, rtol=1e-5)
    for j, known in enumerate((np.arange(300), np.arange(1, 300, 2))):
        local = known[np.argsort(apart[:, known], axis=1)[:, : calibrate.LOCAL]]
        np.testing.assert_allclose(near.scale[:, j], np.abs(residual[local, j]).mean(axis=1))


def test_probabilities_have_the_temperature_of_the_truth():
    """Scores that are log probabilities times 2 want a temperature of 2."""
    rng = np.random.default_rng(4)
    p = rng.dirichlet([1, 1, 1], 20_000)
    truth = (p.cumsum(axis=1) < rng.random((20_000, 1))).sum(axis=1)
    assert calibrate.temperature(2 * np.log(p) / 4, truth) == pytest.approx(0.5, rel=0.15)
