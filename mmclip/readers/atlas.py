"""Light curves of the ATLAS forced photometry server (`###MJD m dm uJy duJy F err chi/N ...`).

Fluxes in microjansky, for on difference images a star may be fainter than its reference; MJD (UTC);
filters `c` and `o`. Left out: a failed fit (`err` not 0), and errors from 4000 microjansky or
chi/N from 100 on, which the server does not draw either.

Source:
    Tonry et al. 2018 (PASP 130, 064505); Shingles et al. 2021 (TNS AstroNote 7).
"""

import numpy as np
import pyarrow as pa

from mmclip.arrays import find, floats
from mmclip.readers import Options, Reader, files, lightcurves, mmu, survey_points
from mmclip.readers.files import Loaded

WORST_ERROR, WORST_FIT = 4000.0, 100.0  # microjansky; chi/N


def recognises(data: Loaded) -> bool:
    """Whether the columns are those of ATLAS forced photometry."""
    return survey_points.named(data, ["mjd", "ujy", "dujy", "chi/n", "mag5sig"])


def read(data: Loaded, options: Options) -> pa.Table:
    """The light curve of one position."""
    table = mmu.read(data)
    failed, error, fit = (
        np.zeros(table.num_rows) if (n := find(table, [name])) is None else floats(table, n)
        for name in ("err", "duJy", "chi/N")
    )
    bad = {"with a failed fit": failed != 0, "with an error from 4000 uJy on": error >= WORST_ERROR,
           "with chi/N from 100 on": fit >= WORST_FIT}  # fmt: skip
    names = {"ujy": "flux", "dujy": "error", "f": "band", "err": "fit error"}
    # `m` is minus a magnitude where the flux is negative: no magnitude of anything.
    table = survey_points.with_columns(table, {"time_system": "UTC"}, ["m", "dm", "x", "y"])
    table = table.rename_columns([names.get(n.lower(), n.lstrip("#")) for n in table.column_names])
    table = survey_points.kept(table, bad, "ATLAS")
    return lightcurves.from_table(table, options, files.stem(data), "atlas")


READER = Reader(
    "atlas", lambda data, units: recognises(data),
    lambda data, modality, options: read(data, options), ("photometry",),
    {"atlas": ("2018PASP..130f4505T", "2020PASP..132h5002S", "2021TNSAN...7....1S")},
)  # fmt: skip
