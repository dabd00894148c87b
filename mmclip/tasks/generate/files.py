"""Generated views as files: Parquet of any length, FITS that other programs open."""

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmclip import __version__, arrays
from mmclip.artifacts import whole
from mmclip.config import Json
from mmclip.errors import UsageError
from mmclip.tasks.generate import Generated, calibrate

BOUNDS = ("low68", "high68", "low95", "high95")
MOST_HDUS = 1000  # stars of a FITS file


def about(made: Generated) -> dict[str, str]:
    """What the schema of every Parquet file says; JSON values."""
    facts: Json = {
        "provenance": "generated",
        "generated_from": made.start,
        "view": made.to,
        "trained_on": made.provenance,
        "unit": made.unit,
        "labels": made.labels,
        "interval68_sigma": calibrate.interval(made.calibration, 0.68),
        "interval95_sigma": calibrate.interval(made.calibration, 0.95),
        "calibrated_on_stars": made.calibration.stars,
        "mmclip_version": __version__,
    }
    if made.axis is not None:
        facts[f"wavelength_{made.axis_unit}"] = [float(w) for w in made.axis]
    return {f"mmclip.{k}": json.dumps(v) for k, v in facts.items()}


def record(made: Generated) -> pa.Table:
    """One row a star: `source_id`, `generated`, `sigma`, the ends of its intervals, draws if any,
    distance, provenance.

    Arrays are fixed-size lists of float32 in the unit of the field metadata; `samples` holds the
    draws one after another; `observed` and `observed_error` are there if anything was observed.
    """
    columns: dict[str, pa.Array] = {
        "source_id": pa.array(made.source_id, pa.int64()),
        "generated": arrays.fixed(made.mean.astype(np.float32)),
        "sigma": arrays.fixed(made.sigma.astype(np.float32)),
    }
    for level in (68, 95):
        for end, values in zip(("low", "high"), made.interval(level / 100), strict=True):
            columns[f"{end}{level}"] = arrays.fixed(values.astype(np.float32))
    if made.samples is not None:
        flat = made.samples.reshape(len(made.samples), -1).astype(np.float32)
        columns["samples"] = arrays.fixed(flat)
    if np.isfinite(made.observed).any():
        columns["observed"] = arrays.fixed(made.observed.astype(np.float32))
        columns["observed_error"] = arrays.fixed(made.error.astype(np.float32))
    units = dict.fromkeys(
        (*BOUNDS, "generated", "sigma", "samples", "observed", "observed_error"), made.unit
    )
    columns["distance"] = pa.array(made.distance.astype(np.float32))
    columns["outside"] = pa.array(made.outside)
    columns["provenance"] = pa.array([made.origin] * len(made.source_id)).dictionary_encode()
    fields = [
        pa.field(n, c.type, metadata={"unit": units[n]} if n in units else None)
        for n, c in columns.items()
    ]
    return pa.table(list(columns.values()), schema=pa.schema(fields, metadata=about(made)))


def write_parquet(chunks: Iterable[Generated], path: Path) -> int:
    """Write chunk by chunk, a row group each; returns the number of stars.

    Raises:
        UsageError: If there is none.
    """
    with whole(path) as part:
        stars, writer = 0, None
        try:
            for made in chunks:
                rows = record(made)
                if writer is None:
                    writer = pq.ParquetWriter(
                        part, rows.schema, compression="zstd", write_page_checksum=True
                    )
                writer.write_table(rows.cast(writer.schema))
                stars += len(made.source_id)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise UsageError("there is no star to write", "--query-id ID")
    return stars


