"""Wavelengths: air to vacuum, units, and grids that a file states instead of listing."""

import json
import re
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array
from mmclip.errors import IntegrityError, UsageError
from mmclip.modalities.air import vacuum as vacuum

ANGSTROM = {"a": 1.0, "aa": 1.0, "angstrom": 1.0, "nm": 10.0, "um": 1e4, "micron": 1e4, "m": 1e10}
GRID = re.compile(r"(log10_)?wavelength_(A|nm|um)")
LONGEST = 1_000_000  # samples of one spectrum


def parse_grid(text: str) -> NDArray[np.float64]:
    """`START:STEP:COUNT` as the wavelengths START + STEP i.

    Raises:
        UsageError: If it is not three numbers that make a grid.
    """
    try:
        start, step, count = text.split(":")
        return grid(float(start), float(step), int(count))
    except (ValueError, IntegrityError):
        raise UsageError(
            f"'{text}' is not a grid START:STEP:COUNT", 'for example "wavelength=3540.5:0.9:4300"'
        ) from None


def grid(start: float, step: float, count: int) -> NDArray[np.float64]:
    """start + step i for i < count."""
    if not (np.isfinite(start) and np.isfinite(step) and step != 0 and 0 < count <= LONGEST):
        raise IntegrityError(f"a wavelength grid of {count} samples from {start} by {step}")
    return np.asarray(start + step * np.arange(count), np.float64)


def stated(metadata: Mapping[bytes, bytes] | None) -> NDArray[np.float64] | None:
    """The grid a Parquet schema states, in Angstrom: `wavelength_nm`, `log10_wavelength_A` ...

    The value is JSON: {"start": 336.0, "step": 2.0, "n": 343}.
    """
    for key, value in (metadata or {}).items():
        match = GRID.fullmatch(key.decode(errors="replace"))
        if match is None:
            continue
        try:
            body = json.loads(value)
            found = grid(float(body["start"]), float(body["step"]), int(body["n"]))
        except (ValueError, KeyError, TypeError):
            continue
        found = 10**found if match[1] else found
        return np.asarray(found * ANGSTROM[match[2].lower()])
    return None


def order(wavelength: Array, *others: Array) -> tuple[Array, ...]:
    """Sorted by wavelength; pixels without a positive finite wavelength (padding) are dropped."""
    real = np.isfinite(wavelength) & (wavelength > 0)
    index = np.flatnonzero(real)[np.argsort(wavelength[real], kind="stable")]
    return tuple(np.asarray(a)[index] for a in (wavelength, *others))


def sigma(ivar: Array) -> NDArray[np.float64]:
    """1-sigma error of an inverse variance; NaN where that is not positive."""
    ivar = np.asarray(ivar, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(ivar > 0, 1 / np.sqrt(ivar), np.nan)
