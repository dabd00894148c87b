"""Wavelengths in air and in vacuum, Angstrom."""

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array


def vacuum(wavelength: Array) -> NDArray[np.float64]:
    """Air -> vacuum wavelengths, Angstrom; below 2000 A, where the convention ends, unchanged.

    Source: N. Piskunov's inverse of Morton (2000, ApJS 130, 403), as used by VALD3.
    """
    wavelength = np.asarray(wavelength, np.float64)
    s2 = (1e4 / np.maximum(wavelength, 1.0)) ** 2
    n = (
        1 + 8.336624212083e-5 + 2.408926869968e-2 / (130.1065924522 - s2)
        + 1.599740894897e-4 / (38.92568793293 - s2)
    )  # fmt: skip
    return np.where(wavelength >= 2000, wavelength * n, wavelength)


def air(wavelength: Array) -> NDArray[np.float64]:
    """Vacuum -> air wavelengths, Angstrom; below 2000 A they are returned as they are.

    Source: Morton (2000, ApJS 130, 403), equation 8 (Birch & Downs 1994).
    """
    wavelength = np.asarray(wavelength, np.float64)
    s2 = (1e4 / np.maximum(wavelength, 1.0)) ** 2
    n = 1 + 8.34254e-5 + 2.406147e-2 / (130 - s2) + 1.5998e-4 / (38.9 - s2)
    return np.where(wavelength > 2000, wavelength / n, wavelength)
