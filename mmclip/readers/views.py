"""What readers give: one row an object, ids, labels, and the columns of one view.

A reader is a pure function of one file. Its table has `source_id` (int64, null where the file
has no Gaia DR3 id), `object_name`, `ra` and `dec` (deg, null if unknown), `reason` (null for a
good object, else why it cannot be used), the columns of the view, and any labels. Columns of
the view have `role: view` in their field metadata. `schema.metadata` names the survey.
"""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays, ids
from mmclip.arrays import find, whole
from mmclip.errors import UsageError
from mmclip.modalities import Modality
from mmclip.readers import interpretation, units
from mmclip.readers.interpretation import Interpretation, Role

F8, TEXT = pa.float64(), pa.string()
RA = ("ra", "ra_deg", "target_ra", "raj2000", "gaia_ra_deg", "ra_approx", "plug_ra", "ra_obj",
      "ra_icrs", "radeg", "_raj2000", "_ra", "ra_j2000", "objra", "raobj", "raicrs", "meanra",
      "ramean", "ra_gaia", "ra_2000", "ra2000", "_ra.icrs", "right_ascension", "alpha",
      "alpha_j2000", "mean_ra", "ra_mean", "gaia_ra", "ra_targ", "alphawin_j2000")  # fmt: skip
DEC = ("dec", "dec_deg", "target_dec", "dej2000", "dec_j2000", "gaia_dec_deg", "dec_approx",
       "plug_dec", "dec_obj", "de_icrs", "dec_icrs", "dedeg", "decdeg", "_dej2000", "_de",
       "decj2000", "objdec", "decobj", "deicrs", "meandec", "decmean", "dec_gaia", "de_2000",
       "dec2000", "_de.icrs", "declination", "delta", "delta_j2000", "mean_dec", "dec_mean",
       "gaia_dec", "dec_targ", "deltawin_j2000")  # fmt: skip
APART = 5.0 / 3600  # deg; rows of one object lie no further apart