def write_fits(chunks: Iterable[Generated], path: Path) -> int:
    """One binary table a star, named by its source_id; a single star also as an image.

    Columns: the wavelength (or `quantity`), `flux`, `uncertainty` (1 sigma), `low68`, `high68`,
    `low95`, `high95`, `draw_N`, and `observed` with its error where there is one.

    A single star on an even wavelength grid also stands in the primary image with a linear
    wavelength axis, its sigma in the image `STD`: `Spectrum.read(file)` of specutils opens that
    as `wcs1d-fits`. The tables it opens as `tabular-fits`; fluxes without a unit need its
    `column_mapping`.

    Raises:
        UsageError: For more than 1,000 stars.
    """
    from astropy.io import fits

    head, stars = fits.PrimaryHDU(), list[Any]()
    images: list[Any] = []
    for made in chunks:
        if len(stars) + len(made.source_id) > MOST_HDUS:
            raise UsageError(f"a FITS file takes {MOST_HDUS} stars at most", "-o FILE.parquet")
        stars += [_hdu(made, i) for i in range(len(made.source_id))]
        if len(stars) == 1 and made.axis is not None and np.ptp(np.diff(made.axis)) < 1e-6:
            head = _image(fits.PrimaryHDU(made.mean[0]), made)
            images = [_image(fits.ImageHDU(made.sigma[0], name="STD"), made)]
        elif images:
            head, images = fits.PrimaryHDU(), []
        head.header["ORIGIN"] = (f"mmclip {__version__}", "program")
        head.header["PROVENAN"] = (made.origin, "not an observation")
        head.header["GENFROM"] = (made.start, "views it was generated from")
        head.header["GENVIEW"] = (made.to, "view that was generated")
        head.header["CALSTARS"] = (made.calibration.stars, "stars sigma was calibrated on")
    with whole(path) as part:
        fits.HDUList([head, *images, *stars]).writeto(part, overwrite=True, checksum=True)
    return len(stars)


def _image(hdu: Any, made: Generated) -> Any:
    """Give an image its linear wavelength axis (Greisen et al. 2006, A&A 446, 747)."""
    assert made.axis is not None
    cards = {
        "WCSAXES": 1, "CTYPE1": "WAVE", "CUNIT1": made.axis_unit, "CRPIX1": 1.0,
        "CRVAL1": float(made.axis[0]), "CDELT1": float(made.axis[1] - made.axis[0]),
        "BUNIT": "" if "/" in made.unit else made.unit,
    }  # fmt: skip
    for key, value in cards.items():
        hdu.header[key] = value
    return hdu


def _hdu(made: Generated, i: int) -> Any:
    from astropy.io import fits

    def real(name: str, values: Any, unit: str = "") -> Any:
        return fits.Column(name, "D", array=np.asarray(values, float), unit=unit)

    unit = "" if "/" in made.unit else made.unit  # a ratio has no unit
    if made.axis is None:
        width = max(len(label) for label in made.labels)
        columns = [fits.Column("quantity", f"{width}A", array=np.array(made.labels))]
    else:
        columns = [real("wavelength", made.axis, made.axis_unit)]
    columns += [real("flux", made.mean[i], unit), real("uncertainty", made.sigma[i], unit)]
    for part in (68, 95):
        low, high = made.interval(part / 100)
        columns += [real(f"low{part}", low[i], unit), real(f"high{part}", high[i], unit)]
    if np.isfinite(made.observed[i]).any():
        columns += [real("observed", made.observed[i], unit)]
        columns += [real("observed_error", made.error[i], unit)]
    if made.samples is not None:
        columns += [real(f"draw_{n}", one, unit) for n, one in enumerate(made.samples[i])]
    table = fits.BinTableHDU.from_columns(columns, name=str(made.source_id[i]))
    table.header["SOURCEID"] = (str(made.source_id[i]), "Gaia source_id")
    table.header["PROVENAN"] = (made.origin, "not an observation")
    table.header["FLUXIS"] = (made.unit, "what the flux column is")
    table.header["DISTANCE"] = (float(made.distance[i]), "cosine distance to the training stars")
    table.header["OUTSIDE"] = (bool(made.outside[i]), "farther than 99 % of training stars")
    return table


def write(chunks: Iterable[Generated], path: Path) -> int:
    """Write by the suffix, `.parquet` or `.fits`; returns the number of stars."""
    if path.suffix == ".parquet":
        return write_parquet(chunks, path)
    if path.suffix == ".fits":
        return write_fits(chunks, path)
    raise UsageError(f"'{path.suffix}' of {path} is no file of spectra", ".parquet or .fits")


def first(chunks: Iterable[Generated]) -> tuple[Generated, Iterator[Generated]]:
    """The first chunk, and all of them again.

    Raises:
        UsageError: If there is none.
    """
    rest = iter(chunks)
    head = next(rest, None)
    if head is None:
        raise UsageError("there is no star to generate", "--query-id ID")
    return head, itertools.chain([head], rest)
