"""Folded views: curves of known shape, units, bands, periods; measures by definition."""

import numpy as np
import pytest
from scipy.stats import skew

from mmclip.arrays import lists
from mmclip.errors import UsageError
from mmclip.modalities import curves, photometry_features, photometry_folded
from mmclip.modalities.registry import modality
from mmclip.modalities.settings import configured

FOLDED, FEATURES = photometry_folded.MODALITY, photometry_features.MODALITY


def binary(period, first=0.5, second=0.3, number=600, seed=3, noise=0.002):
    """An eclipsing binary: two Gaussian eclipses of width 0.03 at phases 0 and 0.5, in mag."""
    generator = np.random.default_rng(seed)
    time = np.sort(generator.uniform(0, 400, number)) + 50_000
    phase = (time / period) % 1

    def dip(at):
        away = np.abs((phase - at + 0.5) % 1 - 0.5)
        return np.exp(-0.5 * (away / 0.03) ** 2)

    magnitude = 14 + first * dip(0.25) + second * dip(0.75)
    return time, magnitude + generator.normal(0, noise, number), np.full(number, noise)


def columns(*curves, **scalars):
    time, magnitude, error = (lists(list(c)) for c in zip(*curves))
    return {"time": time, "magnitude": magnitude, "error": error, **scalars}


def channel(made, name, of=FOLDED):
    names = photometry_folded.names(of.settings)
    return made.values.reshape(-1, of.settings.bins, len(names))[:, :, names.index(name)]


def measure(made, name, of=FEATURES):
    return made.values[:, of.labels().index(name)]


def test_the_deeper_eclipse_is_at_phase_zero_and_the_other_half_a_turn_later():
    # At twice the given period both eclipses are seen; at the period itself they fall together.
    time, magnitude, error = binary(2.6)
    made = FOLDED.prepare(columns((time, magnitude, error), period=np.array([1.3])))
    twice = channel(made, "brightness 2P")[0]
    assert min(np.nanargmin(twice), 63 - np.nanargmin(twice)) <= 1
    assert abs(int(np.nanargmin(twice[20:44])) + 20 - 32) <= 1
    deep, shallow = -np.nanmin(twice), -np.nanmin(twice[20:44])
    assert shallow / deep == pytest.approx(0.3 / 0.5, abs=0.12)
    once = channel(made, "brightness P")[0]
    assert np.nanmin(once[20:44]) > 0.3 * np.nanmin(once)
    assert np.expm1(channel(made, "log count 2P")).sum() == pytest.approx(600, rel=1e-5)


def test_the_mean_of_a_bin_has_the_error_of_its_points():
    time, magnitude, error = binary(2.6, 0.5, 0.5, noise=0.01, number=4000)
    made = FOLDED.prepare(columns((time, magnitude, error), period=np.array([2.6])))
    low, high = np.percentile(magnitude, [5, 95])
    count = np.expm1(channel(made, "log count P")[0])
    flat = slice(10, 20)  # out of eclipse
    expected = 0.01 / np.sqrt(count[flat]) / (high - low)
    np.testing.assert_allclose(channel(made, "error P")[0][flat], expected, rtol=0.3)


def test_phase_zero_can_be_where_the_star_is_brightest():
    bright = configured(FOLDED, {"zero": "brightest"})
    time = np.linspace(0, 30, 500)
    magnitude = 10 + 0.3 * np.cos(2 * np.pi * (time / 0.7 - 0.2))
    made = bright.prepare(columns((time, magnitude, 0 * time + 0.01), period=np.array([0.7])))
    assert int(np.nanargmax(channel(made, "brightness P")[0])) in (0, 63)
    # A cosine of full range 2 has a 5-95 % range of 2 cos(pi / 20).
    top = np.nanmax(channel(made, "brightness P"))
    assert top == pytest.approx(1 / (2 * np.cos(np.pi / 20)), abs=0.02)


