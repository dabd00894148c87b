"""Spectra: resampling against np.interp, spectres and integrals; scaling; real LAMOST spectra."""

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip import compiled
from mmclip.arrays import Lists, lists
from mmclip.errors import UsageError
from mmclip.modalities import air as _air
from mmclip.modalities import resample as rs
from mmclip.modalities import spectra
from mmclip.modalities.robust import mad, mad_of_lists, median
from mmclip.modalities.settings import configured
from tests.shared import shared

GRID = 3850 + 2.0 * np.arange(2575)


def under(**values):
    return configured(spectra.MODALITY, values)


def some_spectra(rows=5, pixels=3909, seed=0, start=3700.0):
    """LAMOST-like: log10 wavelength in steps of 1e-4, float32 flux and error."""
    rng = np.random.default_rng(seed)
    wavelength = 10 ** (np.log10(start) + 1e-4 * np.arange(pixels))
    flux = rng.normal(100, 10, (rows, pixels)).astype("f4")
    sigma = rng.uniform(1, 5, (rows, pixels)).astype("f4")
    return np.tile(wavelength, (rows, 1)), flux, sigma


def columns(wavelength, flux, sigma, **more):
    return {"wavelength": lists(wavelength), "flux": lists(flux), "sigma": lists(sigma), **more}


def test_linear_resampling_is_np_interp():
    wavelength, flux, sigma = some_spectra()
    got = rs.resample(lists(wavelength), lists(flux), lists(sigma), GRID, "linear")
    held = rs.interpolate(lists(wavelength), lists(flux), GRID)
    for row in range(5):
        truth = np.interp(GRID, wavelength[row], flux[row].astype(float))
        np.testing.assert_allclose(got.flux[row], truth, rtol=1e-12)
        np.testing.assert_allclose(held[row], truth, rtol=1e-12)


def test_np_interp_holds_the_ends_and_the_masked_one_does_not_invent_them():
    wavelength, flux, sigma = some_spectra(2, 1000, start=5000.0)
    held = rs.interpolate(lists(wavelength), lists(flux), GRID)
    np.testing.assert_allclose(held[1], np.interp(GRID, wavelength[1], flux[1]), rtol=1e-12)
    for method in ("linear", "flux"):
        got = rs.resample(lists(wavelength), lists(flux), lists(sigma), GRID, method)
        outside = (wavelength[0, 0] - 1 > GRID) | (wavelength[0, -1] + 1 < GRID)
        assert np.isnan(got.flux[:, outside]).all()
        assert np.isfinite(got.flux[:, ~outside]).mean() > 0.99


def test_flux_conserving_resampling_is_that_of_spectres():
    spectres = pytest.importorskip("spectres").spectres
    wavelength, flux, sigma = some_spectra(3)
    got = rs.resample(lists(wavelength), lists(flux), lists(sigma), GRID, "flux")
    for row in range(3):
        f, e = spectres(GRID, wavelength[row], flux[row].astype(float), sigma[row].astype(float))
        np.testing.assert_allclose(got.flux[row], f, rtol=1e-9)
        np.testing.assert_allclose(got.error[row], e, rtol=1e-6)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**31))
def test_flux_conserving_resampling_conserves_the_integral(source, target, seed):
    rng = np.random.default_rng(seed)
    waves = np.cumsum(rng.uniform(0.5, 5, source)) + 4000
    flux = rng.normal(1, 1, source)
    source_edges = rs.edges(waves)
    # Any grid whose outer borders are those of the spectrum.
    inner = np.sort(rng.uniform(source_edges[0], source_edges[-1], target - 1))
    weights = rs.overlaps(waves, waves)
    np.testing.assert_allclose(weights.todense(), np.diag(np.diff(source_edges)), atol=1e-9)
    wide = np.array([source_edges[0] - 50, *inner, source_edges[-1] + 50])
    total = (rs.overlaps(waves, np.unique(wide)) @ flux).sum()
    assert total == pytest.approx((flux * np.diff(source_edges)).sum(), rel=1e-9, abs=1e-9)