@dataclass(frozen=True)
class Options:
    """How the user describes a file.

    Attributes:
        columns: Target -> column of the file (or a grid START:STEP:COUNT for a wavelength).
        id_column: The column that names the objects.
        air: Wavelengths of the file are in air.
        error: What values without errors get: `1%`, or a number in their unit; empty: nothing.
        error_scale: Factor on the errors of the file.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    id_column: str | None = None
    air: bool = False
    error: str = ""
    error_scale: float = 1.0


AS_IS = Options()


def observations(
    modality: Modality,
    columns: Mapping[str, Sequence[arrays.Row] | pa.Array],
    *,
    source_id: pa.Array,
    object_name: pa.Array,
    reasons: Sequence[str],
    labels: Mapping[str, pa.Array] | None = None,
    ra: pa.Array | None = None,
    dec: pa.Array | None = None,
    survey: str = "",
    extra: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """The table that a reader returns; see the head of this file.

    Args:
        modality: Of the view; its raw columns are those of the table.
        columns: Values of each list of the view; those left out are null.
        source_id, object_name, ra, dec: Of each object.
        reasons: Empty for a good object.
        labels: Scalars of each object; those that are columns of the view, by name or alias, go
            into it.
        survey: What names the objects, if the file says; part of a local id.
        extra: Columns that belong to the view beyond its contract; of a table, all of its columns.
    """
    count = len(source_id)
    nothing = pa.nulls(count, F8)
    made: list[tuple[pa.Field, pa.Array]] = [
        (pa.field("source_id", pa.int64()), source_id),
        (pa.field("object_name", TEXT), object_name),
        (pa.field("ra", F8, metadata={"unit": "deg"}), nothing if ra is None else ra),
        (pa.field("dec", F8, metadata={"unit": "deg"}), nothing if dec is None else dec),
        (pa.field("reason", TEXT), pa.array([r or None for r in reasons], TEXT)),
    ]
    for column in (c for c in modality.stored if c.is_list):
        kind = column.type
        given = columns.get(column.name)
        if given is None:
            array = pa.nulls(count, kind)
        elif isinstance(given, pa.Array):
            array = given
        else:
            array = arrays.list_array(given, kind.value_type).cast(kind)
        made.append((column.field(array.type, role="view"), array))
    also = {} if extra is None else dict(extra)
    own = modality.kind == "table" and extra is not None
    for column in () if own else (c for c in modality.stored if not c.is_list):
        here = next((n for n in (column.name, *column.aliases) if labels and n in labels), None)
        if here is not None and labels and _is_number(labels[here].type):
            also.setdefault(column.name, labels[here].cast(column.type))
    for name, array in also.items():
        made.append((pa.field(name, array.type, metadata={"role": "view"}), array))
    taken = {f.name for f, _ in made}
    for name, array in (labels or {}).items():
        if name not in taken and not arrays.is_list(array.type):
            made.append((pa.field(name, array.type), array))
            taken.add(name)
    schema = pa.schema([f for f, _ in made], {"survey": survey, "view": modality.name})
    return pa.table([a for _, a in made], schema=schema)


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def from_table(
    modality: Modality,
    table: pa.Table,
    columns: Mapping[str, Sequence[arrays.Row] | pa.Array],
    reasons: Sequence[str],
    options: Options,
    fallback: str,
    *,
    used: Mapping[str, str | None] = MappingProxyType({}),
    converted: Mapping[str, str] = MappingProxyType({}),
    survey: str = "",
    extra: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """`observations` of a table with one row an object: ids, positions and labels are found.

    Args:
        used: Target -> column of the table that became view columns and are no labels.
        converted: Target -> what was done to its values (`nm -> Angstrom`).
    """
    source_id, names, bad = ids.identify(table, options.id_column, fallback)
    ra, dec = position(table, options)
    found = labels(table, options, {c for c in used.values() if c})
    read_as = _interpretation(table, options, used, converted, found)
    for title, array in found.items():
        if pa.types.is_floating(array.type):
            values, note = known(np.asarray(array.cast(F8).to_numpy(zero_copy_only=False)), title)
            if note:
                found[title], table = pa.array(values, from_pandas=True), told(table, note)
    made = observations(
        modality,
        columns,
        source_id=source_id,
        object_name=names,
        reasons=[b or r for b, r in zip(bad, reasons, strict=True)],
        labels=found,
        ra=ra,
        dec=dec,
        survey=survey,
        extra=extra,
    )
    faults = (table.schema.metadata or {}).get(b"faults", b"")
    made = made.replace_schema_metadata({**made.schema.metadata, b"faults": faults})
    return interpretation.noted(made, read_as)


def _interpretation(
    table: pa.Table,
    options: Options,
    used: Mapping[str, str | None],
    converted: Mapping[str, str],
    found: Mapping[str, pa.Array],
) -> Interpretation:
    """What each column of a table is, or why it is nothing."""
    gaia, own = ids.columns(table, options.id_column)
    places = {"ra": _axis(table, options, "ra", RA), "dec": _axis(table, options, "dec", DEC)}
    named = {"source_id": gaia, "object_name": own, **places, **used}
    targets = {t: c for t, c in named.items() if c and c in table.column_names}
    changed = {t: _angle(table, c) for t, c in places.items() if c} | dict(converted)
    roles = [
        Role(t, c, _stated(table, c), changed.get(t) or _done(table, c)) for t, c in targets.items()
    ]
    before = interpretation.of(table)
    known = {r.column for r in before.roles} | {*targets.values()}
    labels = {options.columns.get(n, n) for n in found} & {*table.column_names} - known
    roles += [Role("label", n, _stated(table, n)) for n in table.column_names if n in labels]
    unused = [
        (f.name, _why(f.type)) for f in table.schema if f.name not in known and f.name not in labels
    ]
    return Interpretation((*before.roles, *roles), (*before.unused, *unused))


def _why(kind: pa.DataType) -> str:
    if pa.types.is_null(kind):
        return "no value"
    return "a list that no target names" if arrays.is_list(kind) else f"of type {kind}"


def _stated(table: pa.Table, name: str) -> str:
    stated = (table.schema.field(name).metadata or {}).get(b"stated")
    return str(stated.decode()) if stated else units.of(table.schema.field(name))


def _done(table: pa.Table, name: str) -> str:
    return str((table.schema.field(name).metadata or {}).get(b"conversion", b"").decode())


def _angle(table: pa.Table, name: str) -> str:
    field_ = table.schema.field(name)
    unit = units.of(field_)
    if pa.types.is_string(field_.type):
        return "sexagesimal -> deg"
    return "" if unit.lower() in (*units.NONE, "deg", "degree", "degrees") else f"{unit} -> deg"


SUSPECT = (-1.0, 0.0, -9.0, 9.999, -9999000.0)  # told where they lie far outside the others
FAR = 3.0  # widths of the range of the others
# Numbers that catalogues write where a value is unknown.
SENTINELS = (
    -9999.0, -99999.0, -999999.0, -9999999.0, -999.0, -9999.99, -999.99, -99.99, -99.9, -99.0,
    -1e30, -1e20, -32768.0, 99.0, 99.9, 99.99, 99.999, 999.0, 999.99, 999.9, 9999.0, 9999.99,
    9999.9, 99999.0, 999999.0, 9999999.0, 1e20, 1e30, -999.25, -32767.0, -99999.9, -88.88, -1e10,
    2147483647.0, -2147483648.0, 1e35, -1e35, 1e36, 1e37, 1.6e38, 9.96921e36,
    1.7976931348623157e308, -1.7976931348623157e308,
)  # fmt: skip

LARGE = tuple(v for v in SENTINELS if abs(v) >= 999)


def known(values: NDArray[np.float64], name: str) -> tuple[NDArray[np.float64], str]:
    """Values without those that stand for an unknown one, which become NaN; and a note, or "".

    A number of `SENTINELS` stands for an unknown value where it lies further outside the range of
    the other values than that range is wide.

    >>> known(np.array([5000.0, 5600.0, -9999.0]), "teff")
    (array([5000., 5600.,   nan]), 'teff: 1 of 3 is exactly -9999, read as unknown')
    """
    fill = np.isin(values, SENTINELS)
    if not fill.any():
        return values, _suspected(values, name)
    other = values[np.isfinite(values) & ~fill]
    if len(other):
        low, high = float(other.min()), float(other.max())
        fill &= (values < low - (high - low)) | (values > high + (high - low))
    elif len(np.unique(values[fill])) > 1 or np.abs(values[fill]).max() < 999:
        fill[:] = False
    if not fill.any():
        return values, ""
    counts = zip(*np.unique(values[fill], return_counts=True), strict=True)
    words = [
        f"{n} of {len(values)} {'is' if n == 1 else 'are'} exactly {v:.10g}" for v, n in counts
    ]
    return np.where(fill, np.nan, values), f"{name}: {', '.join(words)}, read as unknown"


def _suspected(values: NDArray[np.float64], name: str) -> str:
    """A note on a value far outside the others that may stand for an unknown one; it is kept."""
    finite = values[np.isfinite(values)]
    if len(finite) < 5:
        return ""
    for value in (float(finite.min()), float(finite.max())):
        same = finite == value
        other = finite[~same]
        if len(other) < 4 or not (value in SUSPECT or same.sum() >= 3):
            continue
        low, high = float(other.min()), float(other.max())
        width = high - low
        if width > 0 and (value < low - FAR * width or value > high + FAR * width):
            count = int(same.sum())
            verb = "is" if count == 1 else "are"
            return (
                f"{name}: {count} of {len(values)} {verb} exactly {value:.10g}, far from the "
                f"others ({low:.6g} to {high:.6g}), kept"
            )
    return ""


def fills(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the points of a curve or spectrum are fill values: -9999 and larger sentinels."""
    large = np.isin(values, LARGE)
    if not large.any():
        return large
    return np.asarray(large & np.isnan(known(np.where(np.isnan(values), 0.0, values), "")[0]))


