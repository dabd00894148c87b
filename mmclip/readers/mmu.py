"""Multimodal Universe: its Parquet, HDF5 and HATS schemas, read and written, faults guarded.

Faults of the published sets that are met here: right ascensions in float32 (rounded to 0.05
arcsec), `ZWARN` that is True for a good redshift in Parquet and 0 for a good one in HDF5,
wavelengths padded with 0, light curves padded with 0, and catalogues cut to the number of spectra
so that rows no longer belong together.

Source: the builders and schemas in MultimodalUniverse/MultimodalUniverse, `scripts/{gaia,desi,
lamost,apogee,desi_provabgs,foundation}`.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmclip import arrays
from mmclip.arrays import find, floats, is_list, rows, whole
from mmclip.errors import IntegrityError, MissingExtra, UsageError
from mmclip.readers import files
from mmclip.readers.files import Source

NSIDE = 16
FOLDED = ("_healpix_29", "_healpix_19", "Norder", "Dir", "Npix", "healpix")
# What a spectrum holds beside flux and error, by survey.
SPECTRUM = ("flux", "ivar", "lsf_sigma", "lambda", "mask")
LIGHT_CURVE = ("band", "time", "flux", "flux_err")


def is_mmu(table: pa.Table) -> bool:
    """True if a table has a nested or flattened column of the Multimodal Universe."""
    here = {n.lower() for n in table.column_names}
    nested = {"spectrum", "lightcurve", "spectral_coefficients"} & here
    flat = {"spectrum_flux", "coeff", "provabgs_mcmc", "provabgs_theta_bf", "log_mstar"} & here
    return bool(nested or flat)


def flatten(table: pa.Table) -> pa.Table:
    """Structs as columns: `spectrum.flux` for lists, the field's own name for scalars.

    A list of structs, as `datasets` writes a sequence of features, is read as a struct of lists.
    """
    for name in list(table.column_names):
        array = whole(table, name)
        if is_list(array.type) and pa.types.is_struct(array.type.value_type):
            array = _turned(array)
        if not pa.types.is_struct(array.type):
            continue
        table = table.drop_columns([name])
        for child in range(array.type.num_fields):
            field = array.type.field(child)
            values = pc.struct_field(array, child)
            nested = is_list(field.type) or pa.types.is_struct(field.type)
            title = f"{name}.{field.name}" if nested else field.name
            if title not in table.column_names:
                table = table.append_column(title, values)
    return table


def _turned(array: pa.Array) -> pa.StructArray:
    """list<struct> -> struct<list>: the same lengths for every field."""
    if pa.types.is_fixed_size_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    inner = array.values
    parts = [
        pa.ListArray.from_arrays(array.offsets, pc.struct_field(inner, i))
        for i in range(inner.type.num_fields)
    ]
    return pa.StructArray.from_arrays(parts, [f.name for f in inner.type])


def normalise(table: pa.Table, name: str, container: str) -> pa.Table:
    """A table of the Multimodal Universe in names that the readers of views know.

    Args:
        table: As read.
        name: Of the file, for messages.
        container: `parquet` or `hdf5`; it decides what `ZWARN` means.

    Returns:
        Flat columns: `bp_coefficients` ... for Gaia, `flux`, `ivar`, `mask` and `wavelength` for
        spectra, `time` ... for light curves; `redshift_good` instead of `ZWARN`. The schema's
        metadata say under `faults` what was met.

    Raises:
        IntegrityError: If the catalogue is misaligned with the spectra.
    """
    table = flatten(table)
    table = table.drop_columns([n for n in table.column_names if n in FOLDED])
    faults = []
    aligned(table, name)
    for axis in ("ra", "dec"):
        found = find(table, [axis])
        if found and table.schema.field(found).type == pa.float32():
            faults.append(f"{axis} is float32: rounded to about 0.05 arcsec")
    warn = find(table, ["ZWARN"])
    if warn is not None:
        good = redshift_good(whole(table, warn), container)
        place = table.column_names.index(warn)
        table = table.set_column(place, "redshift_good", good)
        faults.append(f"ZWARN of {container} read as redshift_good")
    table = _coefficients(table, name)
    own = find(table, ["object_id"])
    if find(table, ["bp_coefficients"]) and own and not find(table, ["source_id"]):
        # Only Gaia's sets name their objects by source_id.
        table = table.rename_columns(["source_id" if n == own else n for n in table.column_names])
    renamed = []
    for title in table.column_names:
        head, _, tail = title.partition(".")
        renamed.append(tail if head in ("spectrum", "lightcurve") and tail else title)
    if len(set(renamed)) == len(renamed):
        table = table.rename_columns(renamed)
    metadata = dict(table.schema.metadata or {}) | {b"faults": "; ".join(faults).encode()}
    return table.replace_schema_metadata(metadata)


def redshift_good(values: pa.Array, container: str) -> pa.Array:
    """True where the redshift is good, from a `ZWARN` of either meaning.

    The published loader writes `not ZWARN`: a boolean of a Parquet file is True for good. HDF5
    files keep the catalogue's number, 0 for good.
    """
    if pa.types.is_boolean(values.type) and container == "parquet":
        return values
    return pc.equal(values.cast(pa.int64()), 0)


def aligned(table: pa.Table, name: str) -> None:
    """Refuse a catalogue whose own ids disagree row by row.

    Raises:
        IntegrityError: If `object_id` and the survey's id (`obsid`, `TARGETID`, `source_id`)
            differ in any row.
    """
    first = find(table, ["object_id"])
    for other in ("obsid", "targetid", "spectrum_obsid", "source_id"):
        second = find(table, [other])
        if first is None or second is None:
            continue
        a, b = ([str(v) for v in whole(table, n).to_pylist()] for n in (first, second))
        wrong = sum(x != y for x, y in zip(a, b, strict=True))
        if wrong:
            raise IntegrityError(
                f"{name}: {wrong} rows have another {second} than {first}: the catalogue is "
                "misaligned with the spectra",
                "build that file again from the survey's own files",
            )


def _coefficients(table: pa.Table, name: str) -> pa.Table:
    """Gaia's `coeff` and `coeff_error`: BP then RP, in equal halves."""
    for title, suffix in (("coeff", "s"), ("coeff_error", "_errors")):
        found = find(table, [f"spectral_coefficients.{title}", title])
        if found is None:
            continue
        values = rows(table, found)
        lengths = {len(v) for v in values if v is not None}
        if any(n % 2 for n in lengths):
            raise IntegrityError(f"{name}: {sorted(lengths)} coefficients are not two halves")
        table = table.drop_columns([found])
        for i, band in enumerate("br"):
            part = [None if v is None else v[len(v) // 2 * i :][: len(v) // 2] for v in values]
            table = table.append_column(
                f"{band}p_coefficient{suffix}", arrays.list_array(part, pa.float64())
            )
    return table


def hdf5(source: Source) -> pa.Table:
    """The datasets of an HDF5 file as columns, one row an object.

    Raises:
        MissingExtra: If h5py is not installed.
        IntegrityError: If it is damaged, its datasets differ in length (a catalogue cut to the
            number of spectra), or it states absurdly large ones.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtra("HDF5 files need h5py", "pip install 'mmclip[mmu]'") from None
    data = files.body(source)
    name = files.label(data)
    columns: dict[str, pa.Array] = {}
    with files.reading(name, "HDF5"), h5py.File(io.BytesIO(data), "r") as file:
        for key in file:
            if not isinstance(file.get(key, getlink=True), h5py.HardLink):
                raise IntegrityError(f"{name}: '{key}' leads out of the file; it is not followed")
            item = file[key]
            if isinstance(item, h5py.Dataset):
                columns[key] = _dataset(item, f"{name}: {key}", len(data))
    lengths = {n: len(a) for n, a in columns.items()}
    if not columns or max(lengths.values()) == 0:
        raise IntegrityError(f"{name} holds no datasets", "see docs/formats.md")
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{n} {k}" for n, k in list(lengths.items())[:6])
        raise IntegrityError(
            f"{name}: datasets differ in length ({shown}): the catalogue is misaligned",
            "build that file again from the survey's own files",
        )
    return pa.table(columns)


def sane(item: Any, name: str, size: int) -> None:
    """Refuse an HDF5 dataset that leads out of its file or states absurdly much.

    Args:
        item: The dataset; nothing of it has been read.
        name: For the message.
        size: Of the file, in bytes.

    Raises:
        IntegrityError: If it does.
    """
    if item.is_virtual or item.external:
        raise IntegrityError(f"{name} leads out of the file; it is not followed")
    stated = int(np.prod(item.shape or (), dtype=object)) * item.dtype.itemsize
    chunk = int(np.prod(item.chunks or (), dtype=object)) * item.dtype.itemsize
    if max(stated, chunk) > min(files.LIMIT, max(files.FREE, files.RATIO * size)):
        raise IntegrityError(f"{name} states {max(stated, chunk)} bytes in a file of {size}")


def _dataset(item: Any, name: str, size: int) -> pa.Array:
    sane(item, name, size)
    values = np.asarray(item[()])
    if values.ndim == 0:
        values = values[None]
    if values.dtype.kind in "SO":
        text = [v.decode(errors="replace") if isinstance(v, bytes) else v for v in values.ravel()]
        if not all(isinstance(v, str) for v in text):
            raise IntegrityError(f"{name} holds objects, not numbers; they are not loaded")
        return pa.array(text)
    if values.dtype.kind not in "iufb":
        raise IntegrityError(f"{name} has a type that mmclip does not read ({values.dtype})")
    values = values.astype(values.dtype.newbyteorder("="))
    if values.ndim == 1:
        return pa.array(values)
    wide = np.ascontiguousarray(values.reshape(len(values), -1))
    return pa.FixedSizeListArray.from_arrays(pa.array(wide.reshape(-1)), wide.shape[1])


def wanted(table: pa.Table) -> str:
    """The view that a normalised table holds."""
    if find(table, ["bp_coefficients", "rp_coefficients"]):
        return "xp"
    if find(table, ["time"]) and find(table, ["flux", "magnitude"]):
        return "photometry"
    if find(table, ["flux"]) and is_list(table.schema.field(find(table, ["flux"]) or "").type):
        return "spectra"
    return "metadata"


# Writing


def gaia(objects: pa.Table, view: pa.Table) -> pa.Table:
    """XP coefficients in the schema of `MultimodalUniverse/gaia`: BP then RP in one array.

    Args:
        objects: Of a raw artefact, row by row the stars of `view`.
        view: `xp_coefficients`. A star without one of the bands is left out by the caller.
    """
    parts = {}
    for title, suffix in (("coeff", "s"), ("coeff_error", "_errors")):
        both = [rows(view, f"{b}p_coefficient{suffix}") for b in "br"]
        joined = [np.concatenate([b, r]) for b, r in zip(*both, strict=True)]
        parts[title] = arrays.list_array(joined, pa.float32())
    nested = pa.StructArray.from_arrays(list(parts.values()), list(parts))
    made = {"spectral_coefficients": nested, "object_id": whole(view, "source_id")}
    return pa.table(made | _scalars(objects))


def spectra(objects: pa.Table, view: pa.Table) -> pa.Table:
    """Spectra in the schema of `desi` and `apogee`: `mask` is True for a bad pixel."""
    waves, fluxes, sigmas = (rows(view, n) for n in ("wavelength", "flux", "sigma"))
    made: dict[str, list[arrays.Row]] = {n: [] for n in SPECTRUM}
    for w, f, s in zip(waves, fluxes, sigmas, strict=True):
        if w is None or f is None:
            raise UsageError("a spectrum is missing", "leave that object out")
        error = np.full(len(f), np.nan) if s is None else s
        bad = ~np.isfinite(f) | (~np.isfinite(error) if s is not None else False)
        with np.errstate(invalid="ignore", divide="ignore"):
            ivar = np.where(bad | ~np.isfinite(error), 0.0, 1 / error**2)
        made["flux"].append(np.where(bad, 0.0, f))
        made["ivar"].append(ivar)
        made["lsf_sigma"].append(np.full(len(f), np.nan))
        made["lambda"].append(w)
        made["mask"].append(bad)
    parts = [
        arrays.list_array(made[n], pa.bool_() if n == "mask" else pa.float32()) for n in SPECTRUM
    ]
    nested = pa.StructArray.from_arrays(parts, list(SPECTRUM))
    return pa.table({"spectrum": nested, "object_id": _names(objects)} | _scalars(objects))


def light_curves(objects: pa.Table, view: pa.Table) -> pa.Table:
    """Light curves in the schema of the time-series sets: points by band, then time.

    Raises:
        UsageError: If the view is in magnitudes; the schema has fluxes alone.
    """
    if "flux" not in view.column_names:
        raise UsageError(
            "the Multimodal Universe has light curves in flux; these are magnitudes",
            'import them with --columns "flux=NAME"',
        )
    made: dict[str, list[arrays.Row]] = {n: [] for n in LIGHT_CURVE}
    bands = rows(view, "band") if "band" in view.column_names else [None] * view.num_rows
    parts = [rows(view, n) for n in ("time", "flux", "error")]
    for t, f, e, b in zip(*parts, bands, strict=True):
        if t is None or f is None or e is None:
            raise UsageError("a light curve is missing", "leave that object out")
        names = np.full(len(t), "") if b is None else b.astype(str)
        order = np.lexsort((t, names))
        for key, values in zip(LIGHT_CURVE, (names, t, f, e), strict=True):
            made[key].append(values[order])
    kinds = (pa.string(), pa.float64(), pa.float32(), pa.float32())
    columns = [arrays.list_array(made[n], k) for n, k in zip(LIGHT_CURVE, kinds, strict=True)]
    nested = pa.StructArray.from_arrays(columns, list(LIGHT_CURVE))
    return pa.table({"lightcurve": nested, "object_id": _names(objects)} | _scalars(objects))


def _names(objects: pa.Table) -> pa.Array:
    if "object_name" in objects.column_names:
        return whole(objects, "object_name")
    return whole(objects, "source_id").cast(pa.string())


def _scalars(objects: pa.Table) -> dict[str, pa.Array]:
    """Positions in double precision and the labels; `redshift_good` becomes `ZWARN` again."""
    found = {}
    for name in objects.column_names:
        kind = objects.schema.field(name).type
        if name in ("source_id", "object_name") or is_list(kind):
            continue
        if name == "redshift_good":
            found["ZWARN"] = whole(objects, name)  # True = good, as the published loader has it
            continue
        found[name] = whole(objects, name)
    return found


def write_hdf5(path: Path, table: pa.Table) -> None:
    """A table of this module as the HDF5 layout: `spectrum_flux` ..., padded to one length.

    `ZWARN` is written as a number, 0 for a good redshift, as the surveys have it.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtra("HDF5 files need h5py", "pip install 'mmclip[mmu]'") from None
    flat = {"coeff": "coeff", "coeff_error": "coeff_error"}
    with h5py.File(path, "w") as file:
        for name in table.column_names:
            array = whole(table, name)
            if pa.types.is_struct(array.type):
                for i, child in enumerate(array.type):
                    title = flat.get(child.name) or (
                        f"spectrum_{child.name}" if name == "spectrum" else child.name
                    )
                    column = pa.table({title: pc.struct_field(array, i)})
                    file.create_dataset(title, data=_padded(rows(column, title)))
            elif name == "ZWARN":
                file.create_dataset(name, data=(~np.asarray(array)).astype(np.int64))
            elif pa.types.is_string(array.type):
                text = ["" if v is None else v for v in array.to_pylist()]
                file.create_dataset(name, data=text, dtype=h5py.string_dtype())
            elif pa.types.is_integer(array.type) and not array.null_count:
                file.create_dataset(name, data=array.to_numpy(zero_copy_only=False))
            else:
                file.create_dataset(name, data=floats(pa.table({name: array}), name))


def _padded(values: list[arrays.Row]) -> Any:
    """Rows of one length, padded at the end with 0 (False, empty text)."""
    longest = max((len(v) for v in values if v is not None), default=0)
    kind = next((v.dtype for v in values if v is not None), np.dtype("f4"))
    if kind.kind in "OU":
        filled = np.full((len(values), longest), b"", dtype="S32")
        for i, v in enumerate(values):
            if v is not None:
                filled[i, : len(v)] = np.char.encode(v.astype(str))
        return filled
    filled = np.zeros((len(values), longest), kind)
    for i, v in enumerate(values):
        if v is not None:
            filled[i, : len(v)] = v
    return filled
