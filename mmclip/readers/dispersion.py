"""Wavelengths of a FITS image from its header: the FITS standard's spectral axes, and IRAF's."""

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.errors import UsageError
from mmclip.readers import units, wavelength

# Spectral types of WCS paper III that a wavelength follows from without a rest frequency.
TYPES = ("WAVE", "AWAV", "FREQ", "ENER", "WAVN")
SI = {"WAVE": "m", "AWAV": "m", "FREQ": "Hz", "ENER": "J", "WAVN": "m-1"}


def axis(header: Any, count: int) -> tuple[NDArray[np.float64], bool]:
    """Wavelength (Angstrom) of each pixel of the first axis, and whether it is in air.

    CTYPE1 of the FITS standard (WAVE, AWAV, FREQ, ENER, WAVN with -LOG, -F2W ...) is read by
    astropy.wcs with CUNIT1; otherwise the axis is linear, or log10 where `DC-FLAG` is 1 (IRAF), or
    CTYPE1 speaks of LOG, or COEFF0 stands for CRVAL1 (SDSS). Without CUNIT1 it is in Angstrom.

    Raises:
        UsageError: If there is no axis, its unit is unknown, or a velocity axis has no rest value.

    Source:
        FITS standard 4.0, section 8.4; Greisen et al. 2006, A&A 446, 747; Valdes 1993 (IRAF).
    """
    kind = str(header.get("CTYPE1", "")).strip().upper()
    unit = str(header.get("CUNIT1", "")).strip() or _wat_unit(header)
    step = header.get("CDELT1", header.get("CD1_1", header.get("COEFF1")))
    first = header.get("CRVAL1", header.get("COEFF0"))
    if "CD1_1" in header and header.get("CDELT1") in (None, 1, 1.0):
        step = header["CD1_1"]
    if step is None or first is None:
        raise UsageError("the image states no wavelengths (CRVAL1, CDELT1)", "--as image?")
    head = kind[:4]
    air = head == "AWAV" or bool(units.described(header))
    iraf = header.get("DC-FLAG") == 1 or "COEFF0" in header or kind in ("LOG-LINEAR", "LOGLAM")
    if kind[:4] in ("VELO", "VRAD", "VOPT", "ZOPT", "BETA"):
        raise UsageError(
            f"the axis {kind} is a velocity, not a wavelength",
            '--columns "wavelength=START:STEP:COUNT"',
        )
    start = float(first) + float(step) * (1 - float(header.get("CRPIX1", 1)))
    if iraf or (head not in TYPES and "LOG" in kind) or unit.lower().startswith("log"):
        values = wavelength.grid(start, float(step), count)
        inner = units.LOGARITHM.fullmatch(unit)
        return units.angstrom(values, f"log({inner[1] if inner else unit or 'Angstrom'})",
                              "CUNIT1"), air  # fmt: skip
    if head in TYPES and kind[4:5] == "-":
        return _standard(kind, unit or _guessed(head, float(first)), float(first), float(step),
                         float(header.get("CRPIX1", 1)), count), air  # fmt: skip
    values = wavelength.grid(start, float(step), count)
    if not unit and head in TYPES and kind == head:
        unit = _guessed(head, float(first))
    return units.angstrom(values, unit or "Angstrom", "CUNIT1"), air


def _guessed(head: str, first: float) -> str:
    return "Angstrom" if head in ("WAVE", "AWAV") and first > 100 else SI[head]


def _standard(
    kind: str, unit: str, first: float, step: float, pixel: float, count: int
) -> NDArray[np.float64]:
    """A non-linear axis of WCS paper III, by astropy.wcs."""
    from astropy.wcs import WCS

    known = units.known(unit)
    if known is None:
        raise UsageError(
            f"the unit '{unit}' of CUNIT1 is not known", '--columns "wavelength=START:STEP:COUNT"'
        )
    made = WCS(naxis=1)
    made.wcs.ctype, made.wcs.cunit = [kind], [known.to_string("fits")]
    made.wcs.crval, made.wcs.cdelt, made.wcs.crpix = [first], [step], [pixel]
    try:
        made.wcs.set()
    except Exception as error:  # wcslib's own, one class for each fault
        raise UsageError(
            f"the axis CTYPE1 = '{kind}' cannot be read: {error}",
            '--columns "wavelength=START:STEP:COUNT"',
        ) from error
    world = np.asarray(made.wcs_pix2world(np.arange(count)[:, None], 0), np.float64)[:, 0]
    return units.angstrom(world, str(made.wcs.cunit[0]), "CUNIT1")


def _wat_unit(header: Any) -> str:
    match = re.search(r"units\s*=\s*(\S+)", _wat(header, 1))
    return match[1].strip("'\"") if match else ""


def _wat(header: Any, number: int, fill: bool = True) -> str:
    """The text that IRAF cuts into cards WAT1_001, WAT1_002 ... of 68 characters each.

    `fill`: blanks at the end of a card, which FITS drops, are put back.
    """
    keys = sorted(k for k in header if re.fullmatch(rf"WAT{number}_\d{{3}}", k))
    return "".join(str(header[k]).ljust(68 if fill and k != keys[-1] else 0) for k in keys)


def is_multispec(header: Any) -> bool:
    """Whether an image has one dispersion a row (IRAF multispec)."""
    return "MULTISPE" in str(header.get("CTYPE1", "")).upper()


def multispec(header: Any, rows: int, count: int) -> list[NDArray[np.float64] | str]:
    """Wavelength (Angstrom) of each row of an IRAF multispec image, or why there is none.

    Source:
        The IRAF/NOAO spectral world coordinate systems (Valdes 1993): `specN = "ap beam dtype w1
        dw nw z aplow aphigh [functions]"`; dtype 0 linear, 1 log-linear, 2 a sum of functions.
    """
    unit = _wat_unit(header) or "Angstrom"
    written = r'spec(\d+)\s*=\s*"([^"]*)"'
    found = max((dict(re.findall(written, _wat(header, 2, fill))) for fill in (True, False)),
                key=len)  # fmt: skip
    made: list[NDArray[np.float64] | str] = []
    for row in range(rows):
        words = found.get(str(row + 1), "").split()
        if len(words) < 7:
            made.append("no dispersion in WAT2")
            continue
        kind, start, step, pixels, shift = int(words[2]), *map(float, words[3:7])
        x = np.arange(1, count + 1, dtype=np.float64)
        if kind in (0, 1):
            values = start + step * (x - 1)
            values = 10**values if kind == 1 else values
        elif kind == 2:
            values = _functions(list(map(float, words[9:])), x)
        else:
            made.append(f"dispersion of type {kind} (only linear, log and functions are read)")
            continue
        values = np.where(x <= pixels, values / (1 + shift), np.nan)
        made.append(units.angstrom(values, unit, "WAT1"))
    return made


def _functions(words: list[float], x: NDArray[np.float64]) -> NDArray[np.float64]:
    total = np.zeros(len(x))
    while len(words) >= 3:
        weight, zero, kind = words[0], words[1], int(words[2])
        if kind not in (1, 2):
            raise UsageError(
                f"a dispersion by function {kind} (only Chebyshev and Legendre are read)",
                '--columns "wavelength=START:STEP:COUNT"',
            )
        order, low, high = int(words[3]), words[4], words[5]
        coefficients, words = words[6 : 6 + order], words[6 + order :]
        scaled = (x - (high + low) / 2) / ((high - low) / 2)
        of = np.polynomial.chebyshev.chebval if kind == 1 else np.polynomial.legendre.legval
        total += weight * (zero + of(scaled, coefficients))
    return total
