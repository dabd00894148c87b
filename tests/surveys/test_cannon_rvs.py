import os
import pickle
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest

from mmclip.errors import IntegrityError, MissingExtra, UsageError
from mmclip.modalities.air import air, vacuum
from mmclip.surveys.demo import cannon_rvs

# Ca II triplet in air and in vacuum, A: NIST Atomic Spectra Database.
CALCIUM_AIR = np.array([8498.02, 8542.09, 8662.14])
CALCIUM_VACUUM = np.array([8500.35, 8544.44, 8664.52])


@pytest.fixture(scope="module")
def model():
    try:
        distribution(cannon_rvs.PACKAGE)
    except PackageNotFoundError:
        pytest.skip("thedoppler, which ships the model, is not installed: mmclip[demo-rvs]")
    return cannon_rvs.load()


def clean(model, teff, logg, feh):
    """One spectrum without drawn labels and, in effect, without noise."""
    flux, _, inside = cannon_rvs.rvs_spectra(
        model, [teff], [logg], [feh], [0], [0], [0], [1], snr=1e8
    )
    assert inside.all()
    return flux[0]


def calcium_width(flux):
    """Equivalent width of the three Ca II lines, A, within 1.5 nm of each."""
    wavelength = cannon_rvs.rvs_wavelength()
    near = (abs(wavelength[:, None] - CALCIUM_VACUUM / 10) < 1.5).any(axis=1)
    return (1 - flux[near]).sum() * 0.1


def stars(n):
    random = np.random.default_rng(3)
    labels = [random.uniform(4000, 5500, n), random.uniform(1, 4.8, n), random.uniform(-2, 0.4, n)]
    return labels, random.choice(2**62, n, replace=False)


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"echo attacked > '{self.path}'",)


def synthetic(random):
    """A file of the published structure with random coefficients and few pixels."""
    terms = [[(0, 1)], [(1, 2.0)], [(2, 1), (0, 2.0)]]
    return {
        "theta": random.normal(size=(3000, 4)),
        "vectorizer": ("PolynomialVectorizer", {"terms": terms}),
        "dispersion": 8430 + 0.1 * np.arange(3000),
        "training_set_labels": random.normal(size=(50, 3)).astype(np.float32),
        "regularization": np.float64(0),
    }


def test_air_and_vacuum_agree_with_the_measured_calcium_lines():
    found = vacuum(CALCIUM_AIR)
    np.testing.assert_allclose(found, CALCIUM_VACUUM, atol=0.011)  # both are rounded to 0.01


def test_the_two_conversions_undo_each_other():
    wavelength = np.linspace(3000.0, 18000.0, 999)
    back = air(vacuum(wavelength))
    np.testing.assert_allclose(back, wavelength, atol=1e-5)


def test_the_grid_is_that_of_the_rvs():
    wavelength = cannon_rvs.rvs_wavelength()
    assert len(wavelength) == 2401
    np.testing.assert_allclose(wavelength[[0, 1, -1]], [846.0, 846.01, 870.0])


def test_a_pickle_that_calls_something_is_refused_and_not_run(tmp_path):
    target = tmp_path / "attacked"
    file = tmp_path / "model.pkl"
    file.write_bytes(pickle.dumps({"theta": Hostile(target)}))
    with pytest.raises(IntegrityError, match="system"):
        cannon_rvs.load(file)
    assert not target.exists()


@pytest.mark.parametrize("name", ["numpy.load", "numpy.core.multiarray.fromfile", "builtins.eval"])
def test_a_pickle_that_names_anything_but_array_parts_is_refused(tmp_path, name):
    module, _, function = name.rpartition(".")
    file = tmp_path / "model.pkl"
    file.write_bytes(f"c{module}\n{function}\n.".encode())
    with pytest.raises(IntegrityError, match=function):
        cannon_rvs.load(file)


@pytest.mark.parametrize("content", [b"", b"not a pickle", pickle.dumps({"theta": 1})])
def test_a_file_that_is_no_model_is_refused(tmp_path, content):
    file = tmp_path / "model.pkl"
    file.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"model\.pkl"):
        cannon_rvs.load(file)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_arrays_of_a_file_come_back_unchanged(tmp_path, protocol):
    state = synthetic(np.random.default_rng(1))
    file = tmp_path / "model.pkl"
    if protocol == 5:  # in-band buffers are rebuilt by another function, which is not admitted
        file.write_bytes(pickle.dumps(state, protocol))
        with pytest.raises(IntegrityError, match="_frombuffer"):
            cannon_rvs.load(file)
        return
    file.write_bytes(pickle.dumps(state, protocol))
    model = cannon_rvs.load(file)
    kept = np.isin(state["dispersion"], model.wavelength_air)
    np.testing.assert_array_equal(model.theta, state["theta"][kept])
    assert model.terms == (((0, 1),), ((1, 2),), ((2, 1), (0, 2)))
    assert air(np.array([8460.0]))[0] - model.wavelength_air[0] > 9.8
    assert model.wavelength_air[-1] - air(np.array([8700.0]))[0] > 9.8