def test_a_star_does_not_change_with_its_brightness_or_the_start_of_the_clock():
    time, magnitude, error = binary(2.6)
    one = FOLDED.prepare(columns((time, magnitude, error), period=np.array([2.6])))
    other = FOLDED.prepare(columns((time + 13.7, magnitude + 3, error), period=np.array([2.6])))
    np.testing.assert_allclose(one.values, other.values, atol=2e-3)
    a, b = (FEATURES.prepare(columns(c, period=np.array([2.6])))
            for c in ((time, magnitude, error), (time + 13.7, magnitude + 3, error)))  # fmt: skip
    assert measure(b, "mean magnitude") - measure(a, "mean magnitude") == pytest.approx(3, abs=1e-4)
    for name in ("skewness", "amplitude 2P 4", "width 2P 0.5", "gain 2P", "Stetson K"):
        assert measure(a, name) == pytest.approx(measure(b, name), abs=2e-3)


def test_a_flux_gives_the_curve_of_its_magnitudes():
    time, magnitude, error = binary(2.6, 0.3, 0.1)
    flux = 10 ** (-0.4 * (magnitude - 14))
    spread = flux * 0.4 * np.log(10) * error
    given = {"time": lists([time]), "flux": lists([flux]), "error": lists([spread]),
             "period": np.array([2.6])}  # fmt: skip
    made = FOLDED.prepare(given)
    direct = FOLDED.prepare(columns((time, magnitude, error), period=np.array([2.6])))
    np.testing.assert_allclose(made.values, direct.values, atol=2e-3)
    assert np.isnan(measure(FEATURES.prepare(given), "mean magnitude")).all()
    assert measure(FEATURES.prepare(given), "mean error") == pytest.approx(0.01, abs=1e-3)


def test_a_negative_flux_is_a_point_like_another():
    generator = np.random.default_rng(1)
    time = np.sort(generator.uniform(0, 100, 200))
    flux = generator.normal(0, 1, 200) + np.sin(2 * np.pi * time / 3)
    given = {"time": lists([time]), "flux": lists([flux]), "error": lists([np.ones(200)]),
             "period": np.array([3.0])}  # fmt: skip
    assert measure(FEATURES.prepare(given), "points") == 200


def test_measures_are_those_of_their_definitions():
    generator = np.random.default_rng(5)
    time = np.sort(generator.uniform(0, 200, 300))
    x = 2 * np.pi * time / 0.61
    # R21 = 0.4 and phi21 = 1.1 of cosines.
    magnitude = 12 + 0.5 * np.cos(x - 0.4) + 0.2 * np.cos(2 * (x - 0.4) + 1.1)
    made = FEATURES.prepare(columns((time, magnitude, 0 * time + 0.01), period=np.array([0.61])))
    assert measure(made, "log10 period") == pytest.approx(np.log10(0.61), abs=1e-6)
    assert measure(made, "amplitude P 2") == pytest.approx(0.4, abs=0.01)
    assert measure(made, "cos phase P 2") == pytest.approx(np.cos(1.1), abs=0.02)
    assert measure(made, "sin phase P 2") == pytest.approx(np.sin(1.1), abs=0.02)
    assert measure(made, "skewness") == pytest.approx(skew(magnitude), abs=1e-4)
    low, high = np.percentile(magnitude, [5, 95])
    assert measure(made, "amplitude") == pytest.approx(high - low, abs=2e-3)
    assert measure(made, "left by P") < 1e-3 < measure(made, "left by sine P")


def test_without_a_period_the_folded_view_is_rejected_and_the_measures_of_time_remain():
    time, magnitude, error = binary(2.6)
    given = columns((time, magnitude, error))
    folded = configured(FOLDED, {"periods": "catalogue"})
    assert folded.prepare(given).reasons.tolist() == ["no period"]
    features = configured(FEATURES, {"periods": "catalogue"})
    made = features.prepare(given)
    assert made.reasons.tolist() == [""]
    assert np.isnan(measure(made, "log10 period")).all()
    assert np.isfinite(measure(made, "skewness")).all()


