"""XP coefficients, metadata, images, RVS: published formulas by hand, and numbers that break."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmclip.arrays import lists
from mmclip.errors import UsageError
from mmclip.modalities import image, metadata, metadata_astrom3, rvs, xp_coefficients
from mmclip.modalities.settings import configured
from tests.shared import shared


def coefficients(rows=4, bases=55, seed=0):
    rng = np.random.default_rng(seed)
    made = {}
    for band in ("bp", "rp"):
        values = rng.normal(0, 5, (rows, bases))
        values[:, 0] = rng.uniform(10, 1000, rows)
        made[f"{band}_coefficients"] = values
        made[f"{band}_coefficient_errors"] = rng.uniform(0.1, 1, (rows, bases))
    return made


def test_coefficients_are_over_the_first_of_their_own_band():
    cols = coefficients()
    made = xp_coefficients.MODALITY.prepare(cols)
    assert made.values.shape == (4, 110)
    for start, band in ((0, "bp"), (55, "rp")):
        raw, error = cols[f"{band}_coefficients"], cols[f"{band}_coefficient_errors"]
        np.testing.assert_allclose(made.values[:, start], np.log10(raw[:, 0]), rtol=1e-6)
        np.testing.assert_allclose(
            made.values[:, start + 1 : start + 55], raw[:, 1:] / raw[:, :1], rtol=1e-6
        )
        np.testing.assert_allclose(
            made.errors[:, start + 1 : start + 55], error[:, 1:] / raw[:, :1], rtol=1e-6
        )
    anchors = xp_coefficients.MODALITY.anchors()
    assert np.flatnonzero(anchors >= 0).tolist() == [0, 55]


def test_the_error_of_the_logarithm_is_that_of_a_small_change():
    cols = coefficients()
    made = xp_coefficients.MODALITY.prepare(cols)
    step = 1e-3 * cols["bp_coefficient_errors"][:, 0]
    up = np.log10(cols["bp_coefficients"][:, 0] + step) - np.log10(cols["bp_coefficients"][:, 0])
    np.testing.assert_allclose(made.errors[:, 0], 1e3 * up, rtol=1e-3)


def test_brightness_moves_the_first_coefficients_alone():
    cols = coefficients()
    brighter = {k: v * 100 for k, v in cols.items()}
    a, b = (xp_coefficients.MODALITY.prepare(c).values for c in (cols, brighter))
    first = np.isin(np.arange(110), [0, 55])
    np.testing.assert_allclose(b[:, first] - a[:, first], 2.0, rtol=1e-5)
    np.testing.assert_allclose(b[:, ~first], a[:, ~first], rtol=1e-5)


def test_bad_first_coefficients_and_missing_bands_are_named():
    cols = coefficients(5)
    cols["bp_coefficients"][0, 0] = 0
    cols["rp_coefficients"][1, 0] = -3
    cols["bp_coefficients"][2, 7] = np.inf
    rows = list(cols["rp_coefficients"])
    rows[3] = np.zeros(0)
    made = xp_coefficients.MODALITY.prepare({**cols, "rp_coefficients": lists(rows)})
    assert made.reasons.tolist() == [
        "BP: first coefficient <= 0",
        "RP: first coefficient <= 0",
        "BP: a coefficient is missing",
        "RP: no coefficients",
        "",
    ]


def test_the_number_of_coefficients_is_read_off_the_data():
    cols = coefficients(3, 40)
    found = xp_coefficients.detect(cols, {})
    assert found == {"bases": 40}
    it = configured(xp_coefficients.MODALITY, found)
    assert it.size == (80,)
    assert it.prepare(cols).reasons.tolist() == [""] * 3
    wrong = xp_coefficients.MODALITY.prepare(cols)
    assert wrong.reasons.tolist() == ["BP: 40 coefficients, not 55"] * 3
    short = configured(xp_coefficients.MODALITY, {"bases": 40, "keep": "10"})
    wanted = it.prepare(cols).values.reshape(3, 2, 40)[:, :, :10].reshape(3, 20)
    np.testing.assert_array_equal(short.prepare(cols).values, wanted)


def test_redrawn_coefficients_have_the_covariance_of_the_archive():
    rng = np.random.default_rng(0)
    size, rows = 4, 40000
    root = rng.normal(size=(size, size))
    covariance = root @ root.T
    error = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(error, error)
    # As GaiaXPy reads them: numpy.tril_indices(size, -1), row by row.
    lower = np.array([correlation[i, j] for i in range(size) for j in range(i)])
    drawn = xp_coefficients.redraw(
        np.full((rows, size), 3.0), np.tile(error, (rows, 1)), np.tile(lower, (rows, 1)), rng
    )
    np.testing.assert_allclose(drawn.mean(axis=0), 3.0, atol=4 * error.max() / rows**0.5)
    assert np.abs(np.cov(drawn.T) / covariance.diagonal().max() - covariance /
                  covariance.diagonal().max()).max() < 0.03  # fmt: skip


def test_an_indefinite_correlation_matrix_still_draws():
    rng = np.random.default_rng(0)
    lower = np.tile(np.array([1.0, 1.0, 0.99]), (300, 1))  # eigenvalue just below zero
    drawn = xp_coefficients.redraw(np.zeros((300, 3)), np.ones((300, 3)), lower, rng)
    assert np.isfinite(drawn).all()
    assert np.corrcoef(drawn.T)[0, 1] > 0.95


def test_real_coefficients_of_the_archive_are_prepared_and_redrawn():
    table = pq.read_table(shared("spectra", "gaia_xp", "xp_symbiotic_pn.parquet"))
    cols = {n: lists(table[n].to_pylist()) for n in table.column_names if "coefficient" in n}
    made = xp_coefficients.MODALITY.prepare(cols)
    assert (made.reasons == "").mean() > 0.9
    assert np.isfinite(made.values[made.reasons == ""]).all()
    raw = np.array(table["bp_coefficients"].to_pylist())[:50]
    error = np.array(table["bp_coefficient_errors"].to_pylist())[:50]
    tied = np.array(table["bp_coefficient_correlations"].to_pylist())[:50]
    full = xp_coefficients.correlation_matrix(tied, 55)
    np.testing.assert_array_equal(full, full.transpose(0, 2, 1))
    assert (np.linalg.eigvalsh(full) > -1e-3).all()  # it is a correlation matrix in this order
    drawn = xp_coefficients.redraw(raw, error, tied, np.random.default_rng(0))
    chi = (drawn - raw) / error
    assert chi.std() == pytest.approx(1, abs=0.05)


def test_absolute_magnitudes_and_angles_are_the_published_ones():
    star = {"phot_g_mean_mag": 10.0, "parallax": 10.0, "l": 60.0, "b": 30.0, "mean_vmag": 12.0,
            "parallax_error": 2.0, "pmra": 3.0, "pmdec": 4.0, "j_m": 9.0, "ks_m": 8.0}  # fmt: skip
    cols = {k: np.array([v, v]) for k, v in star.items()}
    cols["parallax"] = np.array([10.0, -1.0])
    value = dict(zip(metadata_astrom3.COLUMNS,
                     metadata_astrom3.MODALITY.prepare(cols).values.T, strict=True))  # fmt: skip
    assert len(metadata_astrom3.COLUMNS) == 34
    # 10 mas is 100 pc: a distance modulus of 5.
    assert value["phot_g_mean_mag"][0] == pytest.approx(5.0)
    assert value["mean_vmag"][0] == pytest.approx(7.0)
    assert value["j_mag"][0] == pytest.approx(4.0)
    assert value["j_k"][0] == pytest.approx(1.0)
    assert value["l"][0] == pytest.approx(0.5)
    assert value["b"][0] == pytest.approx(0.5)
    assert value["pm"][0] == pytest.approx(5.0)
    assert value["parallax_over_error"][0] == pytest.approx(5.0)
    assert np.isnan(value["phot_g_mean_mag"][1])
    assert value["parallax"][1] == -1.0
    published = configured(metadata_astrom3.MODALITY, {"parallax": "1mas"}).prepare(cols).values
    # A parallax of 1 mas is 1 kpc: a distance modulus of 10.
    assert published[1, 1] == pytest.approx(0.0)
    strict = configured(metadata_astrom3.MODALITY, {"missing": "reject"}).prepare(cols)
    assert strict.reasons.tolist() == ["a column is missing"] * 2
    refused = configured(metadata_astrom3.MODALITY, {"parallax": "reject"}).prepare(cols)
    assert refused.reasons.tolist() == ["", "parallax is not positive"]


def test_a_users_own_columns_are_a_view():
    it = configured(metadata.MODALITY, {"columns": "period, v_mag"})
    cols = {"period": np.array([1.0, np.nan, np.nan]), "v_mag": np.array([9.0, np.inf, 12.0])}
    made = it.prepare(cols)
    assert it.labels() == ["period", "v_mag"]
    np.testing.assert_array_equal(made.values, [[1, 9], [np.nan, np.nan], [np.nan, 12]])
    assert made.reasons.tolist() == ["", "none of the columns is known", ""]


def test_the_stretch_is_the_published_one_and_the_crop_is_the_centre():
    rng = np.random.default_rng(0)
    raw = rng.normal(0.02, 0.05, (2, 3, 150, 152))
    it = configured(image.MODALITY, image.detect({"image": raw}, {}))
    made = it.prepare({"image": raw}).values.reshape(2, *it.size)
    assert it.size == (3, 96, 96)
    y, x = 27 + 40, 28 + 7  # the centre of 150 x 152 starts at row 27, column 28
    g, r, z = raw[1, :, y, x]
    c = [max(0, g * 6.0 + 0.03), max(0, r * 3.4 + 0.03), max(0, z * 2.2 + 0.03)]
    mean = max(sum(c) / 3, 1e-6)
    wanted = [min(1, k * np.arcsinh(20 * mean) / (np.sqrt(20) * mean)) for k in c]
    np.testing.assert_allclose(made[1, :, 40, 7], wanted[::-1], rtol=1e-5)
    assert made.min() >= 0
    assert made.max() <= 1
    plain = configured(it, {"height": 150, "stretch": "none"})
    values = plain.prepare({"image": raw}).values.reshape(2, 3, 96, 96)
    np.testing.assert_allclose(values, raw[:, :, 27:123, 28:124], rtol=1e-6)


def test_dark_flat_and_broken_images():
    it = configured(image.MODALITY, {"height": 20, "width": 20, "crop": "10"})
    raw = np.zeros((4, 3 * 400))
    raw[1] = -5.0
    raw[2] = np.nan
    raw[3, ::7] = np.inf
    made = it.prepare({"image": raw})
    assert made.reasons.tolist() == ["", "", "fewer than half of the pixels are finite", ""]
    assert not np.isinf(made.values).any()
    np.testing.assert_array_equal(made.values[1], 0)
    uneven = it.prepare({"image": lists([np.zeros(1200), np.zeros(7)])})
    assert uneven.reasons.tolist() == ["", "7 values, not 3x20x20"]
    with pytest.raises(UsageError, match="no centre of 96"):
        configured(image.MODALITY, {"height": 69, "width": 69})


def test_galaxy_zoo_pictures_keep_their_centre():
    from PIL import Image

    table = pq.read_table(shared("galaxies", "galaxy_zoo_spiral", "galaxy_zoo_spiral.parquet"))
    few = [np.array(Image.open(io.BytesIO(b.as_py()))) for b in table["image_png"][:20]]
    raw = np.stack(few).transpose(0, 3, 1, 2).astype(np.float32) / 255
    settings = {**image.detect({"image": raw}, {}), "crop": 64, "stretch": "none"}
    it = configured(image.MODALITY, settings)
    made = it.prepare({"image": raw})
    assert it.size == (3, 64, 64)
    assert made.reasons.tolist() == [""] * 20
    np.testing.assert_array_equal(made.values.reshape(20, 3, 64, 64), raw[:, :, 2:66, 2:66])


def test_rvs_edges_stay_unknown_and_a_spectrum_can_be_scaled_by_itself():
    table = pq.read_table(shared("spectra", "gaia_rvs", "rvs_examples.parquet"))
    cols = {n: np.array(table[n].to_pylist()) for n in ("flux", "flux_error")}
    made = rvs.MODALITY.prepare(cols)
    assert (np.isnan(made.values).sum(axis=1) == table["n_nan"].to_numpy()).all()
    alone = configured(rvs.MODALITY, {"scale": "spectrum"}).prepare(cols)
    np.testing.assert_allclose(np.nanmean(alone.values, axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(np.nanstd(alone.values, axis=1), 1, rtol=1e-5)
    flat = {"flux": np.ones((1, 2401)), "flux_error": np.ones((1, 2401))}
    named = configured(rvs.MODALITY, {"scale": "spectrum"}).prepare(flat).reasons
    assert named.tolist() == ["flux does not vary"]
