"""What readers give: one row an object, ids, labels, and the columns of one view.

A reader is a pure function of one file. Its table has `source_id` (int64, null where the file
has no Gaia DR3 id), `object_name`, `ra` and `dec` (deg, null if unknown), `reason` (null for a
good object, else why it cannot be used), the columns of the view, and any labels. Columns of
the view have `role: view` in their field metadata. `schema.metadata` names the survey.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmclip import arrays, ids
from mmclip.arrays import find, whole
from mmclip.modalities import Modality

F8, TEXT = pa.float64(), pa.string()
RA = ("ra", "ra_deg", "target_ra", "raj2000", "gaia_ra_deg", "ra_approx", "plug_ra", "ra_obj")
DEC = ("dec", "dec_deg", "target_dec", "dej2000", "dec_j2000", "gaia_dec_deg", "dec_approx",
       "plug_dec", "dec_obj")  # fmt: skip


@dataclass(frozen=True)
class Options:
    """How the user describes a file.

    Attributes:
        columns: Target -> column of the file (or a grid START:STEP:COUNT for a wavelength).
        id_column: The column that names the objects.
        air: Wavelengths of the file are in air.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    id_column: str | None = None
    air: bool = False


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
    used: Sequence[str] = (),
    survey: str = "",
    extra: Mapping[str, pa.Array] | None = None,
) -> pa.Table:
    """`observations` of a table with one row an object: ids, positions and labels are found.

    Args:
        used: Columns of the table that became view columns and are no labels.
    """
    source_id, names, bad = ids.identify(table, options.id_column, fallback)
    ra, dec = position(table)
    made = observations(
        modality,
        columns,
        source_id=source_id,
        object_name=names,
        reasons=[b or r for b, r in zip(bad, reasons, strict=True)],
        labels=labels(table, options, {*used}),
        ra=ra,
        dec=dec,
        survey=survey,
        extra=extra,
    )
    faults = (table.schema.metadata or {}).get(b"faults", b"")
    return made.replace_schema_metadata({**made.schema.metadata, b"faults": faults})


def position(table: pa.Table) -> tuple[pa.Array, pa.Array]:
    """Right ascension and declination of each row in degrees; null outside the sky or unknown."""
    ra, dec = find(table, RA), find(table, DEC)
    if ra is None or dec is None:
        return pa.nulls(table.num_rows, F8), pa.nulls(table.num_rows, F8)
    a, d = arrays.floats(table, ra), arrays.floats(table, dec)
    with np.errstate(invalid="ignore"):
        known = (a >= 0) & (a <= 360) & (np.abs(d) <= 90)
    return pa.array(a, mask=~known), pa.array(d, mask=~known)


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
    made = {}
    for name in table.column_names:
        kind = table.schema.field(name).type
        if name in columns:
            made[name] = pa.array(gathered[name], pa.list_(kind))
        elif constant[name]:
            made[name] = pa.array(gathered[name], kind)
    return pa.table(made).replace_schema_metadata(table.schema.metadata)