def told(table: pa.Table, note: str) -> pa.Table:
    """The table with one more note for the person who imports it."""
    if not note:
        return table
    metadata = dict(table.schema.metadata or {})
    known = metadata.get(b"faults", b"").decode()
    metadata[b"faults"] = (f"{known}; {note}" if known else note).encode()
    return table.replace_schema_metadata(metadata)


def notes(table: pa.Table) -> list[str]:
    """What the person who imports a table should know of it, as `told` noted it."""
    said = (table.schema.metadata or {}).get(b"faults", b"").decode()
    return [note for note in said.split("; ") if note]


def position(table: pa.Table, options: Options = AS_IS) -> tuple[pa.Array, pa.Array]:
    """Right ascension and declination of each row in degrees; null outside the sky or unknown.

    Hours, radians and arcseconds are known by the unit of the column, sexagesimal text by its
    form: a right ascension `16:15:12.7` is in hours unless the column's unit is degrees.

    Raises:
        NotFound: If a column that the user names is not there.
        UsageError: If the unit of a column is no angle's.
    """
    nothing = pa.nulls(table.num_rows, F8)
    ra, dec = _axis(table, options, "ra", RA), _axis(table, options, "dec", DEC)
    if ra is None or dec is None:
        return nothing, nothing
    a, d = _degrees(table, ra, True), _degrees(table, dec, False)
    a, d = _icrs(a, d, _frame(table, ra))
    with np.errstate(invalid="ignore"):
        known = (a >= -180) & (a <= 540) & (np.abs(d) <= 90)
        a = np.where(known & ((a < 0) | (a > 360)), a % 360, a)
    return pa.array(a, mask=~known), pa.array(d, mask=~known)