def test_a_constant_stays_constant_and_errors_shrink_as_the_root_of_the_pixels():
    wavelength = np.arange(3800.0, 9100.0, 0.5)  # four pixels a grid pixel
    flux, sigma = np.full((1, len(wavelength)), 7.0), np.full((1, len(wavelength)), 0.2)
    got = rs.resample(lists(wavelength[None]), lists(flux), lists(sigma), GRID, "flux")
    np.testing.assert_allclose(got.flux, 7.0)
    # A grid pixel holds three whole pixels and two halves: sqrt(3 + 2 / 4) / 4 of one's error.
    np.testing.assert_allclose(got.error, 0.2 * np.sqrt(3.5) / 4)


def test_a_bad_pixel_is_left_out_of_the_mean_and_its_neighbours_stand():
    wavelength, flux, sigma = some_spectra(1)
    bad = np.searchsorted(wavelength[0], 6000.0)
    for value in (np.nan, np.inf, 1e30):
        flux[0, bad] = value
        sigma[0, bad] = np.nan
        got = rs.resample(lists(wavelength), lists(flux), lists(sigma), GRID, "flux")
        assert np.nanmax(got.flux) < 200
        near = rs.resample(lists(wavelength), lists(flux), lists(sigma), GRID, "linear")
        assert np.nanmax(near.flux) < 200
        touched = np.isnan(near.flux[0])
        assert 1 <= touched.sum() <= 3
        assert np.abs(GRID[touched] - 6000).max() < 4


def test_order_of_pixels_padding_and_repeats_do_not_matter():
    wavelength, flux, sigma = some_spectra(1, 3000)
    rng = np.random.default_rng(1)
    order = rng.permutation(3000)
    messy = [np.concatenate([v[0][order], v[0][:3], np.full(5, fill)])
             for v, fill in ((wavelength, 0.0), (flux, 99.0), (sigma, 1.0))]  # fmt: skip
    messy[1][3000:3003] = 1e9  # a repeated wavelength: the first entry counts
    for method in ("flux", "linear"):
        plain = rs.resample(lists(wavelength), lists(flux), lists(sigma), GRID, method)
        got = rs.resample(*(lists([m]) for m in messy), GRID, method)
        np.testing.assert_allclose(got.flux, plain.flux, rtol=1e-12)
        np.testing.assert_allclose(got.error, plain.error, rtol=1e-12)


def test_spectra_of_different_sampling_do_not_mix():
    a, b = some_spectra(2, 3909, 1), some_spectra(3, 3800, 2, start=3720.0)
    rows = [[*a[k], *b[k]] for k in range(3)]
    order = [3, 0, 4, 1, 2]
    mixed = [lists([r[i] for i in order]) for r in rows]
    got = rs.resample(*mixed, GRID, "flux")
    for place, i in enumerate(order):
        alone = rs.resample(*(lists([r[i]]) for r in rows), GRID, "flux")
        np.testing.assert_allclose(got.flux[place], alone.flux[0], rtol=1e-12)


@pytest.mark.parametrize("rows", [1, 3, 4, 40])
def test_the_number_of_spectra_of_a_sampling_does_not_matter(rows):
    wavelength, flux, sigma = some_spectra(rows)
    sigma[0, ::50] = np.nan
    got = rs.resample(lists(wavelength), lists(flux), lists(sigma), GRID, "linear")
    truth = np.interp(GRID, wavelength[-1], flux[-1].astype(float))
    seen = np.isfinite(got.flux[-1])
    np.testing.assert_allclose(got.flux[-1][seen], truth[seen], rtol=1e-12)
    assert seen.mean() == pytest.approx(0.97 if rows == 1 else 1, abs=0.02)
    left = np.searchsorted(wavelength[0], GRID, side="right") - 1
    share = (GRID - wavelength[0][left]) / np.diff(wavelength[0])[left]
    error = np.hypot((1 - share) * sigma[-1][left], share * sigma[-1][left + 1])
    np.testing.assert_allclose(got.error[-1][seen], error[seen], rtol=1e-6)


