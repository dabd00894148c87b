"""PROVABGS: stellar masses of the DESI Bright Galaxy Survey, keyed by TARGETID.

Star formation rates, ages and metallicities are not in the published file; they come with a file
that has them (the Multimodal Universe computes them with the emulator of the same name).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.errors import IntegrityError
from mmclip.surveys import (
    Outline,
    Piece,
    Request,
    Selection,
    Step,
    Survey,
    desi,
    galaxies,
)
from mmclip.surveys import (
    catalogue as _catalogue,
)
from mmclip.surveys.client.http import BadAnswer, Client
from mmclip.surveys.probe import Finding, reachable

COLUMNS = {
    "targetid": "TARGETID", "ra": "RA", "dec": "DEC", "z_hp": "Z_HP", "zerr": "ZERR",
    "mag_g": "MAG_G", "mag_r": "MAG_R", "mag_z": "MAG_Z", "mag_w1": "MAG_W1",
    "fibmag_r": "FIBMAG_R", "provabgs_logmstar_bf": "PROVABGS_LOGMSTAR_BF",
    "provabgs_z_max": "PROVABGS_Z_MAX", "provabgs_w_zfail": "PROVABGS_W_ZFAIL",
    "provabgs_w_fibassign": "PROVABGS_W_FIBASSIGN", "is_bgs_bright": "IS_BGS_BRIGHT",
    "is_bgs_faint": "IS_BGS_FAINT", "theta_bf": "PROVABGS_THETA_BF",
    # Only in files to which they were added:
    "log_mstar": "LOG_MSTAR", "z_mw": "Z_MW", "tage_mw": "TAGE_MW", "avg_sfr": "AVG_SFR",
}  # fmt: skip
UNITS = {
    "ra": "deg", "dec": "deg", "mag_g": "mag", "mag_r": "mag", "mag_z": "mag", "mag_w1": "mag",
    "fibmag_r": "mag", "provabgs_logmstar_bf": "dex(Msun)", "log_mstar": "dex(Msun)",
    "tage_mw": "Gyr", "avg_sfr": "Msun yr-1",
}  # fmt: skip
PLACE = "edr/vac/edr/provabgs/v1.0/BGS_ANY_full.provabgs.sv3.v0.hdf5"
ROWS = 105_159  # after the cut, as the Cambridge reproduction of AstroCLIP counted


@dataclass(frozen=True)
class Settings:
    """The table `[provabgs]` of the settings file."""

    catalogue: str = ""  # empty: the EDR file (HDF5); a file of its kind, or FITS
    cut: bool = True  # stellar mass and magnitudes g, r, z above 0


def address(client: Client) -> str:
    """Where the catalogue is."""
    base = client.of(desi.Settings).url.rstrip("/")
    return client.of(Settings).catalogue or f"{base}/{PLACE}"


def catalogue(client: Client) -> dict[str, NDArray[Any]]:
    """The columns that there are; a vector becomes one column an entry.

    Raises:
        IntegrityError: If the file has no TARGETID, or it went through floats.
    """
    path = _catalogue.local(client, desi.SERVICE, address(client), _is_hdf5)
    with path.open("rb") as file:
        packed = file.read(4) == b"\x89HDF"
    read = galaxies.hdf5_columns if packed else _catalogue.fits_columns
    held = read(path, COLUMNS)
    if "targetid" not in held or held["targetid"].dtype.kind not in "iu":
        raise IntegrityError(
            f"{path} has no integer column TARGETID", "see catalogue of [provabgs]"
        )
    theta = held.pop("theta_bf", None)
    if theta is not None and theta.ndim == 2:
        held |= {f"theta_bf_{i}": theta[:, i] for i in range(theta.shape[1])}
    if "ra" not in held or "dec" not in held:
        raise IntegrityError(f"{path} has no positions RA and DEC", "see catalogue of [provabgs]")
    return held


def clean(held: dict[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """Rows of the usual cut: a stellar mass above 0 and magnitudes g, r, z above 0."""
    names = [n for n in ("provabgs_logmstar_bf", "mag_g", "mag_r", "mag_z") if n in held]
    kept = np.ones(len(held["targetid"]), bool)
    for name in names:
        kept &= _catalogue.numbers(held[name]) > 0
    return kept


def select(request: Request, client: Client) -> Selection:
    """Galaxies of the usual cut (`cut`), one row a TARGETID."""
    held = catalogue(client)
    kept = clean(held) if client.of(Settings).cut else held["targetid"] > 0
    table = _catalogue.table_of(
        {"source_id": galaxies.local_ids(held["targetid"][kept])}
        | {n: v[kept] for n, v in held.items()},
        UNITS,
    )
    found = _catalogue.select(request, client, table, "first", "", "targetid")
    notes = found.notes | {
        "catalogue_rows": len(kept), "cut": int((~kept).sum()),
        "id_release": "local, by TARGETID of DESI",
    }  # fmt: skip
    notes["lacking"] = [n for n in ("z_mw", "tage_mw", "avg_sfr") if n not in held]
    return Selection(found.table, found.queries, found.missing, found.absent, notes)


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The catalogue is all there is."""
    table = _catalogue.objects(selected)
    return [Step("objects", lambda: Piece({"objects": table}))]


def _is_hdf5(path: Path) -> None:
    with path.open("rb") as file:
        if not file.read(8).startswith((b"\x89HDF\r\n", b"SIMPLE", b"\x1f\x8b")):
            raise BadAnswer("neither HDF5 nor FITS")


def outline(request: Request, client: Client) -> Outline:
    """One file."""
    rows = len(request.ids) or request.sample or ROWS
    return Outline((f"GET {address(client)}",), rows, rows * 8 * len(COLUMNS))


def probe(client: Client) -> list[Finding]:
    """Whether the catalogue is where it is assumed."""
    place = address(client)
    if not place.startswith("http"):
        return []
    return [reachable(client, "provabgs", "the catalogue", desi.SERVICE.name, place)]


SURVEY = Survey(
    name="provabgs",
    title="PROVABGS: stellar masses and redshifts of DESI bright galaxies",
    release="EDR SV3 v0",
    citations=("2023ApJ...945...16H", "2024AJ....168...58D"),
    select=select,
    steps=steps,
    outline=outline,
    products={"labels": ()},
    settings=Settings,
    probe=probe,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(desi.THANKS,),
)
