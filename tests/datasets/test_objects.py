"""Light curves as they are drawn: the axis of time, the phase, what a star's curve folds on."""

import numpy as np
import pytest

from mmclip.datasets.objects import Portrait, dips, folded, time_axis, with_phases


@pytest.mark.parametrize(
    ("first", "system", "shown", "label"),
    [
        (2458000.5, "", 8000.5, "JD − 2450000 [d]"),
        (2458000.5, "HJD", 8000.5, "HJD − 2450000 [d]"),
        (2456897.5, "TCB", 6897.5, "BJD (TCB) − 2450000 [d]"),
        (58000.0, "", 58000.0, "MJD [d]"),
        (58000.0, "UTC", 58000.0, "MJD (UTC) [d]"),
        (1700.0, "", 1700.0, "time [d]"),
    ],
)
def test_an_axis_of_time_names_its_system(first, system, shown, label):
    time, said = time_axis(first + np.arange(3.0), system)
    assert (time[0], said) == (shown, label)


def curve(period, phase, eclipse, source_id=1):
    """Magnitudes with one eclipse (or one brightening) of a tenth of the period at a phase."""
    time = np.sort(np.random.default_rng(3).uniform(0, 300, 250))
    inside = np.abs((time / period - phase + 0.5) % 1 - 0.5) < 0.05
    y = 14 + np.where(inside, 0.8 if eclipse else -0.8, 0.0)
    return Portrait(source_id, "photometry", "light curve", time, y, None, "", "", inverted=True)


@pytest.mark.parametrize("eclipse", [True, False])
def test_phase_0_is_in_the_middle_of_an_eclipse_or_of_a_brightening(eclipse):
    made = curve(3.7, 0.31, eclipse)
    assert dips(made) is eclipse
    turned = folded(made, 3.7, faint=eclipse)
    unusual = np.abs(turned.y - 14) > 0.4
    away = np.abs((turned.x[unusual] + 0.5) % 1 - 0.5)
    assert away.max() < 0.1  # half the width, and a series of four harmonics is no box
    assert "P = 3.7 d" in turned.xlabel


def test_noise_that_grows_towards_faint_makes_no_eclipse():
    """A star briefly brighter by 0.7 mag; errors of 0.05 mag there and of 0.8 mag else."""
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 300, 400))
    bright = np.exp(-0.5 * ((time / 0.6 % 1 - 0.5) / 0.12) ** 2)
    y = 18 - 0.7 * bright + (0.8 - 0.75 * bright) * np.abs(rng.normal(size=400))
    made = Portrait(1, "photometry", "light curve", time, y, None, "", "", inverted=True)
    assert dips(made)
    assert not dips(made, 0.6)


def test_stars_without_a_period_stay_in_order_of_time():
    shown = with_phases([curve(3.7, 0.3, True, 1), curve(2.0, 0.1, True, 2)], {1: 3.7})
    assert [c.kind for c in shown] == ["folded light curve", "light curve"]


def test_a_single_point_can_be_folded():
    one = Portrait(1, "v", "light curve", np.array([5.0]), np.array([12.0]), None, "", "", True)
    assert folded(one, 2.0).x.tolist() == [0.0, 1.0]