def test_what_is_compiled_for_many_spectra_gives_the_numbers_of_numpy(monkeypatch):
    rng, grid = np.random.default_rng(3), np.linspace(395, 505, 90)
    waves = np.tile(np.linspace(400, 500, 60), (12, 1))
    waves[4:8] *= rng.uniform(0.99, 1.01, (4, 1))  # samplings of their own
    waves[9] = waves[9][::-1]  # out of order
    waves[10, :2] = 0  # padding
    flux, error = rng.normal(10, 1, waves.shape), rng.uniform(1, 2, waves.shape)
    flux[1, 20], error[2, 30], error[3], flux[5, 0] = np.nan, -1, np.nan, np.nan
    given = lists(waves), lists(flux), lists(error)
    found = {}
    for way, many in (("compiled", 1), ("plain", 100)):
        monkeypatch.setattr(rs, "MANY", many)
        held = rs.interpolate(*given[:2], grid)
        masked, alone = (
            rs.resample(*given, grid, "linear"),
            rs.resample(*given[:2], None, grid, "linear"),
        )
        found[way] = held, masked.flux, masked.error, alone.flux
    for ours, plain in zip(*found.values(), strict=True):
        np.testing.assert_array_equal(ours, plain)  # blocks of any size give the same bits
    np.testing.assert_allclose(
        found["compiled"][0][6], np.interp(grid, waves[6], flux[6]), rtol=1e-12
    )
    monkeypatch.setattr(rs, "MANY", 1)
    monkeypatch.setattr(compiled, "interpolation", lambda: None)  # numba is absent
    np.testing.assert_array_equal(rs.interpolate(*given[:2], grid), found["plain"][0])


def test_lists_of_unequal_length_are_named():
    made = rs.resample(lists([np.arange(4000.0, 9000)]), lists([np.ones(7)]), None, GRID)
    assert "differ in length" in made.problem[0]


@pytest.mark.parametrize(
    ("in_air", "in_vacuum"),
    # H alpha and H beta, Na D2: wavelengths of the NIST Atomic Spectra Database, Angstrom.
    [(6562.79, 6564.60), (4861.35, 4862.71), (5889.951, 5891.583)],
)
def test_air_and_vacuum_are_those_of_the_tables(in_air, in_vacuum):
    assert _air.vacuum(np.array([in_air]))[0] == pytest.approx(in_vacuum, abs=0.02)
    assert _air.air(np.array([in_vacuum]))[0] == pytest.approx(in_air, abs=0.02)
    round_trip = _air.air(_air.vacuum(np.array([in_air])))[0]
    assert round_trip == pytest.approx(in_air, abs=1e-4)


def line_at(centre, wavelength):
    return 1 + wavelength / 1e5 - 0.5 * np.exp(-0.5 * ((wavelength - centre) / 5.0) ** 2)


def test_the_rest_frame_puts_the_line_back_and_air_moves_it():
    wavelength = np.arange(3700.0, 9200.0, 1.0)
    redshift = 0.01
    flux = line_at(6564.6 * (1 + redshift), wavelength)[None]
    cols = columns(wavelength[None], flux, 0.01 * np.ones_like(flux))
    made = under(rest_frame="true").prepare({**cols, "redshift": np.array([redshift])})
    assert GRID[np.nanargmin(made.values[0])] == pytest.approx(6564.6, abs=1.1)
    made = under(rest_frame="true").prepare({**cols, "redshift": np.array([np.nan])})
    assert made.reasons[0] == "no redshift"
    with pytest.raises(UsageError, match="redshift"):
        under(rest_frame="true").prepare(cols)
    air = line_at(6562.79, wavelength)[None]
    made = under(medium="air").prepare(columns(wavelength[None], air, 0.01 * np.ones_like(air)))
    assert GRID[np.nanargmin(made.values[0])] == pytest.approx(6564.6, abs=1.1)


