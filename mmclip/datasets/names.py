"""From any name that a catalogue of the workspace gives an object to its source_id."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.errors import MmclipError, NotFound, UsageError
from mmclip.ids import OWN, rows_of
from mmclip.surveys import parse_source_id

Ids = NDArray[np.int64]
FEW = 20  # objects, up to which every one may be of a class of its own
TMASS = re.compile(r"(?:2MASS\s*J?|2M|J)?(\d{8}[+-]\d{7})", re.IGNORECASE)


def name_columns(objects: pa.Table) -> list[str]:
    """Columns that name the objects: `object_name`, `apogee_id`, `css_id`, ..., not source_id."""

    def names(field: pa.Field) -> bool:
        low = field.name.lower()
        kind = pa.types.is_string(field.type) or pa.types.is_integer(field.type)
        return kind and low != "source_id" and (low in OWN or low.endswith(("_id", "_name")))

    return [f.name for f in objects.schema if names(f)]


def check_label(objects: pa.Table, name: str) -> None:
    """Refuse a column that names the objects where a label is asked for.

    Raises:
        UsageError: If it is called like an id, or most of its texts stand for one object alone.
    """
    if name not in objects.column_names:
        return
    known = objects[name].drop_null()
    different = pc.count_distinct(known).as_py() if pa.types.is_string(known.type) else 0
    if name in name_columns(objects) or (len(known) > FEW and different > len(known) / 2):
        labels = [f.name for f in objects.schema if pa.types.is_floating(f.type)]
        labels = [n for n in labels if n not in ("ra", "dec") and not n.endswith("_error")]
        raise UsageError(
            f"'{name}' names the objects and is no label that other stars could share",
            f"--target {','.join(labels[:3]) or 'class'}",
        )


def by_name(objects: pa.Table, asked: Sequence[str]) -> Ids:
    """[asked] the source_id of the object of each name, -1 where no column has it.

    2MASS designations are known with and without `2MASS J`, `2M` and `J`.

    Raises:
        UsageError: If a name is of several objects.
    """
    spelled = {way: i for i, text in enumerate(asked) for way in _spellings(text)}
    found = np.full(len(asked), -1, np.int64)
    ids = arrays.column(objects, "source_id")
    for name in name_columns(objects):
        column = objects[name].cast(pa.string())
        rows = np.flatnonzero(pc.is_in(column, pa.array(list(spelled), pa.string())).to_numpy())
        for row, text in zip(rows, column.take(pa.array(rows)).to_pylist(), strict=True):
            at = spelled[text]
            if found[at] not in (-1, ids[row]):
                raise UsageError(f"'{asked[at]}' is the name of several objects",
                                 f"one of: {found[at]}, {ids[row]}")  # fmt: skip
            found[at] = ids[row]
    return found


def _spellings(text: str) -> set[str]:
    written = text.strip()
    match = TMASS.fullmatch(written)
    if match is None:
        return {written}
    return {written, *(start + match[1] for start in ("", "J", "2M", "2MASS J", "2MASS"))}


def ids_of(texts: Sequence[str], known: Ids, objects: Callable[[], pa.Table]) -> list[int]:
    """The source_id of each text: a Gaia id, or a name that the objects have.

    Args:
        texts: As typed.
        known: Ids that need no look at the names.
        objects: Reads the table of objects; called only where a text is no known id.

    Raises:
        UsageError: If a text is neither an id nor a name.
    """
    found, errors = np.full(len(texts), -1, np.int64), dict[int, MmclipError]()
    for i, text in enumerate(texts):
        try:
            found[i] = parse_source_id(text)
        except UsageError as error:
            errors[i] = error
    strange = np.flatnonzero(rows_of(known, found) < 0).tolist()
    if strange:
        try:
            named = by_name(objects(), [texts[i] for i in strange])
        except NotFound:  # the data set is gone
            named = np.full(len(strange), -1, np.int64)
        for i, source_id in zip(strange, named.tolist(), strict=True):
            if source_id >= 0:
                found[i] = source_id
            elif i in errors:
                raise errors[i]
    return found.tolist()
