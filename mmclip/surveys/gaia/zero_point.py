"""Zero point of Gaia's parallaxes, by the published package.

Source: Lindegren et al. 2021, A&A 649, A4; the package `gaiadr3-zeropoint`.
"""

import warnings

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.errors import MissingExtra

NEEDED = (
    "phot_g_mean_mag", "nu_eff_used_in_astrometry", "pseudocolour", "ecl_lat",
    "astrometric_params_solved",
)  # fmt: skip
FULL = (31, 95)  # astrometric_params_solved of solutions with 5 and 6 parameters


def add(table: pa.Table) -> pa.Table:
    """The table with `parallax_zero_point` and `parallax_corrected` (mas); null where unknown.

    Raises:
        MissingExtra: If the package is not installed.
    """
    if any(n not in table.column_names for n in (*NEEDED, "parallax")):
        return table
    magnitude, frequency, colour, latitude, solved = (_column(table, n) for n in NEEDED)
    good = np.isin(solved, FULL) & np.isfinite(magnitude) & np.isfinite(latitude)
    good &= (magnitude > 6) & (magnitude < 21)
    good &= np.where(solved == 31, np.isfinite(frequency), np.isfinite(colour))
    zero = np.full(len(good), np.nan)
    if good.any():
        zero[good] = _package(
            magnitude[good], frequency[good], colour[good], latitude[good],
            solved[good].astype(np.int64),
        )  # fmt: skip
    corrected = _column(table, "parallax") - zero
    for name, values in (("parallax_zero_point", zero), ("parallax_corrected", corrected)):
        field = pa.field(name, pa.float64(), metadata={"unit": "mas"})
        table = table.append_column(field, pa.array(values, mask=~np.isfinite(values)))
    return table


def _column(table: pa.Table, name: str) -> NDArray[np.float64]:
    return np.asarray(table[name].cast(pa.float64()).to_numpy(), np.float64)


def _package(
    magnitude: NDArray[np.float64],
    frequency: NDArray[np.float64],
    colour: NDArray[np.float64],
    latitude: NDArray[np.float64],
    solved: NDArray[np.int64],
) -> NDArray[np.float64]:
    try:
        from zero_point import zpt
    except ImportError as error:
        raise MissingExtra(
            "the parallax zero point needs its package", "pip install 'mmclip[zeropoint]'"
        ) from error
    zpt.load_tables()
    with warnings.catch_warnings():  # it warns of stars outside the range of its colours
        warnings.simplefilter("ignore")
        return np.asarray(zpt.get_zpt(magnitude, frequency, colour, latitude, solved), np.float64)
