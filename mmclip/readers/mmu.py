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

from mmclip import arrays, ids
from mmclip.arrays import find, floats, is_list, rows, whole
from mmclip.errors import IntegrityError, MissingExtra, UsageError
from mmclip.modalities import Export, Modality
from mmclip.readers import files, tables
from mmclip.readers.files import Source

# Columns of `desi_provabgs` that are written in capitals there.
PROVABGS = {
    "log_mstar", "z_hp", "z_mw", "tage_mw", "avg_sfr", "mag_g", "mag_r", "mag_z", "zerr",
    "tsnr2_bgs", "is_bgs_bright", "is_bgs_faint",
}  # fmt: skip
NSIDE = 16
FOLDED = ("_healpix_29", "_healpix_19", "Norder", "Dir", "Npix", "healpix")


def read(source: Source) -> pa.Table:
    """A file as a table; one of the Multimodal Universe in the names that readers of views know."""
    data = files.body(source)
    found = files.kind(data, data.name)
    if found == "hdf5":
        return normalise(hdf5(data), data.name, "hdf5")
    if found != "parquet":
        return tables.read(data)
    table = tables.cleaned(files.parquet(data))
    nested = any(
        pa.types.is_struct(f.type) or (is_list(f.type) and pa.types.is_struct(f.type.value_type))
        for f in table.schema
    )
    return normalise(table, data.name, "parquet") if nested or is_mmu(table) else table


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


# Writing


def table(modality: Modality, objects: pa.Table, view: pa.Table) -> pa.Table:
    """A raw view in the modality's own layout, or its lists in a column of its name.

    Args:
        modality: Says the layout (`Modality.export`).
        objects: Of a raw artefact, row by row the stars of `view`.
        view: Rows that have all that the layout needs.

    Raises:
        UsageError: If the layout cannot hold the view.
    """
    layout = modality.export or plain_layout(modality)
    lists = layout.lists(view)
    made = {}
    if lists:
        made[layout.column] = pa.StructArray.from_arrays(list(lists.values()), list(lists))
    by_source = layout.named_by == "source_id"
    made |= _who(objects) if not by_source else {"object_id": whole(view, "source_id")}
    scalars = [c.name for c in modality.stored if not c.is_list and c.name in view.column_names]
    own = {n: whole(view, n) for n in scalars} if modality.export is None else {}
    return pa.table(made | own | {n: a for n, a in _scalars(objects).items() if n not in own})


def catalogue(objects: pa.Table) -> pa.Table:
    """Objects without a view: ids, positions and labels; those of PROVABGS by its own names."""
    titles = {n: n.upper() for n in objects.column_names if n.lower() in PROVABGS}
    return pa.table(_who(objects) | {titles.get(n, n): a for n, a in _scalars(objects).items()})


def _who(objects: pa.Table) -> dict[str, pa.Array]:
    """`object_id`, and the Gaia DR3 id of objects that have one: read again, they keep it."""
    found = {"object_id": _names(objects)}
    gaia = whole(objects, "source_id")
    local = pa.array(ids.is_local(np.asarray(gaia, np.int64)))
    gaia = pc.if_else(local, pa.scalar(None, gaia.type), gaia)
    return found | ({} if gaia.null_count == len(gaia) else {"gaia_dr3_source_id": gaia})


def plain_layout(modality: Modality) -> Export:
    """The layout of a modality that the Multimodal Universe has no schema for."""
    lists = [c.name for c in modality.stored if c.is_list]
    return Export(
        modality.name,
        tuple(c.name for c in modality.stored if not c.optional),
        lambda view: {n: _variable(whole(view, n)) for n in lists if n in view.column_names},
    )


def _variable(array: pa.Array) -> pa.Array:
    return array.cast(pa.list_(array.type.value_type))


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
    with h5py.File(path, "w") as file:
        for name in table.column_names:
            array = whole(table, name)
            if pa.types.is_struct(array.type):
                if name == "image":
                    raise UsageError("images are written as Parquet or HATS", "--layout parquet")
                for i, child in enumerate(array.type):
                    plain = name in ("lightcurve", "spectral_coefficients")
                    title = child.name if plain else f"{name}_{child.name}"
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
