"""Expected residuals and uneven intervals, against populations whose distributions are known."""

import numpy as np
import pytest
from scipy.stats import norm

from mmclip.tasks.predict import widths


def test_residuals_that_grow_with_a_feature_are_expected_to():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 2))
    true = np.exp(0.8 * x[:, 0])  # nothing follows from the second feature
    residual = np.stack([true * rng.normal(size=3000), np.full(3000, np.nan)], axis=1)
    made, held = widths.learn(x, residual)
    asked = np.array([[-1.5, 0.0], [0.0, 1.0], [1.5, -1.0]])
    ratio = made(asked)[:, 0] / np.exp(0.8 * asked[:, 0])
    np.testing.assert_allclose(ratio / ratio[1], 1.0, atol=0.2)
    score = np.abs(residual[:, 0]) / held[:, 0]
    low, high = (np.quantile(score[s], 0.6827) for s in (x[:, 0] < 0, x[:, 0] > 0))
    assert high / low == pytest.approx(1.0, abs=0.1)
    assert np.isfinite(made(np.array([[np.nan, 1e9]]))[0, 0])  # unknown, or far outside


def shrunk(count, noise=0.6, seed=0):
    """Labels of deviation 1 and their best predictions, which leave residuals of `noise`."""
    rng = np.random.default_rng(seed)
    predicted = np.sqrt(1 - noise**2) * rng.normal(size=count)
    return predicted, predicted + noise * rng.normal(size=count)


def test_predictions_of_stars_of_a_label_lie_where_the_gaussian_says():
    noise, level = 0.6, 0.6827
    predicted, label = shrunk(200_000, noise)
    made = widths.tails(predicted, label, np.full(len(label), 0.5), [level])
    width = norm.ppf((1 + level) / 2) * noise
    assert made.width[0] * 0.5 == pytest.approx(width, rel=0.01)
    # Given the label y a prediction is normal, of mean (1 - noise^2) y.
    spread = noise * np.sqrt(1 - noise**2)
    inner = slice(2, -2)  # the outermost bins are wide
    for found, sign in ((made.low[0], -1), (made.high[0], 1)):
        expected = (-(noise**2) * made.label + sign * norm.ppf((1 + level) / 2) * spread) / width
        beyond = np.minimum(sign * expected, -0.05) == sign * expected  # limited to one side
        np.testing.assert_allclose(found[inner][~beyond[inner]], expected[inner][~beyond[inner]],
                                   atol=0.06)  # fmt: skip


def test_intervals_hold_better_for_rare_labels_than_even_ones():
    predicted, label = shrunk(20_000)
    asked, truth = shrunk(20_000, seed=1)
    one = np.ones(len(asked))
    down, up = widths.tails(predicted, label, one, [0.6827])(asked, one)[:, 0]
    inside = (truth >= asked - down) & (truth <= asked + up)
    even = np.abs(truth - asked) <= norm.ppf(0.84135) * 0.6
    rare = np.abs(truth) > 1.15  # a quarter of the labels
    assert even[rare].mean() < 0.52  # Gaussian
    assert inside[rare].mean() > even[rare].mean() + 0.06
    assert inside.mean() == pytest.approx(0.68, abs=0.04)


def test_of_few_stars_an_interval_is_even_but_for_their_own_asymmetry():
    predicted, label = shrunk(40)
    made = widths.tails(predicted, label, np.ones(40), [0.6827, 0.95])
    assert made.low.shape == (2, 1)
    assert (made(predicted, np.ones(40)) > 0).all()


def test_residuals_out_of_fold_are_brought_to_those_of_held_out_stars():
    rng = np.random.default_rng(3)
    residual = np.concatenate([1.3 * rng.normal(size=(4000, 1)), rng.normal(size=(4000, 1))])
    made = widths.as_new(residual, np.ones((8000, 1)), np.arange(4000, 8000))
    assert made[:4000].std() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_array_equal(made[4000:], residual[4000:])
    few = widths.as_new(residual[:4005], np.ones((4005, 1)), np.arange(4000, 4005))
    assert few[:4000].std() == pytest.approx(1.3, abs=0.03)  # five stars tell nothing
