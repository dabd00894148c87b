"""Units as files write them, by astropy: any that it knows, and the spellings of surveys."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from astropy import units as u
from numpy.typing import NDArray

from mmclip.errors import UsageError

# What files write that is no unit of astropy's, in lower case.
SPELLINGS = {
    "a": "Angstrom", "aa": "Angstrom", "ang": "Angstrom", "angstroms": "Angstrom",
    "ångström": "Angstrom", "ångströms": "Angstrom", "å": "Angstrom", "angstroem": "Angstrom",
    "nanometers": "nm", "nanometres": "nm", "nanometre": "nm", "micrometers": "um",
    "micrometres": "um", "micrometre": "um", "microns": "um", "mic": "um", "µm": "um", "μm": "um",
    "meters": "m", "metres": "m", "kayser": "cm-1", "1/cm": "cm-1", "cm^-1": "cm-1",
    "cm**-1": "cm-1", "icm": "cm-1", "hertz": "Hz", "electronvolt": "eV", "electronvolts": "eV",
    "hours": "h", "hourangle": "h", "hms": "h", "degrees": "deg", "degree": "deg", "radians": "rad",
    "days": "d", "seconds": "s", "sec": "s", "secs": "s", "minutes": "min", "years": "yr",
    "milliseconds": "ms", "msec": "ms", "nanoseconds": "ns", "microseconds": "us",
}  # fmt: skip
NONE = ("", "none", "null", "-", "---", "--", "unitless", "dimensionless", "adu", "counts")
LOGARITHM = re.compile(r"(?:log10|log|dex|lg)\s*[\(\[]\s*(.*?)\s*[\)\]]", re.IGNORECASE)
SUFFIX = re.compile(r"^(.*?)\s*[\[\(]\s*([^\[\]\(\)]+?)\s*[\]\)]$")


def of(field: pa.Field) -> str:
    """The unit that a column states, as it stands in the file."""
    stated = field.metadata or {}
    found = next((stated[k] for k in stated if k.lower() in (b"unit", b"units", b"tunit")), b"")
    return str(found.decode(errors="replace")).strip()


def factor(stated: str, wanted: str) -> float | None:
    """What a value of one unit is in another; None where either is unknown, or they do not fit.

    >>> factor("mmag", "mag"), factor("uJy", "mJy"), factor("Jy", "mag")
    (0.001, 0.001, None)
    """
    one, other = known(stated), known(wanted)
    if one is None or other is None or stated.lower() in NONE or wanted.lower() in NONE:
        return None
    try:
        return round(float(one.to(other)), 15)
    except u.UnitConversionError:
        return None


def ucd(field: pa.Field) -> str:
    """The UCD that a column states, in lower case."""
    return str((field.metadata or {}).get(b"ucd", b"").decode(errors="replace")).strip().lower()


def known(text: str) -> u.UnitBase | None:
    """The unit that a text means; None if astropy knows none such.

    >>> known("nanometers"), known("0.1 nm"), known("furlongs per fortnight")
    (Unit("nm"), Unit("0.1 nm"), None)
    """
    plain = text.strip().strip("'\"")
    plain = SPELLINGS.get(plain.lower(), plain)
    for word in (plain, plain.lower()):
        for form in (None, "fits", "cds", "vounit"):
            try:
                found = u.Unit(word, format=form, parse_strict="raise")
            except (ValueError, TypeError):
                continue
            return found if isinstance(found, u.UnitBase) else None
    return None


def angstrom(
    values: NDArray[np.float64], unit: str, column: str, option: str = "wavelength"
) -> NDArray[np.float64]:
    """Wavelengths in Angstrom from values in any spectral unit; `log(...)` is undone first.

    Raises:
        UsageError: If the unit is not known, or is of no wavelength, frequency, wave number or
            energy.
    """
    logarithm = LOGARITHM.fullmatch(unit.strip())
    inner = logarithm[1] if logarithm else unit
    found = known(inner or "Angstrom")
    if found is None or not found.is_equivalent(u.AA, u.spectral()):
        what = "not known" if found is None else "of no wavelength"
        raise UsageError(
            f"the unit '{unit}' of {column} is {what}",
            f'say the unit: --columns "{option}_nm={column}" (or _A, _um, _m, _Hz, _eV, _cm-1)',
        )
    if logarithm:
        values = np.where(np.abs(values) < 30, 10.0**values, np.nan)
    if found == u.AA:
        return values
    if found.is_equivalent(u.AA):
        return values * float(found.to(u.AA))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray((values * found).to_value(u.AA, u.spectral()), np.float64)


def is_spectral(text: str) -> bool:
    """Whether a text is a unit of wavelength, frequency, wave number or energy."""
    found = known(text)
    return found is not None and bool(found.is_equivalent(u.AA, u.spectral()))


def degrees(unit: str, column: str) -> float:
    """What a value of an angle's unit is in degrees.

    Raises:
        UsageError: If the unit is no angle's.
    """
    if unit.lower() in NONE:
        return 1.0
    found = known(unit)
    if found is not None and found == u.h:
        return 15.0
    if found is None or not found.is_equivalent(u.deg):
        raise UsageError(
            f"the unit '{unit}' of {column} is of no position",
            f"write {column} in degrees, or leave it out",
        )
    return float(found.to(u.deg))


def described(header: Mapping[str, Any]) -> bool | None:
    """Whether the words of a header say that wavelengths are in air; None if they do not say."""
    for key in ("VACUUM", "AIRORVAC", "WAVEMED", "AIR2VAC", "VACAIR"):
        value = header.get(key)
        if value is None:
            continue
        if key == "VACUUM" or isinstance(value, bool):
            vacuum = bool(value) if not isinstance(value, str) else value.strip().upper()[:1] == "T"
            return not vacuum if key == "VACUUM" else None
        return str(value).strip().lower().startswith("air")
    return None


def in_air(text: str) -> bool | None:
    """Whether a comment says that wavelengths are in air; None if it does not say, or says both."""
    lower = text.lower()
    air = re.search(r"\bin\s+air\b|\bair[\s_-]+wavelength|wavelengths?[^\n]{0,20}\bair\b", lower)
    vacuum = re.search(r"\bvac(uum)?\b", lower)
    return None if bool(air) == bool(vacuum) else bool(air)
