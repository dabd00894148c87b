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

from mmclip.datasets import raw
from mmclip.modalities import _continuum, xp
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
    artifact = raw.collect(survey, Request(), root / "raw" / name, True)
    print(f"{artifact.path}: {artifact.manifest.rows['objects']} stars")


def library(file: Path, wavelengths: np.ndarray, air: bool) -> tuple[pa.Table, pa.Table]:
    """Objects and `lrs` tables of a spectral library; spectra without a continuum are left out."""
    rows = pq.read_table(file).to_pandas()
    names = rows["star_key"] if "star_key" in rows else rows["name"]
    grid = _continuum.vacuum(wavelengths) if air else wavelengths
    made = [_continuum.normalised(grid, np.asarray(f, float)) for f in rows["flux"]]
    flux, error = zip(*made, strict=True)
    ids = np.array([star_id(n) for n in names], np.int64)
    _, first = np.unique(ids, return_index=True)
    columns = {c: rows[c].to_numpy(float)[first] for c in ("teff", "logg", "feh") if c in rows}
    nowhere = np.full(len(first), np.nan)
    objects = table({"source_id": ids[first], "ra": nowhere, "dec": nowhere, **columns})
    spectra = {"flux": np.stack(flux)[first], "flux_error": np.stack(error)[first]}
    return objects, table({"source_id": ids[first], **spectra})


def libraries(folder: Path, root: Path) -> None:
    """MILES and STELIB (in air), and the SDSS templates of Kesseli et al. 2017 (in vacuum).

    All are at rest as they lie there: against their MILES partners the STELIB spectra are shifted
    by less than a pixel of 69 km/s for half of the stars, and not by their tabulated velocities.
    """
    miles = 354.05 + 0.09 * np.arange(4300)
    stelib = 320.0 + 0.1 * np.arange(6700)
    for name, grid in (("miles", miles), ("stelib", stelib)):
        file = folder / "stellar_libraries" / f"{name}.parquet"
        objects, lrs = library(file, grid, air=True)
        collect(root, name, f"{name.upper()} library", {"objects": objects, "lrs": lrs}, file.name)
    file = folder / "templates" / "kesseli2017_sdss_templates.parquet"
    rows = pq.read_table(file).to_pandas()
    grid = 10 ** (3.5625 + 1e-4 * np.arange(4510)) / 10
    rows = rows[rows["sp_type"].str[0].isin(list("FGK"))].reset_index(drop=True)
    made = [_continuum.normalised(grid, np.asarray(f, float)) for f in rows["flux"]]
    ids = np.array([star_id(f"kesseli {i}") for i in range(len(rows))], np.int64)
    order = np.argsort(ids)
    nowhere = np.full(len(ids), np.nan)
    objects = table(
        {"source_id": ids[order], "ra": nowhere, "dec": nowhere,
         "feh": rows["feh"].to_numpy(float)[order]}
    )  # fmt: skip
    lrs = table(
        {"source_id": ids[order], "flux": np.stack([m[0] for m in made])[order],
         "flux_error": np.stack([m[1] for m in made])[order]}
    )  # fmt: skip
    collect(root, "kesseli", "SDSS templates", {"objects": objects, "lrs": lrs}, file.name)


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
    kept["xp"] = blurred(kept["xp"], fwhm=30.0)
    collect(root, "south-blurred", "embedded stars: south, blurred", kept, "FWHM 30 nm, 2 % noise")


def blurred(spectra: pa.Table, fwhm: float, noise: float = 0.02) -> pa.Table:
    """XP spectra as a poorer instrument would see them: blurred by `fwhm` (nm), noisier."""
    columns = {n: np.array(spectra[n].to_pylist(), "f8") for n in ("flux", "flux_error")}
    flux = _continuum.blur(xp.SAMPLED, columns["flux"], fwhm)
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
