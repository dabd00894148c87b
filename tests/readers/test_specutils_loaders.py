"""The loaders of specutils behind `--reader specutils-loaders`."""

import sys

import numpy as np
import pytest
from astropy.io import fits

from mmclip import readers
from mmclip.errors import MissingExtra, UsageError
from mmclip.modalities import registry
from tests import made_files

SPECTRA = registry.modality("spectra")


def body(rows=1, **cards):
    unit = fits.PrimaryHDU(np.arange(1.0, 1 + 30 * rows).reshape(rows, 30).squeeze())
    unit.header.update({"CTYPE1": "WAVE", "CUNIT1": "Angstrom", "CRVAL1": 4000.0, "CDELT1": 2.0,
                        "CRPIX1": 1, "WCSDIM": 1, "BUNIT": "Jy", **cards})  # fmt: skip
    return made_files.packed([unit])


def read(data):
    return readers.read(data, SPECTRA, among=readers.readers(SPECTRA, "specutils-loaders"))


def test_without_specutils_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "specutils", None)
    with pytest.raises(MissingExtra) as caught:
        read(body())
    assert "mmclip[spectra]" in str(caught.value.hint)


def test_it_takes_no_file_by_itself():
    assert readers.read(body(), SPECTRA).schema.metadata[b"reader"] == b"spectra"


def test_a_linear_axis_is_the_same_by_both():
    pytest.importorskip("specutils")
    by, ours = read(body()), readers.read(body(), SPECTRA)
    for name in ("wavelength", "flux"):
        np.testing.assert_allclose(by[name].to_pylist()[0], ours[name].to_pylist()[0], rtol=1e-9)


def test_what_no_loader_reads_is_refused_in_one_sentence():
    pytest.importorskip("specutils")
    with pytest.raises(UsageError, match="no loader of specutils"):
        read(b"SIMPLE  = nothing")
