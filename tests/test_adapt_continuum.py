"""The pseudo-continuum and the 1462-pixel grid: what must not matter, and lines that must stay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmclip.modalities import _continuum as c

W = np.arange(375.0, 650.0, 0.09)  # nm


def spectrum(seed=0):
    """A smooth hump that peaks at 520 nm with narrow lines cut into it; flux, depths removed."""
    rng = np.random.default_rng(seed)
    level = 2.0 + np.exp(-0.5 * ((W - 520) / 80) ** 2)
    lines = sum(
        rng.uniform(0.1, 0.6) * np.exp(-0.5 * ((W - at) / 0.25) ** 2)
        for at in rng.uniform(402, 558, 25)
    )
    return level * (1 - np.minimum(lines, 0.9)), level


def test_the_grid_is_the_published_one():
    grid = c.grid()
    assert len(grid) == 1462
    # log10 of angstrom from 3.602 in 1461 steps of 1e-4: 3999 to 5598 angstrom, as published.
    assert [int(grid[0] * 10), int(grid[-1] * 10)] == [3999, 5598]
    assert grid[-1] * 10 == pytest.approx(10**3.7481)
    np.testing.assert_allclose(np.diff(np.log10(grid)), 1e-4, rtol=1e-9)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-20, 1e20))
def test_the_distance_of_the_star_does_not_matter(scale):
    flux, _ = spectrum()
    near, _ = c.normalised(W, flux)
    far, _ = c.normalised(W, flux * scale)
    np.testing.assert_allclose(far, near, rtol=1e-5)


def test_a_quintic_without_lines_is_its_own_continuum():
    x = (W - 512) / 150
    flux = 3 + 0.4 * x - x**2 + 0.2 * x**5  # peaks near 540 nm, so that no gap is bridged
    blue = (W >= 370) & (W <= 570)
    np.testing.assert_allclose(c.continuum(W, flux)[blue], flux[blue], rtol=1e-3)


def test_lines_keep_their_depth_and_the_continuum_is_near_one():
    flux, level = spectrum(3)
    found, _ = c.normalised(W, flux)
    truth = np.interp(np.log10(c.grid()), np.log10(W), flux / level)
    free = truth > 0.995
    assert abs(np.median(found[free]) - 1) < 0.03
    assert np.corrcoef(found, truth)[0, 1] > 0.97


def test_balmer_lines_of_a_hot_star_do_not_pull_the_continuum_down():
    level = (W / 400) ** -3
    gaps = sum(0.6 * np.exp(-0.5 * ((W - at) / 2.5) ** 2) for at in (410.3, 434.2, 486.3))
    blue = (W >= 380) & (W <= 565)
    found = c.continuum(W, level * (1 - gaps))
    assert np.abs(found / level - 1)[blue].max() < 0.05


def test_a_bad_pixel_is_missing_with_its_neighbours_and_nothing_else():
    flux, _ = spectrum(1)
    whole, _ = c.normalised(W, flux)
    spoiled = flux.copy()
    bad = np.argmin(np.abs(W - 500))
    spoiled[bad] = np.nan
    found, _ = c.normalised(W, spoiled)
    lost = np.isnan(found)
    inside = (c.grid() > W[bad - 1]) & (c.grid() < W[bad + 1])
    assert inside.any()
    np.testing.assert_array_equal(lost, inside)
    np.testing.assert_allclose(found[~lost], whole[~lost], atol=2e-3)


def test_a_spectrum_that_ends_early_has_no_values_beyond():
    flux, _ = spectrum(1)
    cut = W < 520
    found, error = c.normalised(W[cut], flux[cut], 0.01 * flux[cut])
    beyond = c.grid() > W[cut][-1]
    assert np.isnan(found[beyond]).all()
    assert np.isfinite(found[~beyond]).all()
    np.testing.assert_allclose((error / found)[~beyond], 0.01, rtol=1e-3)


def test_velocity_moves_a_line_back_to_where_it_is_at_rest():
    flux, _ = spectrum(2)
    moved, _ = c.normalised(W * (1 + 300 / 299792.458), flux, velocity=300.0)
    still, _ = c.normalised(W, flux)
    np.testing.assert_allclose(moved, still, rtol=1e-5)


def test_air_wavelengths_of_known_lines_become_the_known_vacuum_ones():
    # NIST: H beta 486.135 nm in air, 486.269 in vacuum; H alpha 656.279 and 656.461.
    np.testing.assert_allclose(
        c.vacuum(np.array([486.135, 656.279])), [486.2708, 656.4604], atol=3e-4
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
