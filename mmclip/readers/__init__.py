"""One file of an observer's, a survey's or another project's -> rows of a view.

`read(file, view)` is pure: it opens one file, guards itself against damaged and hostile ones
(`files`), and returns a table with one row an object (`views`). The readers of one format are
functions too: `lamost.read`, `desi.read`, `sdss.read_spec`, `gaia.read_xp`, `lightcurves.read`.
"""

import numpy as np
import pyarrow as pa

from mmclip import arrays
from mmclip.errors import UsageError, nearest
from mmclip.readers import (
    desi,
    files,
    gaia,
    images,
    lamost,
    lightcurves,
    mmu,
    sdss,
    spectra,
    tables,
    views,
)
from mmclip.readers.files import Source
from mmclip.readers.views import ALIASES, AS_IS, VIEWS, Options

KINDS = ("xp", "xp_coefficients", "rvs", "spectra", "photometry", "metadata", "image")

__all__ = ["ALIASES", "KINDS", "VIEWS", "Options", "Source", "read", "view_name"]


def view_name(name: str) -> str:
    """The view a user means: `lightcurve` is `photometry`.

    Raises:
        UsageError: If there is no such view.
    """
    chosen = ALIASES.get(name, name)
    if chosen not in KINDS:
        raise UsageError(
            f"--as '{name}' is no view; {nearest(name, list(KINDS))}", f"--as {'|'.join(KINDS)}"
        )
    return chosen


@np.errstate(invalid="ignore", over="ignore")  # damaged floats are NaN or infinite, no news
def read(source: Source, view: str, options: Options = AS_IS) -> pa.Table:
    """One file as a view table (see `views`).

    Args:
        source: A path, the bytes of a file, or an open binary file.
        view: One of `KINDS`; `xp` gives `xp_coefficients` if the file has coefficients.
        options: How the user describes the file.

    Raises:
        NotFound, UsageError, IntegrityError: If the file is not there, does not hold that view,
            is damaged or hostile; one sentence each.
    """
    view, source = view_name(view), files.body(source)
    # The formats are read by parsers, each with exceptions of its own for content that none
    # expected; whatever is left of these is one sentence too.
    with files.reading(source.name, view):
        return _read(source, view, options)


def _read(source: files.Loaded, view: str, options: Options) -> pa.Table:
    name = files.stem(source)
    if view == "image":
        return images.read(source, options)
    table = _mmu(source)
    if view == "photometry" and table is None:
        return lightcurves.read(source, options)
    if view == "photometry":
        return lightcurves.from_table(table, options, name)
    if view == "spectra" and table is None:
        return _spectra(source, options)
    if view == "spectra":
        return spectra.from_table(table, options, name)
    table = tables.read(source) if table is None else table
    if view == "rvs":
        return gaia.rvs_table(table, options, name)
    if view == "metadata":
        return metadata(table, options, name)
    if view == "xp_coefficients":
        return gaia.coefficients(table, options, name)
    return gaia.xp_table(table, options, name)


def _mmu(data: files.Loaded) -> pa.Table | None:
    """A table of the Multimodal Universe in the readers' own names; None for other files."""
    found = files.kind(data, data.name)
    if found == "hdf5":
        return mmu.normalise(mmu.hdf5(data), data.name, "hdf5")
    if found != "parquet":
        return None
    table = files.parquet(data)
    nested = any(
        pa.types.is_struct(f.type)
        or (arrays.is_list(f.type) and pa.types.is_struct(f.type.value_type))
        for f in table.schema
    )
    known = nested or mmu.is_mmu(table)
    return mmu.normalise(table, data.name, "parquet") if known else None


def _spectra(data: files.Loaded, options: Options) -> pa.Table:
    if files.kind(data, data.name) == "fits" and not options.columns:
        with files.fits_units(data) as units:
            reader = next((r for is_it, r in SPECTROGRAPHS if is_it(units)), None)
        if reader is not None:
            return reader(data)
    return spectra.read(data, options)


SPECTROGRAPHS = (
    (lamost.is_lamost, lamost.read),
    (desi.is_desi, desi.read),
    (sdss.is_spec, sdss.read_spec),
    (sdss.is_apogee, sdss.read_apogee),
)


def metadata(table: pa.Table, options: Options, fallback: str) -> pa.Table:
    """Scalar columns as the view `metadata`: those mapped, or every column of numbers."""
    if options.columns:
        chosen = {
            target: arrays.need(table, source, f"--columns {target}=")
            for target, source in options.columns.items()
        }
    else:
        chosen = {
            f.name: f.name
            for f in table.schema
            if (pa.types.is_integer(f.type) or pa.types.is_floating(f.type))
            and f.name.lower() not in ("source_id", *views.RA, *views.DEC)
        }
    if not chosen:
        raise UsageError(
            f"{fallback} has no columns of numbers", '--columns "j_m=NAME,h_m=NAME,..."'
        )
    extra = {t: pa.array(arrays.floats(table, s)) for t, s in chosen.items()}
    reasons = [""] * table.num_rows
    return views.from_table("metadata", table, {}, reasons, options, fallback, extra=extra)