def test_scaling_is_the_published_one():
    from scipy.stats import median_abs_deviation

    wavelength, flux, sigma = some_spectra(2)
    flux[0, 100:400] = 0
    made = under(resampling="linear").prepare(columns(wavelength, flux, sigma))
    for row in range(2):
        on_grid = np.interp(GRID, wavelength[row], flux[row].astype(float))
        spread = median_abs_deviation(on_grid[on_grid != 0])
        np.testing.assert_allclose(
            made.values[row], (on_grid - on_grid.mean()) / spread, rtol=1e-5, atol=1e-5
        )


def test_astrom3_channels_are_flux_inverse_variance_over_mad_and_log_mad():
    from scipy.stats import median_abs_deviation

    wavelength, flux, sigma = some_spectra(1, 2000, start=4200.0)
    sigma[0, 50:60] = np.nan  # masked: an inverse variance of zero
    it = under(resampling="linear", form="channels", mask="false", error="ivar", good_fraction="0")
    assert it.size == (3, 2575)
    got = it.prepare(columns(wavelength, flux, sigma)).values.reshape(3, 2575)
    ivar = np.nan_to_num(1 / sigma[0].astype(float) ** 2)
    on_grid = np.interp(GRID, wavelength[0], flux[0])
    spread = median_abs_deviation(on_grid[on_grid != 0])
    np.testing.assert_allclose(got[0], (on_grid - on_grid.mean()) / spread, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got[1], np.interp(GRID, wavelength[0], ivar) / spread, rtol=1e-5)
    np.testing.assert_allclose(got[2], np.log10(spread), rtol=1e-6)


@given(st.floats(1e-18, 1e18))
@settings(deadline=None, max_examples=20)
def test_the_distance_of_the_star_does_not_matter(scale):
    wavelength, flux, sigma = some_spectra(2)
    near = spectra.MODALITY.prepare(columns(wavelength, flux, sigma))
    far = spectra.MODALITY.prepare(
        columns(wavelength, flux.astype(float) * scale, sigma.astype(float) * scale)
    )
    np.testing.assert_allclose(far.values, near.values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(far.errors, near.errors, rtol=1e-4)


def test_what_cannot_be_scaled_is_rejected_by_name():
    wavelength, flux, sigma = some_spectra(6)
    flux[0] = 5.0
    flux[1] = np.nan
    sigma[2] = np.nan  # errors unknown: the flux still counts
    flux[3] = 0.0
    flux[4] = np.inf
    wavelength[5] += 1e6
    made = spectra.MODALITY.prepare(columns(wavelength, flux, sigma))
    assert made.reasons.tolist() == [
        "flux does not vary (MAD = 0)",
        "less than 50% of the grid is observed",
        "",
        "flux does not vary (MAD = 0)",
        "less than 50% of the grid is observed",
        "less than 50% of the grid is observed",
    ]
    assert np.isfinite(made.values[2]).all()
    assert np.isnan(made.errors[2]).all()


@pytest.mark.parametrize("scale", [1e-25, 1e-17, 1e12])
def test_errors_survive_small_units_in_float32(scale):
    wavelength, flux, sigma = some_spectra(1)
    one = rs.resample(lists(wavelength), lists(flux), lists(sigma), GRID, "flux")
    small = [lists((v * np.float32(scale)).astype("f4")) for v in (flux, sigma)]
    got = rs.resample(lists(wavelength), *small, GRID, "flux")
    np.testing.assert_allclose(got.error / scale, one.error, rtol=1e-5)


def test_unknown_choices_are_refused():
    for bad in ({"resampling": "cubic"}, {"medium": "water"}, {"pixels": "1"}, {"step": "wide"}):
        with pytest.raises(UsageError):
            under(**bad)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 199, 200, 2575])
