"""Figures: the numbers written on them are right, and files are whole or absent."""

import os

import numpy as np
import pytest
from matplotlib.figure import Figure
from sklearn.metrics import r2_score

from mmclip import plots
from mmclip.errors import MmclipError, UsageError
from mmclip.modalities.air import vacuum

PNG = b"\x89PNG\r\n\x1a\n"
WAVELENGTH = np.arange(336.0, 1021.0, 2.0)  # nm
FLUX = 1 + 0.1 * np.sin(WAVELENGTH / 50)


def words(figure):
    """Every text drawn inside the axes of a figure."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def line(axes, colour):
    """y values of the curve of that colour."""
    return next(l.get_ydata() for l in axes.lines if l.get_color() == colour and l.get_xdata()[0])


def generated(observed, sigma=FLUX, axis=WAVELENGTH, **more):
    """The figure of a spectrum generated as `FLUX` (or, on another axis, as the axis itself)."""
    made = FLUX if axis is WAVELENGTH else axis
    bands = ((made - 2, made + 2), (made - 1, made + 1))
    return plots.generated_spectrum_figure(axis, made, sigma, bands, observed=observed, **more)


def every():
    rng = np.random.default_rng(0)
    x, y, c = rng.normal(size=(3, 200))
    c[:20] = np.nan
    rows = [
        {"direction": "xp -> rvs", "recall@1": 0.0, "recall@5": 0.2, "recall@10": 0.5,
         "candidates": 80}
    ]  # fmt: skip
    return {
        "map": plots.map_figure(x, y, c, "Teff [K]"),
        "map of nothing known": plots.map_figure(x, y, np.full(200, np.nan), "Teff [K]"),
        "prediction": plots.prediction_figure(x, x + 0.1 * y, "log g [dex]"),
        "prediction of one": plots.prediction_figure([1.0], [2.0], "log g [dex]"),
        "spectra": plots.spectra_figure(WAVELENGTH, [FLUX] * 4, list("abcd"), median=FLUX),
        "generated": generated(FLUX, error=0.1 * FLUX, title="star", samples=[FLUX] * 7),
        "generated, nothing observed": generated(None),
        "curves": plots.curves_figure([0, 1, 2], {"a": [3, 2, 1], "b": [3, -1, 0]}, "loss"),
        "no curves": plots.curves_figure([], {}, "loss"),
        "recall": plots.recall_figure(rows),
    }


@pytest.mark.parametrize("name", every())
def test_every_figure_becomes_a_png(name):
    figure = every()[name]
    assert isinstance(figure, Figure)
    assert plots.png_bytes(figure, dpi=40).startswith(PNG)


def test_prediction_writes_the_r2_bias_and_scatter_of_finite_pairs():
    rng = np.random.default_rng(3)
    truth = rng.uniform(3500, 7000, 300)
    predicted = truth + rng.normal(30, 300, 300)
    holes = truth.copy()
    holes[::10] = np.nan
    good = np.isfinite(holes)
    residual = predicted[good] - truth[good]
    text = "\n".join(words(plots.prediction_figure(holes, predicted, "Teff [K]")))
    assert f"$R^2$ = {r2_score(truth[good], predicted[good]):.3f}" in text
    assert f"bias = {residual.mean():.3g}" in text
    assert f"NMAD = {1.4826 * np.median(np.abs(residual - np.median(residual))):.3g}" in text
    assert "N = 270" in text


@pytest.mark.parametrize(
    ("stars", "kind"), [(300, "PathCollection"), (1500, "HexBinCollection|PolyCollection")]
)
def test_few_stars_are_points_and_many_a_density(stars, kind):
    truth = np.random.default_rng(3).uniform(3500, 20000, stars)
    above, below = plots.prediction_figure(truth, truth * 1.01, "Teff [K]").axes[:2]
    for axes in (above, below):
        assert type(axes.collections[0]).__name__ in kind.split("|")
        assert axes.get_xscale() == "log"
    assert below.get_yscale() == "linear"
    gravity = plots.prediction_figure(truth / 4000, truth / 4000, "log g [dex]")
    assert gravity.axes[0].get_xscale() == "linear"
    assert plots.png_bytes(gravity, dpi=30)


def test_a_rare_class_is_not_drawn_over_all_of_a_frequent_one():
    rng = np.random.default_rng(0)
    names = np.where(np.arange(400) < 20, "rare", "frequent")
    figure = plots.class_map_figure(*rng.normal(size=(2, 400)), names, "class")
    drawn = [c for c in figure.axes[0].collections if len(c.get_offsets())]
    sizes = [len(c.get_offsets()) for c in drawn]
    assert sum(sizes) == 400
    first_rare = next(i for i, n in enumerate(sizes) if n < 20)
    assert any(n > 20 for n in sizes[first_rare:])
    legend = [t.get_text() for t in figure.axes[0].get_legend().get_texts()]
    assert legend == ["frequent (380)", "rare (20)"]


def test_prediction_without_a_finite_pair_is_refused():
    with pytest.raises(UsageError, match="Teff"):
        plots.prediction_figure([np.nan, 1.0], [1.0, np.nan], "Teff [K]")


@pytest.mark.parametrize("modelled", [True, False])
def test_only_modelled_data_is_called_modelled(modelled):
    figure = generated(FLUX, modelled=modelled)
    legend = [t.get_text() for t in figure.legends[0].get_texts()]
    assert any("modelled" in t.lower() for t in words(figure)) == modelled
    assert any("modelled" in t for t in legend) == modelled
    assert any("observed" in t for t in legend) != modelled


def test_residual_is_in_sigma_and_skips_bad_pixels():
    observed, sigma = FLUX + 10, np.full_like(FLUX, 4.0)
    observed[5] = np.nan
    sigma[7] = 0.0
    figure = generated(observed, sigma)
    z = line(figure.axes[1], plots.COLOURS[0])
    assert np.isnan(z[[5, 7]]).all()
    np.testing.assert_allclose(np.delete(z, [5, 7]), 10 / 4)
    assert figure.axes[1].get_ylabel() == "residual [σ]"


def test_without_an_observation_there_is_no_residual():
    assert len(generated(None).axes) == 1
    assert len(generated(np.full_like(FLUX, np.nan)).axes) == 1


def test_lines_are_the_air_wavelengths_in_vacuum():
    air = {  # A, NIST; of Mg b the middle line, of Na D the mean of both
        "Ca II K": [3933.66], "Ca II H": [3968.47], "Hδ": [4101.73], "Hγ": [4340.46],
        "Hβ": [4861.35], "Mg b": [5172.68], "Na D": [(5889.95 + 5895.92) / 2], "Hα": [6562.79],
        "Ca II": [8498.02, 8542.09, 8662.14], "Paδ": [10049.37],
    }  # fmt: skip
    expected = vacuum(np.array([line for lines in air.values() for line in lines])) / 10
    np.testing.assert_allclose([w for _, w in plots.LINES], expected, atol=0.006)
    assert list(dict.fromkeys(n for n, _ in plots.LINES)) == list(air)


def test_lines_outside_the_range_are_not_drawn():
    rvs = np.linspace(846, 870, 50)
    figure = generated(None, axis=rvs)
    assert [t.strip() for t in words(figure) if "%" not in t and t != "generated"] == ["Ca II"] * 3


def test_recall_marks_chance_at_k_of_candidates():
    row = {"direction": "a", "recall@1": 0.1, "recall@5": 0.3, "recall@10": 0.6, "candidates": 50}
    axes = plots.recall_figure([row]).axes[0]
    marks = {float(c.get_segments()[0][0][1]) for c in axes.collections}
    assert sorted(marks) == pytest.approx([1 / 50, 5 / 50, 10 / 50])
    assert [bar.get_height() for bar in axes.patches] == [0.1, 0.3, 0.6]
    assert axes.get_yscale() == "log"


@pytest.mark.parametrize(("suffix", "magic"), [("png", PNG), ("pdf", b"%PDF-"), ("svg", b"<?xml")])
def test_save_writes_the_format_of_the_suffix_and_no_other_file(tmp_path, suffix, magic):
    path = tmp_path / f"loss.{suffix}"
    plots.save(plots.curves_figure([0, 1], {"a": [2, 1]}, "loss"), path)
    assert path.read_bytes().startswith(magic)
    assert list(tmp_path.iterdir()) == [path]


def test_a_save_that_fails_keeps_the_old_file_and_leaves_no_other(tmp_path, monkeypatch):
    path = tmp_path / "loss.png"
    path.write_bytes(b"old")

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(MmclipError, match="the disk is full"):
        plots.save(plots.curves_figure([0, 1], {"a": [2, 1]}, "loss"), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unknown_suffix_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match=r"\.bmp"):
        plots.save(plots.curves_figure([], {}, "loss"), tmp_path / "loss.bmp")
    assert not list(tmp_path.iterdir())
