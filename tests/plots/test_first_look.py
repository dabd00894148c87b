"""The first picture: a map, the neighbours of a star, labels with their intervals."""

import numpy as np

from mmclip import plots


def test_the_first_look_shows_the_star_its_neighbours_and_the_intervals():
    rng = np.random.default_rng(0)
    stars, pixels, tested = 50, 40, 12
    truth = rng.normal(size=tested)
    look = plots.Look(
        rng.normal(size=(stars, 2)), rng.uniform(3500, 8000, stars), 3, [4, 7],
        np.linspace(400, 900, pixels), rng.normal(size=(3, pixels)), "photometry", "XP spectrum",
        truth, truth + 0.1, truth - 0.1, truth + 0.4, 5, "[M/H]",
    )  # fmt: skip
    places, spectra, labels = plots.first_look_figure(look).axes[:3]
    star, neighbours = places.collections[-1], places.collections[-2]
    np.testing.assert_allclose(star.get_offsets(), look.positions[[3]])
    np.testing.assert_allclose(neighbours.get_offsets(), look.positions[[4, 7]])
    assert len(spectra.lines) == 3
    np.testing.assert_allclose(spectra.lines[0].get_ydata(), look.spectra[0])
    others, mine = labels.containers
    ends = mine.lines[2][0].get_segments()[0][:, 1]
    np.testing.assert_allclose(ends, [truth[5] - 0.1, truth[5] + 0.4])
    assert len(others.lines[0].get_xdata()) == tested - 1
