"""What an observation is: columns with units, and how a raw row becomes numbers.

A modality is one file that defines `MODALITY`. Its functions are NumPy only and work on many
objects at once. NaN marks a value that was not observed; it is never invented.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Columns = Mapping[str, NDArray]


@dataclass(frozen=True)
class Column:
    """One raw column: `length` 1 is a scalar, more a fixed-size list, 0 a list of any length."""

    name: str
    unit: str
    meaning: str
    length: int = 1


@dataclass(frozen=True)
class Prepared:
    """Many objects made ready, before normalisation over the data set.

    Attributes:
        values: [objects, length] float32; NaN where not observed.
        errors: [objects, length] float32, 1-sigma in the unit of `values`; None if unknown.
        reasons: [objects] of text; empty for a good object, else why it is rejected.
    """

    values: NDArray[np.float32]
    errors: NDArray[np.float32] | None
    reasons: NDArray[np.object_]


@dataclass(frozen=True)
class Modality:
    """The contract of a modality.

    Attributes:
        name: As typed on the command line.
        title: For people.
        columns: The raw columns it reads, beside `source_id`.
        labels: Names of the entries of a prepared vector ([length]).
        axis: Wavelength or the like of each entry ([length], in `axis_unit`), or None.
        unit: Unit of a prepared value.
        prepare: Raw columns -> `Prepared`.
        encoder: Name of the encoder that is used when none is asked for.
        shape: Shape of one object where it is more than a vector, row-major in the stored one:
            (200, 9) for a light curve, (3, 96, 96) for an image.
        normalisation: Fixes how entries are normalised over the training split: `z`, `mad`, or
            `none` where `prepare` normalises each object by itself; empty: the user chooses.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    labels: Callable[[], list[str]]
    unit: str
    prepare: Callable[[Columns], Prepared]
    encoder: str
    axis: Callable[[], Array] | None = None
    axis_unit: str = ""
    shape: tuple[int, ...] = ()
    normalisation: str = ""

    @property
    def size(self) -> tuple[int, ...]:
        """Shape of one prepared object; its product is the length of a prepared vector."""
        return self.shape or (len(self.labels()),)


@dataclass(frozen=True)
class Statistics:
    """Centre and scale of each entry over the training split ([length] each)."""

    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    method: str


def statistics(values: Array, method: str = "z") -> Statistics:
    """Centre and scale of each column, of the finite values alone.

    Args:
        values: [objects, length]; NaN where not observed.
        method: `z` (mean and population standard deviation), `mad` (median and 1.4826 times
            the median absolute deviation) or `none` (centre 0, scale 1).

    Returns:
        `Statistics`; a column that does not vary, or was never observed, gets scale 1.
    """
    length = values.shape[1]
    centre, scale = np.zeros(length), np.ones(length)
    for j in range(length if method != "none" else 0):
        column = values[:, j].astype(np.float64)
        column = column[np.isfinite(column)]
        if len(column) == 0:
            continue
        if method == "mad":
            centre[j] = np.median(column)
            spread = 1.4826 * np.median(np.abs(column - centre[j]))
        else:
            centre[j] = column.mean()
            spread = column.std()
        # A constant column has a spread of rounding errors, not of stars.
        if spread > 1e-12 * max(1.0, abs(centre[j])):
            scale[j] = spread
    return Statistics(centre, scale, method)


def normalise(values: Array, by: Statistics) -> NDArray[np.float32]:
    """(values - centre) / scale, NaN kept."""
    return ((values - by.centre) / by.scale).astype(np.float32)


def restore(values: Array, by: Statistics) -> NDArray[np.float64]:
    """The inverse of `normalise`: back to the modality's own unit."""
    return values.astype(np.float64) * by.scale + by.centre


def restore_error(errors: Array, by: Statistics) -> NDArray[np.float64]:
    """A spread in normalised units, back in the modality's own unit."""
    return errors.astype(np.float64) * by.scale
