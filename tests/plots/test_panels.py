"""Pictures of several objects or methods: what stands in which panel."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmclip import plots
from mmclip.datasets.objects import Portrait
from mmclip.errors import UsageError
from tests.cli.test_cli import ask

RNG = np.random.default_rng(0)
PNG = b"\x89PNG\r\n\x1a\n"


def stars(count=3, length=12, axis=None, labels=None, never=None):
    """Generated views: star i is i + entry / 100, observed a tenth higher."""
    mean = np.arange(count)[:, None] + np.arange(length) / 100
    return SimpleNamespace(
        axis=axis, labels=labels or [str(i) for i in range(length)], to="rvs", start="xp",
        unit="flux", source_id=np.arange(count) + 70, mean=mean, sigma=np.full_like(mean, 0.1),
        samples=None, observed=mean + 0.1, error=np.full_like(mean, 0.01), never=never,
        provenance="observed", interval=lambda part: (mean - part, mean + part),
    )  # fmt: skip


def portrait(i, kind="spectrum"):
    y = RNG.random((8, 8, 3)) if kind == "image" else np.linspace(0.001, i + 1, 8)
    return Portrait(i, "rvs", kind, np.arange(8.0), y, None, "wavelength [nm]", "flux")


def test_several_generated_spectra_stand_beside_each_other():
    axis = np.linspace(846, 870, 12)
    figure = plots.generated_figure(stars(6, axis=axis), range(6))
    assert len(figure.axes) == 2 * 4  # at most four stars, each with its residual
    assert [a.get_title(loc="left") for a in figure.axes[:4]] == ["70", "71", "72", "73"]
    for i, axes in enumerate(figure.axes[:4]):
        drawn = [l.get_ydata() for l in axes.lines if l.get_color() == plots.COLOURS[1]]
        np.testing.assert_allclose(drawn[0], i + np.arange(12) / 100)


def test_pixels_that_no_star_has_are_marked_and_not_drawn():
    axis, never = np.linspace(846, 870, 12), np.arange(12) < 3
    figure = plots.generated_figure(stars(1, axis=axis, never=never), 0)
    drawn = next(l.get_ydata() for l in figure.axes[0].lines if l.get_color() == plots.COLOURS[1])
    np.testing.assert_array_equal(np.isnan(drawn), never)
    assert "never observed" in [t.get_text() for t in figure.legends[0].get_texts()]


def test_coefficients_are_drawn_by_band_on_a_symmetric_logarithm():
    labels = [f"{band} {k}" for band in ("BP", "RP") for k in range(6)]
    figure = plots.generated_figure(stars(2, labels=labels), [0, 1])
    assert [a.get_yscale() for a in figure.axes] == ["symlog"] * 4
    assert [a.get_title(loc="left") for a in figure.axes] == [
        "BP, 70",
        "RP, 70",
        "BP, 71",
        "RP, 71",
    ]
    crosses = next(l.get_ydata() for l in figure.axes[3].lines if l.get_marker() == "x")
    np.testing.assert_allclose(crosses, 1 + np.arange(6, 12) / 100)


def test_queries_stand_in_rows_and_what_was_not_observed_is_said():
    rows = [[(portrait(i), f"object {i}", plots.COLOURS[0]) for i in range(3)],
            [(portrait(3, "coefficients"), "query", "red"), (None, "lost", "")]]  # fmt: skip
    figure = plots.rows_figure(rows)
    assert len(figure.axes) == 6
    assert figure.axes[3].get_yscale() == "symlog"
    assert "lost" in [t.get_text() for t in figure.axes[4].texts]
    with pytest.raises(UsageError, match="nothing to draw"):
        plots.rows_figure([[(None, "lost", "")]])


@pytest.mark.parametrize("kind", ["image", "spectrum"])
def test_groups_are_drawn_on_the_map_beside_their_objects(kind):
    positions = RNG.normal(size=(60, 2)).astype("f4")
    labels = np.arange(60) % 3 - 1
    objects = {0: [portrait(1, kind)], 1: [portrait(2, kind), portrait(3, kind)]}
    figure = plots.clusters_figure(positions, labels, objects, "groups")
    assert [len(c.get_offsets()) for c in figure.axes[0].collections] == [20, 20, 20]
    assert [t.get_text() for t in figure.axes[0].texts] == ["0", "1"]
    assert plots.png_bytes(figure)[:8] == PNG


def test_scans_have_a_column_a_label_and_clipped_sigma_below():
    rows = [
        {"target": label, "method": method, "size": size, "R2": 0.5, "R2 +-": 0.1, "scatter": 0.2,
         "scatter +-": 0.01}
        for label in ("fe_h", "alpha_m") for method, size in (("lora", 50), ("lora", 100),
                                                               ("pipeline", 0))
    ]  # fmt: skip
    rows.append({"target": "fe_h x alpha_m", "method": "lora", "size": 50, "R2": None})
    figure = plots.scans_figure(rows)
    assert [a.get_title(loc="left") for a in figure.axes] == ["fe_h", "alpha_m", "", ""]
    assert figure.axes[2].get_ylabel() == "σ after 3σ clipping"


def test_one_to_one_panels_say_what_the_pairs_give():
    truth = np.linspace(-2, 0, 30)
    pairs = {"fe_h": {"lora": (truth, truth + 0.1), "pipeline": (truth, np.full(30, np.nan))}}
    figure = plots.one_to_one_figure(pairs, {"fe_h": "[Fe/H] [dex]"})
    # Sum of squared residuals 30 x 0.01 over 30 x the variance of the truth.
    r2 = 1 - 0.01 / truth.var()
    assert f"{r2:.3f}" in figure.axes[0].texts[0].get_text()
    assert not figure.axes[1].texts
    with pytest.raises(UsageError):
        plots.one_to_one_figure({}, {})


def test_planes_begin_with_the_reference_and_give_each_mmd():
    cloud = RNG.normal(size=(40, 2))
    figure = plots.plane_figure(cloud, {"lora": (cloud[:30], 0.0123)}, ("[Fe/H]", "[α/Fe]"))
    titles = [a.get_title(loc="left") for a in figure.axes if a.get_visible()]
    assert titles == ["reference", "lora"]
    assert "0.0123" in figure.axes[1].texts[0].get_text()


@pytest.mark.parametrize("more", [("--to", "xp"), ("--contrast", "xp")])
def test_search_draws_queries_with_their_own_view_and_a_contrasted_one(
    trained, tmp_path, capsys, more
):
    from mmclip.artifacts.workspace import Workspace
    from mmclip.vectors.store import Store

    store = Store(Workspace(trained).get("vectors", None))
    ids = store.source_id[store.of("test")][:2].tolist()
    file = tmp_path / "x.png"
    code, _, err = ask(capsys, "search", "--query-id", ids[0], "--query-id", ids[1], "--from",
                       "metadata", *more, "-k", "3", "--plot", file, "-w", trained)  # fmt: skip
    assert code == 0, err
    assert file.read_bytes()[:8] == PNG


def test_groups_of_a_store_are_drawn_with_the_objects_nearest_their_middle(trained):
    from mmclip.artifacts.workspace import Workspace
    from mmclip.datasets.build import open_dataset

    data = open_dataset(Workspace(trained).get("data", None))
    count = len(data.source_id)
    positions = np.stack([np.arange(count), np.arange(count)], axis=1).astype("f4")
    labels = (np.arange(count) >= count // 2).astype(np.int64)
    figure = plots.grouped_figure(data, None, positions, labels, data.source_id, ["metadata", "xp"])
    assert [t.get_text() for t in figure.axes[0].texts] == ["0", "1"]
    assert len(figure.axes) == 1 + 2 * 3