def _frame(table: pa.Table, ra: str) -> str:
    """The frame that a file states for its positions, `FK4 B1950`; empty for ICRS and FK5 J2000."""
    stated = (table.schema.field(ra).metadata or {}).get(b"frame", b"").decode()
    header = json.loads((table.schema.metadata or {}).get(b"header") or b"{}")
    if not stated:
        frame = header.get("RADESYS", header.get("RADECSYS", ""))
        stated = f"{frame} {header.get('EQUINOX', '')}"
    words = str(stated).upper().split()
    old = {"FK4", "B1950", "1950", "1950.0", "B1950.0"} & set(words)
    return "FK4 B1950" if old else ""


def _icrs(
    ra: NDArray[np.float64], dec: NDArray[np.float64], frame: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions in ICRS, by astropy."""
    good = np.isfinite(ra) & (np.abs(dec) <= 90)
    if not frame or not good.any():
        return ra, dec
    from astropy.coordinates import FK4, SkyCoord

    sky = SkyCoord(ra[good], dec[good], unit="deg", frame=FK4(equinox="B1950")).icrs
    ra, dec = ra.copy(), dec.copy()
    ra[good], dec[good] = sky.ra.deg, sky.dec.deg
    return ra, dec


def _axis(table: pa.Table, options: Options, axis: str, known: Sequence[str]) -> str | None:
    if axis in options.columns:
        return arrays.need(table, options.columns[axis], f"--columns {axis}=")
    first = "pos.eq." + axis
    main = [f.name for f in table.schema if units.ucd(f).startswith(first)]
    best = [f.name for f in table.schema if units.ucd(f) == f"{first};meta.main"]
    other = ("pos.galactic", "pos.ecliptic", "pos.supergalactic", "pos.az")
    here = table.select(
        [f.name for f in table.schema if not units.ucd(f).startswith(other)
         and table.column_names.count(f.name) == 1]
    )  # fmt: skip
    return find(here, known) or next(iter(best or main), None)


def _degrees(table: pa.Table, name: str, hours: bool) -> NDArray[np.float64]:
    field = table.schema.field(name)
    unit = units.of(field)
    if pa.types.is_string(field.type):
        text = [str(v or "").strip() for v in whole(table, name).to_pylist()]
        if any(re.search(r"\d\s*[:hd° ]\s*\d", v) for v in text):
            step = 15.0 if hours and "deg" not in unit and not any("d" in v for v in text) else 1.0
            return np.array([_sexagesimal(v) * step for v in text], np.float64)
    if arrays.is_list(field.type):
        return np.full(table.num_rows, np.nan)
    sexagesimal = re.search(r"[hd]\s*:\s*m|^\W*[hd]:", unit)
    return arrays.floats(table, name) * (1.0 if sexagesimal else units.degrees(unit, name))


def _sexagesimal(text: str) -> float:
    """`-00:12:34.4`, `16 15 12.69`, `12h34m39.9s` as a number of the first part's unit.

    >>> round(_sexagesimal("-00 12 34.4"), 5)
    -0.20956
    """
    parts = re.findall(r"\d+(?:\.\d*)?", text)
    if not 1 <= len(parts) <= 3:
        return float("nan")
    value = float(sum(float(p) / 60**i for i, p in enumerate(parts)))
    return -value if re.match(r"\s*[-−–]", text) else value


def labels(table: pa.Table, options: Options, used: set[str]) -> dict[str, pa.Array]:
    """The scalar columns that are not part of the view, renamed as the user wants."""
    wanted = {source: target for target, source in options.columns.items()}
    found: dict[str, pa.Array] = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        plain = pa.types.is_primitive(kind) or pa.types.is_string(kind)
        if name in used or not plain or pa.types.is_null(kind):
            continue
        found[wanted.get(name, name)] = whole(table, name)
    return {n: a for n, a in found.items() if n not in ("source_id", "object_name", "ra", "dec")}


def one_object(table: pa.Table, key: str | None) -> list[tuple[object, pa.Table]]:
    """A table of one row a pixel or epoch, cut into objects by the column `key`, in file order."""
    if key is None:
        return [(None, table)]
    values = whole(table, key)
    order = pc.sort_indices(values)
    ordered = table.take(order)
    encoded = whole(ordered, key).to_pylist()
    edges = [0] + [i for i in range(1, len(encoded)) if encoded[i] != encoded[i - 1]]
    edges.append(len(encoded))
    cut = []
    for a, b in itertools.pairwise(edges):
        rows = np.sort(order.to_numpy()[a:b])
        cut.append((int(rows[0]), encoded[a], table.take(pa.array(rows))))
    return [(value, part) for _, value, part in sorted(cut, key=lambda c: c[0])]


def gather(table: pa.Table, key: str | None, columns: Sequence[str]) -> pa.Table:
    """A table of one row a pixel or epoch as one row an object: `columns` become lists.

    Other columns are kept where they are the same over an object, else left out.
    """
    _together(table, key)
    parts = one_object(table, key)
    gathered: dict[str, list[Any]] = {name: [] for name in table.column_names}
    constant = dict.fromkeys(set(table.column_names) - set(columns), True)
    for _, part in parts:
        for name in table.column_names:
            values = whole(part, name)
            if name in columns:
                gathered[name].append(values.to_pylist())
                continue
            gathered[name].append(values[0].as_py())
            constant[name] &= len(pc.unique(values)) == 1
    made: list[tuple[pa.Field, pa.Array]] = []
    for field_ in table.schema:
        name, kind = field_.name, field_.type
        if name in columns:
            lists = pa.array(gathered[name], pa.list_(kind))
            made.append((field_.with_type(pa.list_(kind)), lists))
        elif constant[name] or name in (_place(table, RA), _place(table, DEC)):
            made.append((field_, pa.array(gathered[name], kind)))
    schema = pa.schema([f for f, _ in made], table.schema.metadata)
    lost = set(table.column_names) - set(schema.names)
    some = pa.table([a for _, a in made], schema=schema)
    return interpretation.left_out(some, dict.fromkeys(sorted(lost), "differs within an object"))


def _place(table: pa.Table, names: Sequence[str]) -> str | None:
    return find(table, names)


def _together(table: pa.Table, key: str | None) -> None:
    """Refuse rows of one object whose positions are further apart than 5 arcsec.

    Raises:
        UsageError: If they are: more than one star would become one.
    """
    ra, dec = (np.asarray(a.to_numpy(zero_copy_only=False), float) for a in position(table))
    good = np.isfinite(ra) & np.isfinite(dec)
    if good.sum() < 2:
        return
    own = np.zeros(len(ra), np.int64)
    names: list[object] = [None]
    if key is not None:
        encoded = whole(table, key).dictionary_encode()
        own = np.asarray(encoded.indices.fill_null(len(encoded.dictionary)).to_numpy(), np.int64)
        names = [*encoded.dictionary.to_pylist(), None]
    ra, dec, own = ra[good], dec[good], own[good]
    first = np.zeros(len(names), np.int64)
    first[own[::-1]] = np.arange(len(own))[::-1]
    a, d = ra[first[own]], dec[first[own]]
    east = ((ra - a + 180) % 360 - 180) * np.cos(np.radians(d))
    off = np.hypot(east, dec - d)
    if off.max() <= APART:
        return
    what = f"rows of {names[own[off.argmax()]]}"
    if key is None:
        what = "rows without a column that names the object"
    raise UsageError(
        f"{what} lie up to {3600 * off.max():.3g} arcsec apart: they are of several objects",
        "say which column names them: --id-column NAME",
    )
