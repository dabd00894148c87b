"""One-dimensional spectra by the loaders of specutils, for formats that no reader here knows.

Asked for by name: `mmclip import FILE --as spectra --reader specutils-loaders` (extra `spectra`).
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from astropy import units as u

from mmclip.errors import MissingExtra, UsageError
from mmclip.modalities import Modality
from mmclip.modalities.spectra import MODALITY as SPECTRA
from mmclip.readers import Loaded, Options, Reader, files, views, wavelength
from mmclip.readers.spectra import Spectrum, columns_of, spectrum


def read(source: Loaded, modality: Modality, options: Options) -> pa.Table:
    """The spectra of a file, one row each: Angstrom (from air with `--air`), 1-sigma errors.

    Raises:
        MissingExtra: If specutils is not installed.
        UsageError: If none of its loaders reads the file.
    """
    try:
        from specutils import SpectrumList
    except ImportError as error:
        raise MissingExtra(
            "the reader specutils-loaders needs specutils", "pip install 'mmclip[spectra]'"
        ) from error
    name = files.stem(source)
    with tempfile.TemporaryDirectory(prefix="mmclip-") as folder:
        path = Path(folder) / Path(source.name).name
        path.write_bytes(source)
        try:
            found = SpectrumList.read(path)
        except Exception as error:  # every loader has its own exceptions
            text = " ".join(str(error).split())[:160]
            raise UsageError(
                f"no loader of specutils reads {source.name}: {text}", "leave --reader out"
            ) from error
    made: list[Spectrum | str] = []
    for one in found:
        made += _rows(one, options)
    columns, reasons = columns_of(made)
    names = [name] if len(made) == 1 else [f"{name}:{i + 1}" for i in range(len(made))]
    about = pa.table({"object_name": names})
    return views.from_table(SPECTRA, about, columns, reasons, Options(), name)


def _rows(one: Any, options: Options) -> list[Spectrum | str]:
    """Each row of a specutils spectrum."""
    from astropy.nddata import StdDevUncertainty

    try:
        wave = one.spectral_axis.to_value(u.AA, u.spectral())
    except u.UnitConversionError:
        return [f"the axis is in {one.spectral_axis.unit}, of no wavelength"]
    flux = np.atleast_2d(np.asarray(one.flux.value, np.float64))
    sigma = mask = None
    if one.uncertainty is not None:
        known = one.uncertainty.represent_as(StdDevUncertainty)
        sigma = np.asarray(known.quantity.to_value(one.flux.unit)).reshape(flux.shape)
    if one.mask is not None:
        mask = np.broadcast_to(np.asarray(one.mask), one.flux.shape).reshape(flux.shape)
    wave = np.asarray(wavelength.vacuum(wave) if options.air else wave)
    return [
        spectrum(wave, row, None if sigma is None else sigma[i], None if mask is None else mask[i])
        for i, row in enumerate(flux.reshape(-1, flux.shape[-1]))
    ]


# It recognises nothing by itself: the user asks for it by name.
READER = Reader("specutils-loaders", lambda source, hdus: False, read, ("spectra",))
