"""Heads: what turns features of stars into labels. A file here that defines HEAD is one.

n stars, d features, t targets. Targets are standardised numbers (mean 0, deviation 1 of the
training stars, NaN where unknown) or, for a class, 1 in the column of the star's own and else 0;
what is predicted of a class is any score that a softmax turns into probabilities.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip import plugins

Floats = NDArray[np.floating[Any]]
State = dict[str, NDArray[Any]]  # what a fitted head is: arrays alone
FITTING = ("rows", "left_out")  # entries of a state that are of its training stars alone
Predict = Callable[[Floats], Floats]  # [n, d] -> [n, t]


@dataclass(frozen=True)
class Sample:
    """Stars to learn from.

    Attributes:
        x: [n, d] features.
        y: [n, t] targets, NaN where unknown.
        weight: [n] of a star, from the errors of its labels; 1 is ordinary.
        gain: [d] what brings the features to one scale for a network.
        form: [d] what each feature is: see `features.Form`; `flux twice` is a spectrum that is
            there as `flux / error` too. None: one kind.
        classes: Ranges [first, after) of the targets that are the classes of one label.
        star: [n] rows that are one star on the sky share a number; None: each is a star.
        draws: [draws, n, d] the features once more, of random parts of the light curves.
    """

    x: NDArray[np.float32]
    y: Floats
    weight: Floats
    gain: Floats
    form: NDArray[np.str_] | None = None
    classes: tuple[tuple[int, int], ...] = ()
    star: NDArray[np.int64] | None = None
    draws: NDArray[np.float32] | None = None

    @property
    def every(self) -> NDArray[np.float32]:
        """[1 + draws, n, d] the features of the whole view, and of its draws."""
        return self.x[None] if self.draws is None else np.concatenate([self.x[None], self.draws])

    def of(self, rows: NDArray[Any]) -> "Sample":
        """Some of the stars."""
        star = None if self.star is None else self.star[rows]
        draws = None if self.draws is None else self.draws[:, rows]
        return replace(self, x=self.x[rows], y=self.y[rows], weight=self.weight[rows], star=star,
                       draws=draws)  # fmt: skip

    def features(self, weighted: bool = False, spectra: bool = False) -> NDArray[np.int64]:
        """Which features to read, each spectrum once.

        Args:
            weighted: Spectra in units of their errors, where there are any.
            spectra: Without columns of tables, where there are spectra.
        """
        if self.form is None:
            return np.arange(self.x.shape[1])
        kept = self.form != ("flux twice" if weighted else "flux / error")
        if spectra and np.char.startswith(self.form, "flux").any():
            kept &= self.form != "columns"
        return np.flatnonzero(kept)


def leading(sample: Sample, columns: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Of some features, the components of spectra of largest variance, and all that are none."""
    spectra = np.ones(len(columns), bool)
    if sample.form is not None:
        spectra = np.char.startswith(sample.form[columns], "flux")
    variance = np.where(spectra, sample.x[:, columns].var(axis=0), -1.0)
    kept = ~spectra
    kept[np.argsort(-variance, kind="stable")[: min(most, int(spectra.sum()))]] = True
    return columns[kept]


@dataclass(frozen=True)
class Head:
    """The contract of a head.

    Attributes:
        name: On the command line.
        title: For people.
        fit: (sample, seed, a state whose choices are taken again or None) -> state.
        open: A state -> what predicts; states are stored as arrays.
        parts: Heads whose answers are averaged; then `fit` and `open` are not asked.
        folds: For predictions of the training stars out of fold.
        left_out: (sample, its state) -> [n, t] the training stars, each predicted by the others,
            where a formula gives that; it goes before `folds`.
        draws: Learns from all draws of a star, and answers with the mean over them; else the head
            sees the whole view alone.
    """

    name: str
    title: str
    fit: Callable[[Sample, int, State | None], State] | None = None
    open: Callable[[State], Predict] | None = None
    parts: tuple[str, ...] = ()
    folds: int = 5
    left_out: Callable[[Sample, State], Floats] | None = None
    draws: bool = False


def head(name: str) -> Head:
    """The head of a name, one of the user's own by its dotted name.

    Raises:
        NotFound: If there is none.
    """
    found: Head = plugins.load("tasks.predict.heads", name, "HEAD")
    return found


def names() -> list[str]:
    """Every head there is."""
    return plugins.names("tasks.predict.heads")
