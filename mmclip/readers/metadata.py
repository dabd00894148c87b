"""Scalar columns of any table, as the view `metadata`."""

import pyarrow as pa

from mmclip import arrays
from mmclip.errors import UsageError
from mmclip.modalities import Modality
from mmclip.readers import Loaded, Options, Reader, files, mmu, views


def read(source: Loaded, modality: Modality, options: Options) -> pa.Table:
    """The columns that the user names, or every column of numbers.

    Raises:
        UsageError: If there is none.
    """
    table, name = mmu.read(source), files.stem(source)
    if options.columns:
        chosen = {
            target: arrays.need(table, column, f"--columns {target}=")
            for target, column in options.columns.items()
        }
    else:
        chosen = {
            f.name: f.name
            for f in table.schema
            if (pa.types.is_integer(f.type) or pa.types.is_floating(f.type))
            and f.name.lower() not in ("source_id", *views.RA, *views.DEC)
        }
    if not chosen:
        raise UsageError(f"{name} has no columns of numbers", '--columns "j_m=NAME,h_m=NAME,..."')
    extra = {t: pa.array(arrays.floats(table, s)) for t, s in chosen.items()}
    reasons = [""] * table.num_rows
    return views.from_table(modality, table, {}, reasons, options, name, extra=extra)


READER = Reader("metadata", None, read, ("metadata",))