def test_a_period_is_found_over_bands_where_each_alone_has_too_few_points():
    generator = np.random.default_rng(2)
    time = np.sort(generator.uniform(0, 60, 48))
    band = np.arange(48) % 4
    value = 15 + band + np.sin(2 * np.pi * time / 0.7321) + generator.normal(0, 0.1, 48)
    period, power = curves.period_over_bands(time, value, np.full(48, 0.1), band, 0.2)
    assert period == pytest.approx(0.7321, rel=2e-3)
    assert 0.8 < power <= 1


def test_each_band_has_its_measures_and_a_colour_stands_between_them():
    time, magnitude, error = binary(2.6)
    bands = np.array(["g", "V"] * 300, object)
    given = columns((time, magnitude + np.where(bands == "g", 0.7, 0), error),
                    period=np.array([1.3]))  # fmt: skip
    given["band"] = lists([bands])
    features = configured(FEATURES, {"bands": ("g", "V")})
    made = features.prepare(given)
    assert made.values.shape[1] == len(features.labels())
    assert measure(made, "g - V", features) == pytest.approx(0.7, abs=0.01)
    assert measure(made, "V points", features) == 300
    folded = configured(FOLDED, {"bands": ("g", "V")})
    both = folded.prepare(given)
    deep = [channel(both, f"{b} brightness 2P", folded)[0] for b in ("g", "V")]
    assert all(min(np.nanargmin(d), 63 - np.nanargmin(d)) <= 2 for d in deep)
    with pytest.raises(UsageError, match="name no band"):
        folded.prepare(columns((time, magnitude, error)))


def test_short_and_constant_curves_are_rejected_with_a_reason():
    time = np.arange(50.0)
    flat = (time, np.full(50, 12.0), np.full(50, 0.01))
    short = (time[:3], time[:3], np.ones(3))
    made = FOLDED.prepare(columns(flat, short, period=np.array([2.3, 2.3])))
    assert made.reasons.tolist() == ["magnitude does not vary", "fewer than 5 points"]
    assert FEATURES.prepare(columns(short)).reasons.tolist() == ["fewer than 5 points"]


def test_the_library_adds_its_measures():
    package = pytest.importorskip("light_curve", reason="light-curve is not installed")
    library = configured(FEATURES, {"library": True})
    time, magnitude, error = binary(2.6)
    made = library.prepare(columns((time, magnitude, error), period=np.array([2.6])))
    assert made.values.shape[1] == len(library.labels())
    expected = package.EtaE()(time, magnitude, error)[0]
    assert measure(made, "eta_e", library) == pytest.approx(expected, rel=1e-5)


def test_they_are_found_by_name_and_read_raw_light_curves():
    for name, encoder in (("photometry_folded", "folded-cnn"), ("photometry_features", "mlp")):
        found = modality(name)
        assert (found.source, found.encoder) == ("photometry", encoder)
        assert len(found.labels()) == int(np.prod(found.size))


def test_draws_measure_random_parts_of_the_points_the_same_however_curves_are_divided():
    drawn = configured(FEATURES, {"draws": 2})
    stars = [binary(2.6, seed=seed) for seed in (3, 4)]
    both = drawn.prepare(columns(*stars, period=np.array([2.6, 2.6])))
    width = len(FEATURES.labels())
    assert both.values.shape == (2, 3 * width) == (2, len(drawn.labels()))
    whole = FEATURES.prepare(columns(*stars, period=np.array([2.6, 2.6])))
    np.testing.assert_array_equal(both.values[:, :width], whole.values)
    for number, star in enumerate(stars):
        alone = drawn.prepare(columns(star, period=np.array([2.6])))
        np.testing.assert_allclose(both.values[number], alone.values[0], rtol=1e-5, atol=1e-6)
    # Binomial: 85 % of 600 points, deviation 8.7.
    points = np.array([measure(both, f"draw {n} points", drawn) for n in (1, 2)])
    np.testing.assert_allclose(points, 510, atol=4 * 8.7)
    assert (points[0] != points[1]).any()
    assert drawn.anchors is not None
    np.testing.assert_array_equal(drawn.anchors()[width:], np.tile(np.arange(width), 2))
