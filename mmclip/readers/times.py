"""Times as days: Julian dates, offsets from a stated zero, ISO text, timestamps, seconds.

Times in days without a stated zero stay as they are (see `lightcurves.guess_time`).
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy import units as u
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.errors import UsageError
from mmclip.readers import units

UNIX = 2440587.5  # JD of 1970-01-01T00:00 UTC
MJD = 2400000.5
FIRST_MJD, LAST_MJD = 15020.0, 100000.0  # of the years 1900 to 2132; JD begin above
FIRST_JD = 2.3e6
YEARS = (1850.0, 2150.0)  # values of a unit of years that are dates, not spans
SINCE = re.compile(r"\bsince\s+(\S+(?:[ T]\d\d:\d\d\S*)?)", re.IGNORECASE)
LATEST = 5e6  # no time in days is later: a Julian date of the year 8977
OFFSET = re.compile(
    r"\b([BH]?JD|MJD)?[^-+\d]*-\s*(24\d{5}(?:\.\d+)?|\d{5}(?:\.\d+)?)", re.IGNORECASE
)
TOLD = re.compile(r"time_(s|ms|us|ns|min|h|d|yr|unix)")
NAMED = {"btjd": 2457000.0, "bkjd": 2454833.0, "tjd": 2440000.5, "rjd": 2400000.0}


def in_days(
    table: pa.Table, name: str, target: str = "time", zero: float | None = None
) -> tuple[pa.Table, str]:
    """The table with its column of times in days, and a note on what was done, or "".

    Args:
        table: One row an epoch, or lists.
        name: The column.
        target: How the user calls it: `time`, or `time_s`, `time_ms`, `time_unix` ...
        zero: Julian date of its zero, as the user states it.

    Raises:
        UsageError: If the unit is no time's, or the values can be no days.
    """
    field = table.schema.field(name)
    array = arrays.whole(table, name)
    place = table.column_names.index(name)
    told = TOLD.fullmatch(target)
    header = json.loads((table.schema.metadata or {}).get(b"header") or b"{}")
    if zero is not None:
        header = {**header, "ZERO": zero}
    unit = told[1] if told else units.of(field)
    made: pa.Array
    if _pair(field, header):
        flat = array.values.to_numpy(zero_copy_only=False).reshape(-1, 2)
        values, note = _numbers(flat.sum(axis=1), name, unit, header)
        made = pa.array(values)
    elif arrays.is_list(array.type):
        if pa.types.is_fixed_size_list(array.type):
            array = array.cast(pa.list_(array.type.value_type))
        values, note = _values(array.values, name, unit, header)
        valid = array.is_valid()
        offsets = pc.if_else(pa.concat_arrays([valid, pa.array([True])]), array.offsets, None)
        kind = pa.LargeListArray if pa.types.is_large_list(array.type) else pa.ListArray
        made = kind.from_arrays(offsets, pa.array(values))
    elif pa.types.is_string(array.type) and _lists_in_text(array):
        return table, ""
    else:
        values, note = _values(array, name, unit, header)
        made = pa.array(values, mask=np.isnan(values))
    about = {"stated": unit, "conversion": note.removeprefix(f"{name}: ")}
    return table.set_column(place, pa.field(name, made.type, metadata=about), made), note


def _pair(field: pa.Field, header: Mapping[str, Any]) -> bool:
    """Whether a column holds the two parts of a Julian date that astropy writes (jd1, jd2)."""
    kind = field.type
    two = pa.types.is_fixed_size_list(kind) and kind.list_size == 2
    return bool(two and pa.types.is_floating(kind.value_type) and "TIMESYS" in header)


def _lists_in_text(array: pa.Array) -> bool:
    first = next((v.strip() for v in array.drop_null()[:20].to_pylist() if v.strip()), "")
    return first[:1] in ("(", "[", "{")


def _values(
    array: pa.Array, name: str, unit: str, header: Mapping[str, Any]
) -> tuple[NDArray[np.float64], str]:
    kind = array.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        micro = array.cast(pa.timestamp("us")).cast(pa.int64())
        since = micro.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return np.asarray(since, float) / 86400e6 + UNIX, f"{name}: timestamps as JD (UTC)"
    if pa.types.is_string(kind):
        numbers = np.array([arrays.number(v) for v in array.to_pylist()], np.float64)
        if np.isfinite(numbers).any() or array.null_count == len(array):
            return _numbers(numbers, name, unit, header)
        return _dates(array, name)
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        raise UsageError(
            f"the column '{name}' holds {kind}, no times with a date",
            'name another: --columns "time=NAME"',
        )
    numbers = array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    return _numbers(np.asarray(numbers, np.float64), name, unit, header)


def _dates(array: pa.Array, name: str) -> tuple[NDArray[np.float64], str]:
    """ISO text as Julian dates, by astropy.time."""
    from astropy.time import Time

    words = [str(v or "").strip().replace("/", "-") for v in array.to_pylist()]
    values = np.full(len(words), np.nan)
    given = np.flatnonzero([bool(w) for w in words])
    plain = [re.sub(r"(Z|[+-]00:?00)$", "", words[i]).replace(" ", "T", 1) for i in given]
    zone = re.compile(r"T.*\d[+-](?!00:?00$)\d\d:?\d\d$")
    shifted = next((words[i] for i in given if zone.search(words[i])), None)  # fmt: skip
    try:
        if shifted is not None:
            raise ValueError(f"'{shifted}' is in a zone of time")
        values[given] = Time(plain, format="isot" if "T" in plain[0] else None, scale="utc").jd
    except (ValueError, IndexError) as error:
        why = str(error).partition("\n")[0].partition(" (Input")[0][:100]
        raise UsageError(
            f"the times '{name}' are text that is no date: '{next(iter(words), '')}' ({why})",
            "write them as JD, or as 2020-09-21T22:31:33 in UTC",
        ) from error
    return values, f"{name}: dates as JD (UTC)"


def _numbers(
    values: NDArray[np.float64], name: str, unit: str, header: Mapping[str, Any]
) -> tuple[NDArray[np.float64], str]:
    zero, said = _zero(name, unit, header)
    if "ZERO" in header:
        zero, said = float(header["ZERO"]), "time_zero"
    word = unit or str(header.get("TIMEUNIT", "")).strip()
    if word == "unix":
        word, zero, said = "s", UNIX, "seconds since 1970"
    word = SINCE.sub("", word).strip() or word
    factor, found = 1.0, None if OFFSET.search(word) or "JD" in word.upper() else units.known(word)
    if word.lower() not in units.NONE and found is not None and found != u.one:
        if not found.is_equivalent(u.day):
            raise UsageError(
                f"the unit '{word}' of the times '{name}' is no unit of time",
                f'say it: --columns "time_s={name}" (or _d, _min, _h, _ms, _unix)',
            )
        if found == u.yr and _are_years(values):
            return _decimal_years(values), f"{name}: decimal years as JD"
        factor = float(found.to(u.day))
    elif name.lower() in ("epoch", "year", "decyear", "years") and _are_years(values):
        raise UsageError(
            f"the times '{name}' look like years ({np.nanmedian(values):.6g}) and have no unit",
            f'say it: --columns "time_yr={name}" (decimal years), or "time_d={name}"',
        )
    days = values * factor if factor != 1.0 else values
    finite = days[np.isfinite(days)]
    shift = header.get("TIMEZERO", header.get("TIMEOFFS"))
    if isinstance(shift, int | float) and shift and zero is not None:
        zero, said = zero + float(shift) * factor, f"{said} and TIMEZERO"
    if zero is not None and not (len(finite) and zero > 2e6 and np.median(finite) > 2.3e6):
        days = days + zero
    middle = float(np.median(np.abs(days[np.isfinite(days)]))) if len(finite) else 0.0
    if middle > LATEST:
        raise UsageError(
            f"times of {middle:.6g} in '{name}' are no days"
            + (f" (unit '{word}')" if word else " and have no unit"),
            f'say their unit: --columns "time_s={name}" (or time_ms, time_ns, time_unix)',
        )
    system = str(header.get("TIMESYS", "")).strip()
    done = [f"{word} as days"] if factor != 1.0 else []
    done += [f"+ {zero:.10g} ({said})"] if zero else []
    done += [f"scale {system}"] if system and (done or zero is not None) else []
    if zero is None and 0 < middle < FIRST_JD and not FIRST_MJD <= middle <= LAST_MJD:
        done.append(
            f"days from a zero that is not stated (median {middle:.6g}, "
            "said by --columns time_zero=2454833)"
        )
    return days, f"{name}: {', '.join(done)}" if done else ""


def _zero(name: str, unit: str, header: Mapping[str, Any]) -> tuple[float | None, str]:
    """JD of the zero of time, from the header, the unit or the name; None if none is stated.

    Source:
        FITS standard 4.0, section 9.2.2: MJDREF, JDREF and DATEREF, whole or in two parts.
    """
    for key, offset in (("BJDREF", 0.0), ("JDREF", 0.0), ("MJDREF", MJD)):
        parts = [header.get(key), header.get(f"{key}I"), header.get(f"{key}F")]
        if header.get(f"{key}I") is not None:
            parts[0] = None
        numbers = [float(str(p)) for p in parts if isinstance(p, int | float) or _digits(p)]
        if numbers:
            return sum(numbers) + offset, key
    if header.get("DATEREF"):
        from astropy.time import Time

        return float(Time(str(header["DATEREF"])).jd), "DATEREF"
    since = SINCE.search(unit)
    if since:
        return _since(since[1]), f"'{unit}'"
    for text in (unit, name):
        match = OFFSET.search(text)
        if match:
            number = float(match[2])
            return number + (MJD if (match[1] or "").upper() == "MJD" else 0.0), f"'{text}'"
    known = NAMED.get(name.lower().rsplit(".", 1)[-1])
    return known, name


def _since(text: str) -> float:
    """The Julian date of `2014-10-24` or `J2000`.

    Raises:
        UsageError: If it is no date.
    """
    from astropy.time import Time

    word = text.strip(".,;()")
    try:
        return float(Time("J2000.0" if word.upper() == "J2000" else word).jd)
    except ValueError:
        raise UsageError(
            f"times since '{word}', which is no date", '--columns "time=NAME,time_zero=2454833"'
        ) from None


def _are_years(values: NDArray[np.float64]) -> bool:
    finite = values[np.isfinite(values)]
    return bool(len(finite)) and bool(((finite > YEARS[0]) & (finite < YEARS[1])).all())


def _decimal_years(values: NDArray[np.float64]) -> NDArray[np.float64]:
    from astropy.time import Time

    good = np.isfinite(values)
    made = np.full(len(values), np.nan)
    made[good] = Time(values[good], format="decimalyear").jd
    return made


def _digits(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"\s*[\d.]+\s*", value))
