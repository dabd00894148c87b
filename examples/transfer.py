"""Raw artefacts for survey-to-survey experiments, from spectra and labels on this disk.

    python examples/transfer.py libraries SPECTRA WORKSPACE   raw/miles, raw/stelib, raw/kesseli
    python examples/transfer.py demo WORKSPACE                raw/giants, raw/dwarfs, raw/north,
                                                              raw/south, raw/south-blurred

SPECTRA is a folder with stellar_libraries/miles.parquet, stellar_libraries/stelib.parquet and
templates/kesseli2017_sdss_templates.parquet. Stars of the libraries have no Gaia source_id; their
id here is a hash of the star's name, so that one star is one id in both libraries. What to do
then stands in docs/experiments.md.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmclip.datasets import ingest
from mmclip.modalities import continuum, xp
from mmclip.surveys import Fetched, Request, Survey
from mmclip.surveys.demo import fetch, table


def star_id(name: str) -> int:
    """A positive 63-bit id from a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def collect(root: Path, name: str, title: str, tables: dict[str, pa.Table], note: str) -> None:
    """Write tables as the raw artefact `name`."""
    views = {n: "observed" for n in tables if n != "objects"}
    fetched = Fetched(tables, views, notes={"origin": note})
    survey = Survey(name, title, "as on disk", (), lambda request: fetched)
    artifact = ingest.collect(survey, Request(), root / "raw" / name, True)
    print(f"{artifact.path}: {artifact.manifest.rows['objects']} stars")


def spectra(ids: np.ndarray, wavelength: np.ndarray, flux: list[np.ndarray]) -> pa.Table:
    """The raw view `spectra`: wavelengths in Angstrom and flux as lists."""
    waves = [wavelength.astype("f8")] * len(ids)
    return pa.table({"source_id": ids, "wavelength": waves, "flux": [f.astype("f4") for f in flux]})


def library(file: Path, root: Path, name: str, title: str, wavelength: np.ndarray) -> None:
    """One spectral library as the raw artefact `name`; of stars of one name the first counts."""
    rows = pq.read_table(file).to_pandas()
    if "star_key" in rows:
        rows["id"] = [star_id(key) for key in rows["star_key"]]
    else:  # templates: F, G and K stars
        rows = rows[rows["sp_type"].str[0].isin(list("FGK"))]
        rows["id"] = [star_id(f"{name} {key}") for key in rows["name"]]
    rows = rows.drop_duplicates("id").sort_values("id")
    ids = rows["id"].to_numpy(np.int64)
    nowhere = np.full(len(rows), np.nan)
    known = {c: rows[c].to_numpy(float) for c in ("teff", "logg", "feh") if c in rows}
    objects = table({"source_id": ids, "ra": nowhere, "dec": nowhere, **known})
    view = spectra(ids, wavelength, list(rows["flux"]))
    collect(root, name, title, {"objects": objects, "spectra": view}, file.name)


def libraries(folder: Path, root: Path) -> None:
    """MILES and STELIB (in air), and the SDSS templates of Kesseli et al. 2017 (in vacuum).

    All are at rest as they lie there: against their MILES partners the STELIB spectra are shifted
    by less than a pixel of 69 km/s for half of the stars, and not by their tabulated velocities.
    """
    stars, templates = folder / "stellar_libraries", folder / "templates"
    library(stars / "miles.parquet", root, "miles", "MILES", 3540.5 + 0.9 * np.arange(4300))
    library(stars / "stelib.parquet", root, "stelib", "STELIB", 3200.0 + np.arange(6700))
    library(templates / "kesseli2017_sdss_templates.parquet", root, "kesseli", "SDSS templates",
            10 ** (3.5625 + 1e-4 * np.arange(4510)))  # fmt: skip


def demo(root: Path) -> None:
    """The embedded stars (S/N above 50, 3500-8000 K) cut in two, twice over."""
    fetched = fetch(Request())
    objects = fetched.tables["objects"].to_pandas()
    good = (objects.snr > 50) & objects.teff.between(3500, 8000)
    halves = {
        "giants": good & (objects.logg < 3.5),
        "dwarfs": good & (objects.logg >= 3.5),
        "north": good & (objects.dec >= 0),
        "south": good & (objects.dec < 0),
    }
    for name, inside in halves.items():
        kept = {n: t.filter(pa.array(inside.to_numpy())) for n, t in fetched.tables.items()}
        collect(root, name, f"embedded stars: {name}", kept, json.dumps(fetched.notes)[:200])
    kept = {n: t.filter(pa.array(halves["south"].to_numpy())) for n, t in fetched.tables.items()}
    kept["xp"] = blurred(kept["xp"], fwhm=300.0)
    collect(root, "south-blurred", "embedded stars: south, blurred", kept, "FWHM 30 nm, 2 % noise")


def blurred(spectra: pa.Table, fwhm: float, noise: float = 0.02) -> pa.Table:
    """XP spectra as a poorer instrument would see them: blurred by `fwhm` (Angstrom), noisier."""
    columns = {n: np.array(spectra[n].to_pylist(), "f8") for n in ("flux", "flux_error")}
    flux = continuum.blur(10 * xp.SAMPLED, columns["flux"], fwhm)
    rng = np.random.default_rng(42)
    level = noise * np.nanmedian(flux, axis=1, keepdims=True)
    flux = flux + level * rng.normal(size=flux.shape)
    error = np.hypot(columns["flux_error"], level)
    ids = spectra["source_id"].to_numpy()
    return table({"source_id": ids, "flux": flux.astype("f4"), "flux_error": error.astype("f4")})


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "libraries":
        libraries(Path(sys.argv[2]), Path(sys.argv[3]))
    elif len(sys.argv) == 3 and sys.argv[1] == "demo":
        demo(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
