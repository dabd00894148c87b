"""Scalar columns of any table, as the view `metadata`."""

import pyarrow as pa
import pyarrow.compute as pc

from mmclip import arrays, ids
from mmclip.errors import UsageError
from mmclip.modalities import Modality
from mmclip.readers import Loaded, Options, Reader, files, mmu, views

# Whole numbers that name things, whatever survey they are of.
IDS = (
    "targetid", "obsid", "specobjid", "bestobjid", "objid", "fiberid", "source", "ref_id", "tileid",
    "planid", "catalogid", "sdss_id", "healpix", "random_index", "solution_id", "kic", "tic",
)  # fmt: skip


def read(source: Loaded, modality: Modality, options: Options) -> pa.Table:
    """The columns that the user names, or every column of numbers.

    Raises:
        UsageError: If there is none.
    """
    table, name = mmu.read(source), files.stem(source)
    about = ("ra", "dec")  # the position, not a feature
    if set(options.columns) - {*about}:
        chosen = {
            target: arrays.need(table, column, f"--columns {target}=")
            for target, column in options.columns.items()
            if target not in about
        }
    else:
        gaia, own = ids.columns(table, options.id_column)
        chosen = {
            f.name: f.name
            for f in table.schema
            if (pa.types.is_integer(f.type) or pa.types.is_floating(f.type))
            and f.name not in (gaia, own)
            and f.name.lower() not in (*ids.GAIA, *IDS, *views.RA, *views.DEC)
            and not _names_things(table[f.name])
        }
    if not chosen:
        raise UsageError(f"{name} has no columns of numbers", '--columns "j_m=NAME,h_m=NAME,..."')
    extra = {}
    for target, column in chosen.items():
        values, note = views.known(arrays.floats(table, column), target)
        extra[target] = pa.array(values)
        table = views.told(table, note)
    reasons = [""] * table.num_rows
    made = views.from_table(modality, table, {}, reasons, options, name, used=chosen, extra=extra)
    return made


def _names_things(column: pa.ChunkedArray) -> bool:
    """Whether whole numbers are beyond 2^53: a float would lose their last digits, so they name."""
    if not pa.types.is_integer(column.type) or column.null_count == len(column):
        return False
    return bool(max(abs(pc.min(column).as_py()), abs(pc.max(column).as_py())) > ids.EXACT)


READER = Reader("metadata", None, read, ("metadata",))
