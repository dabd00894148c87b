"""Pictures of generated folded light curves."""

from types import SimpleNamespace

import numpy as np
import pytest

from mmclip import plots
from mmclip.datasets.objects import Portrait
from mmclip.errors import UsageError
from mmclip.modalities import photometry_folded
from mmclip.plots.answers import folded_beside

SETTINGS = photometry_folded.FoldedSettings(bins=16)


def made(labels):
    """A star generated as entry number / 100, with intervals of one hundredth for each per cent."""
    mean = np.arange(len(labels))[None] / 100
    return SimpleNamespace(
        axis=None, labels=labels, to="photometry_folded", start="metadata", source_id=[7],
        mean=mean, observed=np.full_like(mean, np.nan), provenance="observed",
        interval=lambda part: (mean - part, mean + part),
    )  # fmt: skip


def test_a_folded_curve_is_drawn_at_p_and_at_2p_over_two_cycles():
    figure = plots.generated_figure(made(photometry_folded.labels(SETTINGS)), 0)
    assert [a.get_title(loc="left") or a.get_title() for a in figure.axes] == [
        "folded at P", "folded at 2P",
    ]  # fmt: skip
    for axes, first in zip(figure.axes, (0, 3), strict=True):  # of six channels a bin
        (line,) = axes.lines
        phase, values = line.get_data()
        assert (phase[0], phase[-1]) == (0.5 / 16, 2 - 0.5 / 16)
        np.testing.assert_allclose(values[:16], (first + 6 * np.arange(16)) / 100)
        np.testing.assert_array_equal(values[:16], values[16:])


def test_a_folded_curve_names_the_period_and_where_phase_0_is():
    shown = made(photometry_folded.labels(SETTINGS))
    figure = plots.generated_figure(shown, 0, {7: 0.25}, "faintest")
    assert [a.get_title(loc="left") for a in figure.axes] == [
        "folded at P = 0.25 d", "folded at 2P = 0.5 d",
    ]  # fmt: skip
    assert {a.get_xlabel() for a in figure.axes} == {"phase (0: faintest)"}


@pytest.mark.parametrize(("known", "kinds"), [
    ({1: 0.5}, ["light curve", "folded light curve", "light curve"]),
    ({2: 0.5}, ["light curve", "folded light curve"]),
    ({}, ["light curve", "light curve"]),
])  # fmt: skip
def test_a_query_that_is_folded_is_shown_in_order_of_time_too(known, kinds):
    def curve(i):
        time = np.linspace(0, 3, 30)
        return Portrait(i, "photometry", "light curve", time, np.sin(12 * time), None, "", "")

    shown = folded_beside([curve(1)], [curve(2)], known)
    assert [p.kind for p, _ in shown] == kinds
    assert [queried for _, queried in shown] == [p.source_id == 1 for p, _ in shown]


def test_a_view_without_wavelengths_or_phases_is_not_drawn():
    with pytest.raises(UsageError, match="wavelengths or phases"):
        plots.generated_figure(made(["teff", "logg"]), 0)