def test_medians_and_mads_are_those_of_numpy_and_scipy(n):
    from scipy.stats import median_abs_deviation

    values = np.random.default_rng(n).normal(5, 3, (37, n))
    np.testing.assert_array_equal(median(values), np.median(values, axis=1))
    np.testing.assert_allclose(mad(values), median_abs_deviation(values, axis=1), atol=1e-14)
    holes = values.copy()
    holes[np.random.default_rng(0).random(holes.shape) < 0.3] = np.nan
    holes[0] = np.nan
    some = np.isfinite(holes).any(axis=1)
    np.testing.assert_allclose(median(holes)[some], np.nanmedian(holes[some], axis=1))
    np.testing.assert_allclose(
        mad(holes)[some], median_abs_deviation(holes[some], axis=1, nan_policy="omit"), atol=1e-14
    )
    assert np.isnan(mad(holes)[~some]).all()


def test_mads_of_lists_do_not_depend_on_how_long_the_others_are():
    from scipy.stats import median_abs_deviation

    rng = np.random.default_rng(0)
    rows = [rng.normal(size=n) for n in (1, 5000, 0, 3, 64, 65, 2)]
    got = mad_of_lists(lists(rows))
    for value, row in zip(got, rows, strict=True):
        if len(row):
            assert value == pytest.approx(median_abs_deviation(row), abs=1e-14)
        else:
            assert np.isnan(value)


def test_lamost_visits_of_a_star_agree_better_than_stars_do():
    table = pq.read_table(shared("spectra", "lamost_lrs", "lamost_dr8_lrs_repeats.parquet"))
    flux = [np.array(f) for f in table["flux"].to_pylist()]
    ivar = [np.array(v) for v in table["ivar"].to_pylist()]
    start, step = table["loglam0"].to_numpy(), table["dloglam"].to_numpy()
    waves = [10 ** (a + s * np.arange(len(f))) for a, s, f in zip(start, step, flux, strict=True)]
    sigma = [np.where(v > 0, 1 / np.sqrt(np.where(v > 0, v, 1)), np.nan) for v in ivar]
    made = spectra.MODALITY.prepare(columns(waves, flux, sigma))
    assert (made.reasons == "").mean() > 0.95
    good = made.reasons == ""
    values = np.nan_to_num(made.values[good])
    star = table["group_id"].to_numpy()[good]
    values -= values.mean(axis=1, keepdims=True)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    cosine = values @ values.T
    np.fill_diagonal(cosine, -1)
    nearest = star[cosine.argmax(axis=1)] == star
    # Chance is 0.6 %; the slope of a spectrum varies between visits and is not taken out here.
    assert nearest.mean() > 0.1
    linear = under(resampling="linear", mask="false", good_fraction="0").prepare(
        columns(waves, flux, sigma)
    )
    on_grid = np.interp(GRID, waves[7], flux[7])
    relative = on_grid - on_grid.mean()
    kept = linear.values[7].astype(float)
    assert np.corrcoef(relative, kept)[0, 1] == pytest.approx(1, abs=1e-9)


def test_rows_given_as_lists_or_as_a_matrix_are_the_same():
    wavelength, flux, sigma = some_spectra(3)
    a = spectra.MODALITY.prepare(columns(wavelength, flux, sigma))
    b = spectra.MODALITY.prepare(columns(list(wavelength), list(flux), list(sigma)))
    np.testing.assert_array_equal(a.values, b.values)
    picked = lists(list(flux)).take(np.array([2, 0]))
    assert isinstance(picked, Lists)
    np.testing.assert_array_equal(picked[0], flux[2])
    np.testing.assert_array_equal(picked[1], flux[0])
