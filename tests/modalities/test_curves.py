"""Light curves: statistics by hand and by SciPy, measures by definition, real Catalina stars."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import median_abs_deviation

from mmclip.arrays import Lists, lists
from mmclip.errors import UsageError
from mmclip.modalities import curves as _curves
from mmclip.modalities import photometry
from mmclip.modalities.settings import configured
from tests.shared import shared

NAMES = photometry.names(photometry.CurveSettings())


def under(**values):
    return configured(photometry.MODALITY, values)


def sine(period=0.7, points=300, seed=0, span=900.0, amplitude=0.3, noise=0.01):
    """Flux of a star with a sine of this period, at random times."""
    rng = np.random.default_rng(seed)
    time = np.sort(rng.uniform(0, span, points))
    flux = 1 + amplitude * np.sin(2 * np.pi * time / period) + rng.normal(0, noise, points)
    return time, flux, np.full(points, noise)


def columns(curves, **more):
    time, flux, error = zip(*curves, strict=True)
    return {"time": lists(time), "flux": lists(flux), "error": lists(error), **more}


def laid_out(made, modality=photometry.MODALITY):
    return made.values.reshape(-1, *modality.size)


def test_a_short_curve_is_scaled_as_published_and_padded_with_unknowns():
    time, flux, error = sine(points=120)
    made = photometry.MODALITY.prepare(columns([(time, flux, error)], period=np.array([0.7])))
    assert made.reasons.tolist() == [""]
    got = laid_out(made)[0]
    assert got.shape == (200, 9)
    mad = median_abs_deviation(flux)
    np.testing.assert_allclose(got[:120, 0], (time - time[0]) / (time[-1] - time[0]), atol=1e-6)
    np.testing.assert_allclose(got[:120, 1], (flux - flux.mean()) / mad, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(got[:120, 2], error / mad, rtol=1e-5)
    np.testing.assert_allclose(got[:120, 4], np.log10(0.7), rtol=1e-6)
    np.testing.assert_allclose(got[:120, 7], np.log10(mad), rtol=1e-5)
    np.testing.assert_allclose(got[:120, 8], (time[-1] - time[0]) / 365, rtol=1e-6)
    assert np.isnan(got[120:]).all()
    assert np.isfinite(got[:120]).all()


def test_a_long_curve_is_cropped_in_the_middle_with_statistics_of_the_whole():
    time, flux, error = sine(points=501)
    made = photometry.MODALITY.prepare(columns([(time, flux, error)], period=np.array([0.7])))
    got = laid_out(made)[0]
    start = (501 - 200) // 2
    whole = (flux - flux.mean()) / median_abs_deviation(flux)
    np.testing.assert_allclose(got[:, 1], whole[start : start + 200], rtol=1e-5, atol=1e-5)
    assert got[0, 0] > 0.1
    first = laid_out(under(crop="start").prepare(columns([(time, flux, error)])))[0]
    assert first[0, 0] == 0


@given(st.integers(0, 2**31))
@settings(deadline=None, max_examples=20)
def test_order_of_points_and_repeated_rows_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    time, flux, error = sine(points=int(rng.integers(10, 260)), seed=seed % 1000)
    time[3] = time[4]  # two measurements at one time are both kept
    order = rng.permutation(len(time))
    again = np.concatenate([order, rng.choice(order, 5)])
    given_period = {"period": np.array([0.7])}
    plain = photometry.MODALITY.prepare(columns([(time, flux, error)], **given_period))
    messy = photometry.MODALITY.prepare(
        columns([(time[again], flux[again], error[again])], **given_period)
    )
    np.testing.assert_allclose(
        np.sort(laid_out(messy)[0], axis=0), np.sort(laid_out(plain)[0], axis=0), rtol=1e-5
    )


@given(st.floats(1e-15, 1e15))
@settings(deadline=None, max_examples=20)
def test_the_unit_of_the_flux_changes_its_level_alone(scale):
    time, flux, error = sine(points=80)
    near = laid_out(photometry.MODALITY.prepare(columns([(time, flux, error)])))[0]
    far = laid_out(photometry.MODALITY.prepare(columns([(time, flux * scale, error * scale)])))[0]
    level = NAMES.index("log10 MAD")
    others = [k for k in range(9) if k != level]
    np.testing.assert_allclose(far[:80, others], near[:80, others], rtol=2e-4, atol=1e-5)
    np.testing.assert_allclose(far[:80, level] - near[:80, level], np.log10(scale), atol=1e-4)


def test_magnitudes_are_flux_with_the_bright_side_up():
    time, flux, error = sine(points=150)
    magnitude = 14 - 2.5 * np.log10(flux)
    from_flux = laid_out(photometry.MODALITY.prepare(columns([(time, flux, error)])))[0]
    cols = {"time": lists([time]), "magnitude": lists([magnitude]),
            "error": lists([error / flux * 2.5 / np.log(10)])}  # fmt: skip
    got = laid_out(photometry.MODALITY.prepare(cols))[0]
    np.testing.assert_allclose(got[:150, :4], from_flux[:150, :4], rtol=1e-4, atol=1e-4)
    cols["magnitude"].values[7] = 99.99  # a fill value is no measurement
    assert np.isfinite(laid_out(photometry.MODALITY.prepare(cols))[0, :, 1]).sum() == 149


def test_amplitude_and_peak_to_peak_are_by_their_definitions():
    time, flux, error = sine(points=180)
    low, high = np.percentile(flux, [5, 95])
    got = _curves.amplitude(lists([flux, flux - 5, np.zeros(0)]))
    assert got[0] == pytest.approx(2.5 * np.log10(high / low))
    assert np.isnan(got[1:]).all()
    top, bottom = (flux - error).max(), (flux + error).min()
    got = _curves.peak_to_peak(lists([flux]), error)
    assert got[0] == pytest.approx((top - bottom) / (top + bottom))
    assert time[0] >= 0


def by_hand(time, flux, period):
    folded = flux[np.argsort(np.mod((time - time[0]) / period, 1))]
    steps = ((np.roll(folded, -1) - folded) ** 2).sum()
    spread = ((flux - flux.mean()) ** 2).sum()
    return steps / spread * (len(flux) - 1) / (2 * len(flux))


def test_string_length_is_the_published_formula_and_tells_the_period():
    curves = [sine(0.7, 100), sine(1.3, 257, 1), sine(0.7, 5, 2)]
    time = lists([c[0] for c in curves])
    flux = np.concatenate([c[1] for c in curves])
    period = np.array([0.7, 1.3, 0.9])
    got = _curves.string_length(time, flux, period)
    for k in range(3):
        assert got[k] == pytest.approx(by_hand(curves[k][0], curves[k][1], period[k]))
    assert got[0] < 0.05
    assert got[1] < 0.05
    wrong = _curves.string_length(time, flux, np.array([0.7123, 1.0777, np.nan]))
    assert wrong[0] > 0.5
    assert np.isnan(wrong[2])


def test_a_curve_without_structure_has_a_string_length_of_one():
    rng = np.random.default_rng(0)
    time = np.sort(rng.uniform(0, 500, 20000))
    got = _curves.string_length(lists([time]), rng.normal(size=20000), np.array([0.7]))
    assert got[0] == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("period", [0.3, 0.7, 4.2, 55.0])
def test_a_period_is_found_where_the_catalogue_has_none(period):
    time, flux, error = sine(period, 250, span=700.0)
    found = _curves.best_period(time, flux, error, 0.05)
    # Five frequencies a peak: the highest is at most half a step from the truth.
    assert 1 / found == pytest.approx(1 / period, abs=0.6 / (5 * 700.0))
    made = photometry.MODALITY.prepare(columns([(time, flux, error)], period=np.array([np.nan])))
    assert laid_out(made)[0, 0, 4] == pytest.approx(np.log10(found), abs=1e-6)
    kept = under(periods="catalogue").prepare(columns([(time, flux, error)]))
    assert np.isnan(laid_out(kept)[0, :, 4]).all()


def test_without_nifty_ls_the_period_is_the_same(monkeypatch):
    pytest.importorskip("nifty_ls")
    time, flux, error = sine(0.7, 200, span=300.0)
    fast = _curves.best_period(time, flux, error, 0.1)
    monkeypatch.setitem(__import__("sys").modules, "nifty_ls", None)
    slow = _curves.best_period(time, flux, error, 0.1)
    assert slow == pytest.approx(fast, rel=1e-4)


def test_what_cannot_be_scaled_is_rejected_by_name():
    time, flux, error = sine(points=50)
    nothing = np.zeros(0)
    bad = [
        (time, np.full(50, 3.0), error),
        (time[:1], flux[:1], error[:1]),
        (nothing, nothing, nothing),
        (np.full(50, 7.0), flux, error),
        (time, np.full(50, np.nan), error),
        (time, np.where(np.arange(50) < 40, 1.0, flux), error),
        (time, np.where(np.arange(50) == 9, np.inf, flux), np.full(50, np.nan)),
    ]
    made = photometry.MODALITY.prepare(columns(bad))
    assert made.reasons.tolist() == [
        "flux does not vary (MAD = 0)",
        "fewer than 5 points",
        "fewer than 5 points",
        "all points at one time",
        "fewer than 5 points",
        "flux does not vary (MAD = 0)",
        "",
    ]
    assert not np.isinf(made.values).any()
    last = laid_out(made)[6]
    assert np.isfinite(last[:49, 1]).all()
    assert np.isnan(last[:, 2]).all()


def test_bands_are_scaled_apart_and_told_apart():
    g, r = sine(0.7, 60, 1), sine(0.7, 40, 2)
    both = [np.concatenate([a, b]) for a, b in zip(g, (r[0], 50 * r[1], 50 * r[2]), strict=True)]
    band = np.array(["g"] * 60 + ["r"] * 40 + ["z"])
    both = [np.append(v, 1.0) for v in both]
    it = under(bands="g,r")
    assert it.size == (200, 11)
    made = laid_out(it.prepare({**columns([tuple(both)]), "band": lists([band])}), it)[0]
    assert np.isfinite(made[:, 0]).sum() == 100
    for channel, curve in ((9, g), (10, r)):
        here = made[:, channel] == 1
        scaled = (curve[1] - curve[1].mean()) / median_abs_deviation(curve[1])
        np.testing.assert_allclose(made[here, 1], scaled, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="no band"):
        it.prepare(columns([g]))


def test_astrom3_takes_the_measures_of_the_catalogue_in_its_order():
    it = under(measures="astrom3", periods="catalogue")
    catalogue = {"amplitude": 0.4, "period": 10.0, "lksl_statistic": 0.2, "rfr_score": 0.9}
    made = it.prepare(
        columns([sine(points=30)], **{k: np.array([v]) for k, v in catalogue.items()})
    )
    np.testing.assert_allclose(laid_out(made)[0, 0, 3:7], [0.4, 1.0, 0.2, 0.9], rtol=1e-6)
    anchors = it.anchors().reshape(200, 9)
    assert (anchors[:, 3:7] == [3, 4, 5, 6]).all()
    assert (np.delete(anchors, range(3, 7), axis=1) == -1).all()


def test_lists_keep_their_rows():
    rows = lists([np.arange(3), np.zeros(0), np.arange(2)])
    assert rows.lengths.tolist() == [3, 0, 2]
    assert rows.row.tolist() == [0, 0, 0, 2, 2]
    assert isinstance(rows.take(np.array([True, False, True])), Lists)
    assert rows.take(np.array([True, False, True])).values.tolist() == [0, 1, 2, 0, 1]


def test_catalina_stars_are_smooth_at_the_period_of_their_catalogue():
    file = pq.ParquetFile(shared("variables", "css_southern", "css_southern.parquet"))
    table = file.read_row_group(0, columns=["class", "period_d", "time", "mag", "mag_err"])
    kind = np.array(table["class"].to_pylist())
    rows = np.flatnonzero(np.isin(kind, ["RRAB", "RRC", "DCEP"]))[:200]
    assert len(rows) > 50
    part = table.take(rows)
    cols = {"time": lists(part["time"].to_pylist()), "magnitude": lists(part["mag"].to_pylist()),
            "error": lists(part["mag_err"].to_pylist()),
            "period": part["period_d"].to_numpy()}  # fmt: skip
    made = photometry.MODALITY.prepare(cols)
    assert (made.reasons == "").all()
    at_period = laid_out(made)[:, 0, NAMES.index("string length")]
    off = photometry.MODALITY.prepare({**cols, "period": cols["period"] * 1.0371})
    elsewhere = laid_out(off)[:, 0, NAMES.index("string length")]
    assert np.median(at_period) < 0.5 * np.median(elsewhere)
    assert np.median(elsewhere) == pytest.approx(1, abs=0.15)
    for row in range(5):
        magnitude = np.array(part["mag"][row].as_py())
        low, high = np.percentile(magnitude, [5, 95])
        assert laid_out(made)[row, 0, 3] == pytest.approx(high - low, abs=0.02)