def test_an_absent_package_is_named_with_its_extra(monkeypatch):
    monkeypatch.setattr(cannon_rvs, "PACKAGE", "a-package-that-is-not-there")
    with pytest.raises(MissingExtra) as caught:
        cannon_rvs.locate()
    assert caught.value.hint == "pip install 'mmclip[demo-rvs]'"


def test_an_absent_file_is_a_missing_extra(monkeypatch):
    monkeypatch.setattr(cannon_rvs, "PACKAGE", "numpy")
    with pytest.raises(MissingExtra):
        cannon_rvs.locate()


def test_another_checksum_is_an_integrity_error(monkeypatch):
    monkeypatch.setattr(cannon_rvs, "PACKAGE", "numpy")
    monkeypatch.setattr(cannon_rvs, "FILE", "numpy/__init__.py")
    with pytest.raises(IntegrityError, match="SHA-256") as caught:
        cannon_rvs.load()
    assert "thedoppler==1.1.32" in caught.value.hint


def test_the_model_is_the_published_cubic(model):
    assert model.theta.shape == (len(model.wavelength_air), 20)
    assert len(model.terms) == 19
    assert max(sum(power for _, power in term) for term in model.terms) == 3
    np.testing.assert_allclose(model.fiducials, [4500, 3.0, -1.0])
    np.testing.assert_allclose(model.scales, [4500, 5.0, 3.0])


def test_the_matrix_product_equals_a_loop_over_the_terms(model):
    (teff, logg, feh), _ = stars(5)
    flux = cannon_rvs.evaluate(model, teff, logg, feh)
    for star in range(5):
        labels = (teff[star], logg[star], feh[star])
        x = [(v - f) / s for v, f, s in zip(labels, model.fiducials, model.scales, strict=True)]
        expected = model.theta[:, 0].copy()
        for column, term in enumerate(model.terms, start=1):
            monomial = 1.0
            for label, power in term:
                for _ in range(power):
                    monomial *= x[label]
            expected += monomial * model.theta[:, column]
        np.testing.assert_allclose(flux[star], expected, rtol=1e-12, atol=1e-12)


def test_the_flux_at_the_fiducials_is_the_first_coefficient(model):
    np.testing.assert_array_equal(
        cannon_rvs.evaluate(model, *model.fiducials)[0], model.theta[:, 0]
    )


def test_a_narrow_line_takes_the_width_of_the_rvs():
    wavelength = np.arange(8440.0, 8715.0, 0.1)
    line = 1.0 - (abs(wavelength - 8560.0) < 0.05)
    flux = cannon_rvs._line_spread(wavelength) @ line
    depth, grid = 1 - flux, 10 * cannon_rvs.rvs_wavelength()
    centre = (depth * grid).sum() / depth.sum()
    fwhm = np.sqrt(8 * np.log(2) * (depth * (grid - centre) ** 2).sum() / depth.sum())
    assert centre / fwhm == pytest.approx(11_500, rel=0.01)
    assert centre == pytest.approx(vacuum(np.array([8560.0]))[0], abs=0.01)
    assert depth.sum() == pytest.approx(1.0, rel=1e-3)  # equivalent width 0.1 A, step 0.1 A


@pytest.mark.parametrize("labels", [(4500, 1.0, 0.0), (5000, 2.5, -2.0), (5777, 4.44, 0.0)])
def test_the_calcium_lines_are_deepest_at_their_vacuum_wavelengths(model, labels):
    flux, wavelength = clean(model, *labels), 10 * cannon_rvs.rvs_wavelength()
    for line in CALCIUM_VACUUM:
        near = np.flatnonzero(abs(wavelength - line) < 3)
        lowest = near[flux[near].argmin()]
        assert wavelength[lowest] == pytest.approx(line, abs=0.1)
        assert flux[lowest] < 0.7


@pytest.mark.parametrize("teff", [4500, 5000])
def test_calcium_is_stronger_in_giants_and_in_metal_rich_stars(model, teff):
    giant, dwarf = clean(model, teff, 1.5, 0.0), clean(model, teff, 4.5, 0.0)
    poor = clean(model, teff, 1.5, -1.5)
    assert calcium_width(giant) > 1.2 * calcium_width(dwarf)
    assert calcium_width(giant) > 1.2 * calcium_width(poor)


def test_a_spectrum_does_not_depend_on_its_row_or_its_neighbours(model, monkeypatch):
    labels, ids = stars(40)
    whole = cannon_rvs.rvs_spectra(model, *labels, 80, 0.1, 0.1, ids, seed=5)[0]
    order = np.random.default_rng(0).permutation(40)
    shuffled = [c[order] for c in labels]
    monkeypatch.setattr(cannon_rvs, "CHUNK", 7)
    mixed = cannon_rvs.rvs_spectra(model, *shuffled, 80, 0.1, 0.1, ids[order], seed=5)[0]
    np.testing.assert_array_equal(mixed, whole[order])
    alone = cannon_rvs.rvs_spectra(model, *[c[3] for c in labels], 80, 0.1, 0.1, ids[3], seed=5)
    np.testing.assert_array_equal(alone[0][0], whole[3])


