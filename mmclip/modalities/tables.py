"""A raw view as a table: what a survey writes, in the columns, units and types of the modality."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from mmclip import arrays
from mmclip.modalities import Modality


def raw_table(
    modality: Modality,
    source_id: Sequence[int],
    columns: Mapping[str, Sequence[Any] | pa.Array],
    about: Mapping[str, Mapping[str, str]] | None = None,
) -> pa.Table:
    """Rows of a raw view in order of `source_id`.

    Args:
        modality: Says units, meanings and types (`Modality.stored`).
        source_id: Of each row.
        columns: Values of each row, by name: a list for a column of lists, null where unknown. A
            column that the modality does not have is an Arrow array and is kept beside the others.
        about: What else stands in the metadata of a column, or in place of its unit or meaning.

    Raises:
        ValueError: If a column that the modality needs is not given.
    """
    known = {c.name: c for c in modality.stored}
    lacking = [c.name for c in modality.stored if not c.optional and c.name not in columns]
    if lacking:
        raise ValueError(f"{modality.name} needs {', '.join(lacking)}")
    fields, made = [pa.field("source_id", pa.int64())], [pa.array(source_id, pa.int64())]
    for name, values in columns.items():
        more = dict((about or {}).get(name, {}))
        column = known.get(name)
        kind = None if column is None else column.type
        array = values.cast(kind or values.type) if isinstance(values, pa.Array) else None
        array = pa.array(values, kind) if array is None else array
        if column is not None and column.length > 1:
            array = arrays.fix(array)
        plain = pa.field(name, array.type, metadata=more or None)
        fields.append(plain if column is None else column.field(array.type, **more))
        made.append(array)
    return pa.table(made, schema=pa.schema(fields)).sort_by("source_id")
