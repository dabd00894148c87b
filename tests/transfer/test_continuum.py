"""The pseudo-continuum and the 1462-pixel grid: what must not matter, and lines that must stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip.arrays import Lists
from mmclip.modalities import continuum as c
from mmclip.modalities import lrs
from mmclip.modalities.air import air
from mmclip.modalities.settings import configured

W = np.arange(3750.0, 6500.0, 0.9)  # Angstrom


def spectrum(seed=0):
    """A smooth hump that peaks at 5200 A with narrow lines cut into it; flux, depths removed."""
    rng = np.random.default_rng(seed)
    level = 2.0 + np.exp(-0.5 * ((W - 5200) / 800) ** 2)
    lines = sum(
        rng.uniform(0.1, 0.6) * np.exp(-0.5 * ((W - at) / 2.5) ** 2)
        for at in rng.uniform(4020, 5580, 25)
    )
    return level * (1 - np.minimum(lines, 0.9)), level


def test_the_grid_is_the_published_one():
    grid = c.grid()
    assert len(grid) == 1462
    # log10 of angstrom from 3.602 in 1461 steps of 1e-4: 3999 to 5598 angstrom, as published.
    assert [int(grid[0]), int(grid[-1])] == [3999, 5598]
    assert grid[-1] == pytest.approx(10**3.7481)
    np.testing.assert_allclose(np.diff(np.log10(grid)), 1e-4, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-20, 1e20))
def test_the_distance_of_the_star_does_not_matter(scale):
    flux, _ = spectrum()
    near, _ = c.normalised(W, flux)
    far, _ = c.normalised(W, flux * scale)
    np.testing.assert_allclose(far, near, rtol=1e-5)


def test_a_quintic_without_lines_is_its_own_continuum():
    x = (W - 5120) / 1500
    flux = 3 + 0.4 * x - x**2 + 0.2 * x**5  # peaks near 5400 A, so that no gap is bridged
    blue = (W >= 3700) & (W <= 5700)
    np.testing.assert_allclose(c.continuum(W, flux)[blue], flux[blue], rtol=1e-3)


def test_lines_keep_their_depth_and_the_continuum_is_near_one():
    flux, level = spectrum(3)
    found, _ = c.normalised(W, flux)
    truth = np.interp(np.log10(c.grid()), np.log10(W), flux / level)
    free = truth > 0.995
    assert abs(np.median(found[free]) - 1) < 0.03
    assert np.corrcoef(found, truth)[0, 1] > 0.97


def test_balmer_lines_of_a_hot_star_do_not_pull_the_continuum_down():
    level = (W / 4000) ** -3
    gaps = sum(0.6 * np.exp(-0.5 * ((W - at) / 25) ** 2) for at in (4103, 4342, 4863))
    blue = (W >= 3800) & (W <= 5650)
    found = c.continuum(W, level * (1 - gaps))
    assert np.abs(found / level - 1)[blue].max() < 0.05


def test_a_bad_pixel_is_missing_with_its_neighbours_and_nothing_else():
    flux, _ = spectrum(1)
    whole, _ = c.normalised(W, flux)
    spoiled = flux.copy()
    bad = np.argmin(np.abs(W - 5000))
    spoiled[bad] = np.nan
    found, _ = c.normalised(W, spoiled)
    lost = np.isnan(found)
    inside = (c.grid() > W[bad - 1]) & (c.grid() < W[bad + 1])
    assert inside.any()
    np.testing.assert_array_equal(lost, inside)
    np.testing.assert_allclose(found[~lost], whole[~lost], atol=2e-3)


def test_a_spectrum_that_ends_early_has_no_values_beyond():
    flux, _ = spectrum(1)
    cut = W < 5200
    found, error = c.normalised(W[cut], flux[cut], 0.01 * flux[cut])
    beyond = c.grid() > W[cut][-1]
    assert np.isnan(found[beyond]).all()
    assert np.isfinite(found[~beyond]).all()
    np.testing.assert_allclose((error / found)[~beyond], 0.01, rtol=1e-3)


def raw(flux, wavelength=W, **more):
    """Raw columns of one spectrum."""
    ends = np.array([0, len(wavelength)])
    return {"wavelength": Lists(wavelength, ends), "flux": Lists(flux, ends), **more}


def test_a_redshift_is_taken_out_where_the_rest_frame_is_wanted():
    flux, _ = spectrum(2)
    z = 300 / 299792.458
    resting = configured(lrs.MODALITY, {"rest_frame": True})
    moved = resting.prepare(raw(flux, W * (1 + z), redshift=np.array([z])))
    still = lrs.MODALITY.prepare(raw(flux))
    np.testing.assert_allclose(moved.values, still.values, rtol=1e-5)
    lost = resting.prepare(raw(flux, redshift=np.array([np.nan])))
    assert lost.reasons.tolist() == ["no redshift"]


def test_air_wavelengths_are_taken_to_vacuum():
    flux, _ = spectrum(4)
    in_air = configured(lrs.MODALITY, {"medium": "air"})
    np.testing.assert_allclose(
        in_air.prepare(raw(flux, air(W))).values, lrs.MODALITY.prepare(raw(flux)).values, atol=1e-3
    )


def test_the_order_of_pixels_and_padding_do_not_matter():
    flux, _ = spectrum(5)
    order = np.random.default_rng(0).permutation(len(W))
    padded = raw(np.append(flux[order], [0, 0]), np.append(W[order], [0, 0]))
    np.testing.assert_array_equal(
        lrs.MODALITY.prepare(padded).values, lrs.MODALITY.prepare(raw(flux)).values
    )


def test_blurring_adds_widths_in_quadrature():
    w = np.arange(400.0, 420.0, 0.02)
    sigma = 0.3
    line = np.exp(-0.5 * ((w - 410) / sigma) ** 2)[None]
    fwhm = 0.4 * np.sqrt(8 * np.log(2))
    blurred = c.blur(w, line, np.full(len(w), fwhm))[0]
    variance = (blurred * (w - 410) ** 2).sum() / blurred.sum()
    assert np.sqrt(variance) == pytest.approx(np.hypot(0.3, 0.4), rel=1e-3)
    np.testing.assert_allclose(c.blur(w, line, np.zeros(len(w))), line)
    np.testing.assert_allclose(c.blur(w, np.ones((1, len(w))), 0.5), 1.0)


def test_matching_widths_reach_the_broader_resolution_and_never_sharpen():
    w = np.array([400.0, 500.0])
    fwhm = c.matching_fwhm(w, w / 4000, w / 1800)
    np.testing.assert_allclose(np.hypot(fwhm, w / 4000), w / 1800)
    np.testing.assert_array_equal(c.matching_fwhm(w, w / 1800, w / 4000), 0.0)
