"""One row a star: `objects` and `metadata` of a catalogue answer, units in the fields."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip.surveys import Piece
from mmclip.surveys.client import tap
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia import zero_point
from mmclip.surveys.gaia.release import Release


def split(
    release: Release,
    client: Client,
    answer: pa.Table,
    ids: NDArray[np.int64],
    query: str,
    selected: pa.Table,
) -> Piece:
    """One row a star: `objects` and `metadata`; a star the 2MASS join repeats is counted."""
    columns = release.columns
    table, repeated = best_photometry(answer)
    client.count("catalogue_rows_repeated", repeated)
    table = table.filter(pc.is_in(table["source_id"], pa.array(ids)))
    metadata = [*columns.photometry, *columns.tmass, "tmass_ambiguous", *columns.wise]
    held = [n for n in metadata if n in table.column_names]
    objects = table.drop_columns([n for n in held if n != "phot_g_mean_mag"])
    if _settings.of(client, release.settings).zero_point:
        objects = zero_point.add(objects)
    extra = [n for n in selected.column_names if n.startswith(("has_", "dr2_", "dr3_", "dr4_"))]
    if extra:
        objects = objects.join(
            selected.select(["source_id", *extra]), "source_id", join_type="inner"
        )
        objects = objects.sort_by("source_id")
    here = set(table["source_id"].to_pylist())
    missing = tuple((i, "objects", "not_returned") for i in ids.tolist() if i not in here)
    tables = {
        "objects": stamped(objects, columns.units),
        "metadata": stamped(table.select(["source_id", *held]), columns.units),
    }
    return Piece(tables, missing, queries=(query,))


QUALITY = {letter: rank for rank, letter in enumerate("ABCDEFUX")}


def best_photometry(answer: pa.Table) -> tuple[pa.Table, int]:
    """One row a source: of several 2MASS rows the one of best `ph_qual`; and how many were more.

    One cleaned 2MASS source can stand for several of the original catalogue; the row kept is
    marked `tmass_ambiguous`.
    """
    ids = tap.source_ids(answer)
    quality = np.zeros(len(ids), int)
    if "tmass_ph_qual" in answer.column_names:
        quality = np.array(
            [
                sum(QUALITY.get(c, 9) for c in q or "XXXX")
                for q in answer["tmass_ph_qual"].to_pylist()
            ],
            int,
        )
    order = np.lexsort((np.arange(len(ids)), quality, ids))
    first = np.ones(len(ids), bool)
    first[1:] = ids[order][1:] != ids[order][:-1]
    table = answer.take(pa.array(order[first]))
    if "tmass_ph_qual" in answer.column_names:
        kept, counts = np.unique(ids, return_counts=True)
        assert len(kept) == table.num_rows
        table = table.append_column("tmass_ambiguous", pa.array(counts > 1))
    return table, len(ids) - table.num_rows


def stamped(table: pa.Table, units: dict[str, str]) -> pa.Table:
    """The table with units in its field metadata, every real as float64, nulls kept."""
    fields, arrays = [], []
    for field in table.schema:
        about = {k.decode(): v.decode() for k, v in (field.metadata or {}).items()}
        if field.name in units:
            about["unit"] = units[field.name]
        array = table[field.name]
        if pa.types.is_null(field.type):
            array = array.cast(pa.float64())
        if pa.types.is_floating(array.type):
            array = array.cast(pa.float64())
        if pa.types.is_integer(array.type):
            array = array.cast(pa.int64())
        fields.append(pa.field(field.name, array.type, metadata=about or None))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))
