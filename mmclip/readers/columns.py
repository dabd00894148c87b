"""Any table in the raw columns of a modality, found by their names and aliases.

It reads what no other reader knows: the views of modalities that mmclip does not come with.
"""

from collections.abc import Mapping

import pyarrow as pa

from mmclip import arrays, ids
from mmclip.arrays import Row, find, is_list, need, rows
from mmclip.errors import UsageError
from mmclip.modalities import Column, Modality
from mmclip.readers import Loaded, Options, Reader, files, mmu, views


def read(source: Loaded, modality: Modality, options: Options) -> pa.Table:
    """One row an object with lists, or one row an entry, cut into objects by their id.

    A row that lacks a list it needs, or has one of another length, is rejected with that reason.

    Raises:
        UsageError: If a column that the modality needs is not there.
    """
    table, name = mmu.read(source), files.stem(source)
    found = {
        c.name: place
        for c in modality.stored
        if (place := _place(table, c, modality.name, options)) is not None
    }
    lacking = [c for c in modality.stored if not c.optional and c.name not in found]
    if lacking:
        raise UsageError(
            f"{name} has no column {', '.join(c.name for c in lacking)} for {modality.name} "
            f"(it has: {arrays.shown(table)})",
            f'name it: --columns "{lacking[0].name}=NAME"',
        )
    lists = {c.name: c for c in modality.stored if c.is_list and c.name in found}
    if any(_one_an_entry(table, found[n]) for n in lists):
        gaia, own = ids.columns(table, options.id_column)
        table = views.gather(table, gaia or own, [found[n] for n in lists])
    columns = {n: rows(table, found[n]) for n in lists}
    reasons = [_fault(lists, columns, i) for i in range(table.num_rows)]
    scalars = {n: place for n, place in found.items() if n not in lists}
    titles = [_title(n, scalars) for n in table.column_names]
    return views.from_table(
        modality, table.rename_columns(titles), columns, reasons, options, name,
        used={n: found[n] for n in lists},
    )  # fmt: skip


def _place(table: pa.Table, column: Column, view: str, options: Options) -> str | None:
    """The table's name of a column: as the user says, else its name or an alias."""
    if column.name in options.columns:
        return need(table, options.columns[column.name], f"--columns {column.name}=")
    nested = (f"{view}.{column.name}", f"{view}_{column.name}")
    return find(table, (column.name, *column.aliases, *nested))


def _title(name: str, scalars: Mapping[str, str]) -> str:
    return next((title for title, place in scalars.items() if place == name), name)


def _one_an_entry(table: pa.Table, name: str) -> bool:
    kind = table.schema.field(name).type
    return not is_list(kind) and not pa.types.is_string(kind)


def _fault(lists: Mapping[str, Column], columns: Mapping[str, list[Row]], row: int) -> str:
    lengths = set()
    for name, column in lists.items():
        values = columns[name][row]
        if values is None:
            if not column.optional:
                return f"no {name}"
        elif column.length > 1 and len(values) != column.length:
            return f"{len(values)} values of {name}, not {column.length}"
        elif column.length == 0:
            lengths.add(len(values))
    return f"lists of different lengths ({sorted(lengths)})" if len(lengths) > 1 else ""


READER = Reader("columns", None, read)
