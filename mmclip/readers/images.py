"""Images: JPEG and PNG, FITS cubes, and tables that hold pictures in a column."""

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.arrays import Row, find, whole
from mmclip.errors import IntegrityError, UsageError
from mmclip.modalities.image import MODALITY as IMAGE
from mmclip.readers import Reader, files, tables, views
from mmclip.readers.files import Source
from mmclip.readers.views import AS_IS, Options

FREE = 64 << 20  # bytes of pixels that pictures may unpack to, however small they are
RATIO = 1000  # times their own size that larger ones may; JPEG cutouts reach 200
BYTES = 12  # of a pixel: three float32
BANDS = 16  # a first axis that is longer is one of pixels
COLUMNS = ("image", "image_jpeg", "image_png", "image_fits", "jpeg", "png", "picture")


def decode(data: bytes, name: str) -> NDArray[np.float32]:
    """A JPEG or PNG as [3, rows, columns], red green blue from 0 to 1; a FITS image as it is.

    Raises:
        IntegrityError: If it is damaged or has absurdly many pixels.
    """
    if data.startswith(b"SIMPLE"):
        with files.fits_units(data) as units, files.reading(name, "FITS"):
            return _cube(units, name)
    from PIL import Image

    with files.reading(name, "image"), Image.open(io.BytesIO(data), formats=["JPEG", "PNG"]) as it:
        if BYTES * it.width * it.height > max(FREE, RATIO * len(data)):
            raise IntegrityError(
                f"{name} states {it.width} x {it.height} pixels in {len(data)} bytes", "cut it out"
            )
        pixels = np.asarray(it.convert("RGB"), np.float32) / np.float32(255)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _cube(units: list[Any], name: str) -> NDArray[np.float32]:
    for unit in units:
        data = getattr(unit, "data", None)
        if data is None or getattr(unit, "columns", None) is not None:
            continue
        if np.ndim(data) not in (2, 3):
            break
        cube = np.asarray(data, np.float32)
        return cube[None] if cube.ndim == 2 else cube
    raise IntegrityError(f"{name} holds no image of bands, rows, columns", "--as spectra?")


def fault(pixels: NDArray[np.float32]) -> str:
    """Why an image cannot be used, or "": cutouts outside a survey's footprint are all zero."""
    if not np.isfinite(pixels).any():
        return "no finite pixel"
    return "every pixel is zero" if not np.nan_to_num(pixels).any() else ""


def read(source: Source, options: Options = AS_IS) -> pa.Table:
    """Images of a file as a view table `image`: one picture, or a table with a picture a row.

    A picture by itself is named by its file. In a table the pictures are bytes (JPEG, PNG,
    FITS), as in `image_jpeg`, the Multimodal Universe's list of bands, or nested lists of numbers
    (`datasets`' Array3D): bands first, or last where the first axis is longer than `BANDS`.

    Raises:
        UsageError: If a table has no such column.
        IntegrityError: If a single file is damaged.
    """
    data = files.body(source)
    name = files.stem(data)
    if files.kind(data, name) in ("jpeg", "png", "fits"):
        pixels = decode(data, files.label(data))
        one = pa.table({"object_name": [name]})
        return _table([pixels], [fault(pixels)], one, Options(), name, "")
    return from_table(tables.read(data), options, name)


def from_table(table: pa.Table, options: Options, fallback: str) -> pa.Table:
    """Pictures of a table, one a row."""
    column = find(table, [options.columns["image"]] if "image" in options.columns else COLUMNS)
    if column is None:
        raise UsageError(
            f"{fallback} has no column of pictures (it has: {arrays.shown(table)})",
            'name it: --columns "image=NAME"',
        )
    made: list[NDArray[np.float32] | None] = []
    reasons = []
    kind = table.schema.field(column).type
    nested = arrays.is_list(kind) and arrays.is_list(kind.value_type)
    packed, unpacked = table[column].nbytes, 0
    for value in whole(table, column):
        if unpacked > max(FREE, RATIO * packed):
            raise IntegrityError(
                f"the pictures of {fallback} unpack to more than {RATIO} times their {packed} bytes"
            )
        try:
            if nested and value.is_valid:
                pixels: NDArray[np.float32] | None = _nested(value)
            else:
                pixels = _value(value.as_py(), fallback)
            reason = "no image" if pixels is None else fault(pixels)
        except IntegrityError as error:
            pixels, reason = None, error.message
        unpacked += 0 if pixels is None else pixels.nbytes
        made.append(pixels if not reason else None)
        reasons.append(reason)
    return _table(made, reasons, table, options, fallback, column)


def _value(value: Any, name: str) -> NDArray[np.float32] | None:
    if isinstance(value, dict) and isinstance(value.get("bytes"), bytes):
        value = value["bytes"]  # how `datasets` stores an Image
    if isinstance(value, bytes):
        return decode(value, name)
    if isinstance(value, dict) and "flux" in value:
        value = [{"flux": f} for f in value["flux"]]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        try:
            return np.stack([np.asarray(band["flux"], np.float32) for band in value])
        except (KeyError, ValueError) as error:
            raise IntegrityError(f"bands of different sizes ({error})") from error
    return None


def _nested(value: pa.Scalar) -> NDArray[np.float32]:
    """Nested lists of numbers as [bands, rows, columns]: bands first, or last as in AstroCLIP's."""
    inner, shape = value.values, [len(value.values)]
    while arrays.is_list(inner.type):
        lengths = pc.unique(pc.list_value_length(inner))
        if len(lengths) != 1 or not lengths[0].is_valid:
            raise IntegrityError("rows of different lengths")
        shape.append(lengths[0].as_py())
        inner = inner.flatten()
    pixels = np.asarray(inner.to_numpy(zero_copy_only=False), np.float32)
    if len(shape) not in (2, 3):
        raise IntegrityError(f"an image of {len(shape)} axes, not of bands, rows, columns")
    pixels = pixels.reshape(shape if len(shape) == 3 else (1, *shape))
    if pixels.shape[0] > BANDS >= pixels.shape[2]:
        pixels = pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(pixels)


def _table(
    images: list[NDArray[np.float32] | None],
    reasons: list[str],
    table: pa.Table,
    options: Options,
    fallback: str,
    column: str,
) -> pa.Table:
    columns: dict[str, list[Row]] = {
        "image": [None if i is None else i.ravel() for i in images],
        "shape": [None if i is None else np.array(i.shape, np.int32) for i in images],
    }
    return views.from_table(
        IMAGE, table, columns, reasons, options, fallback, used={"image": column}
    )


READER = Reader("images", None, lambda source, modality, options: read(source, options), ("image",))