def test_seed_and_source_id_each_change_the_noise(model):
    one = cannon_rvs.rvs_spectra(model, 5000, 2.5, 0, 0, 0, 0, [7, 8], seed=0)[0]
    two = cannon_rvs.rvs_spectra(model, 5000, 2.5, 0, 0, 0, 0, [7, 8], seed=1)[0]
    noise = np.concatenate([one, two]) - clean(model, 5000, 2.5, 0)
    correlation = np.corrcoef(noise) - np.eye(4)
    assert abs(correlation).max() < 5 / np.sqrt(2401)


def test_the_noise_has_the_stated_size(model):
    _, ids = stars(60)
    snr = np.repeat([20.0, 100.0], 30)
    flux, error, _ = cannon_rvs.rvs_spectra(model, 5000, 2.5, 0, 0, 0, 0, ids, snr=snr)
    assert flux.dtype == error.dtype == np.float32
    np.testing.assert_allclose(error, np.repeat(1 / snr[:, None], 2401, 1), rtol=1e-6)
    pull = (flux - clean(model, 5000, 2.5, 0)) / error
    assert pull[:30].std() == pytest.approx(1, abs=0.02)
    assert pull[30:].std() == pytest.approx(1, abs=0.02)


def test_labels_are_drawn_within_their_errors(model):
    _, ids = stars(400)
    flux, _, _ = cannon_rvs.rvs_spectra(model, 5000, 2.5, -0.5, 0, 0, 0.1, ids, snr=1e8)
    pixel = 844  # near the core of Ca II 8544.44
    low, high = (clean(model, 5000, 2.5, -0.5 + d)[pixel] for d in (-0.1, 0.1))
    assert flux[:, pixel].std() == pytest.approx(abs(high - low) / 2, rel=0.15)


@pytest.mark.parametrize(
    "labels",
    [(3400, 4, 0), (8100, 4, 0), (5000, -0.1, 0), (5000, 5.1, 0), (5000, 2, -2.6), (5000, 2, 0.6),
     (np.nan, 2, 0), (5000, np.nan, 0), (5000, 2, np.nan), (6500, 2.0, 0), (5800, 2.0, 0)],
)  # fmt: skip
def test_a_star_outside_the_training_range_has_no_spectrum(model, labels):
    table = np.array([labels, (5000, 2.5, 0)], float).T
    flux, error, inside = cannon_rvs.rvs_spectra(model, *table, 50, 0.1, 0.1, [1, 2])
    assert inside.tolist() == [False, True]
    assert np.isnan(flux[0]).all()
    assert np.isnan(error[0]).all()
    assert np.isfinite(flux[1]).all()
    assert np.isfinite(error[1]).all()


def test_the_training_grid_itself_lies_inside_and_gives_possible_fluxes(model):
    labels = model.training_labels
    zero = np.zeros(len(labels))
    ids = np.arange(len(labels))
    flux, _, inside = cannon_rvs.rvs_spectra(model, *labels.T, zero, zero, zero, ids, snr=1e8)
    assert inside.all()
    assert flux.min() > 0
    assert flux.max() < 1.1


def test_large_errors_never_leave_the_training_range(model):
    for teff, logg in [(3600, 0.2), (5450, 2.0), (7900, 4.8)]:
        labels = np.tile([teff, logg, 0.4], (300, 1)).astype(float)
        normal = np.random.default_rng(2).standard_normal((300, 3))
        drawn = cannon_rvs._perturb(model, labels, np.tile([500, 1, 1.0], (300, 1)), normal)
        assert cannon_rvs.in_range(model, drawn).all()
        assert len(np.unique(drawn[:, 0])) > 30


def test_an_unknown_error_counts_as_none(model):
    known = cannon_rvs.rvs_spectra(model, 5000, 2.5, 0, 0, 0, 0, [4])[0]
    unknown = cannon_rvs.rvs_spectra(model, 5000, 2.5, 0, np.nan, -9999, np.inf, [4])[0]
    np.testing.assert_array_equal(known, unknown)


@pytest.mark.parametrize("snr", [0.0, -5.0, np.nan, np.inf])
def test_an_impossible_signal_to_noise_is_refused(model, snr):
    with pytest.raises(UsageError, match="snr"):
        cannon_rvs.rvs_spectra(model, 5000, 2.5, 0, 0, 0, 0, [1], snr=snr)


def test_no_star_gives_an_empty_table(model):
    none = np.empty(0)
    flux, error, inside = cannon_rvs.rvs_spectra(
        model, none, none, none, none, none, none, none.astype(np.int64)
    )
    assert flux.shape == error.shape == (0, 2401)
    assert inside.shape == (0,)
