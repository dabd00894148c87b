"""DESI galaxies: redshifts of the release's table, spectra of SPARCL or coadds, by TARGETID.

Where another survey has chosen targets (PROVABGS) and SPARCL gives the spectra, the table of all
redshifts, some 20 GB, is not needed and not fetched.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.config import Json
from mmclip.errors import IntegrityError
from mmclip.surveys import Outline, Request, Selection, Step, Survey, catalogue, desi, galaxies
from mmclip.surveys.client.http import Client

TABLES = {  # of all redshifts; that of edr is not confirmed
    "dr1": "dr1/spectro/redux/iron/zcatalog/v1/zall-pix-iron.fits",
    "edr": "edr/spectro/redux/fuji/zcatalog/zall-pix-fuji.fits",
    "dr2": "dr2/spectro/redux/loa/zcatalog/v2/zall-pix-loa.fits",  # not public yet
}
COLUMNS = {
    "targetid": "TARGETID", "ra": "TARGET_RA", "dec": "TARGET_DEC", "redshift": "Z",
    "redshift_err": "ZERR", "zwarn": "ZWARN", "spectype": "SPECTYPE", "objtype": "OBJTYPE",
    "status": "COADD_FIBERSTATUS", "survey": "SURVEY", "program": "PROGRAM", "healpix": "HEALPIX",
    "primary": "ZCAT_PRIMARY", "ebv": "EBV", "flux_g": "FLUX_G", "flux_r": "FLUX_R",
    "flux_z": "FLUX_Z",
}  # fmt: skip
RENAMED = {  # in zcatalog/v2 of DR2, whose fluxes lie in a row-matched file `-imaging`
    "redshift": "Z_BEST", "redshift_err": "ZERR_BEST", "zwarn": "ZWARN_BEST",
    "spectype": "SPECTYPE_BEST",
}  # fmt: skip
NEEDED = ("spectype", "objtype", "status", "zwarn")  # columns of the cut
UNITS = {"ra": "deg", "dec": "deg", "ebv": "mag", "flux_g": "nanomaggies", "flux_r": "nanomaggies",
         "flux_z": "nanomaggies"}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The table `[desi-galaxies]` of the settings file; addresses are those of `[desi]`."""

    redshifts: str = ""  # empty: the release's table of redshifts (some 20 GB)
    spectype: str = "GALAXY"  # SPECTYPE that is kept


def address(request: Request, client: Client) -> str:
    """Where the table of redshifts is."""
    place = TABLES[desi.release(request)]
    given = client.of(Settings).redshifts
    return given or f"{client.of(desi.Settings).url.rstrip('/')}/{place}"


def clean(held: dict[str, NDArray[Any]], spectype: str) -> NDArray[np.bool_]:
    """Rows that are targets of a class with a sound spectrum and redshift.

    Source:
        OBJTYPE = TGT, COADD_FIBERSTATUS = 0, ZWARN = 0: the base cuts of DESI's documentation.
    """
    kept = held["targetid"] > 0
    for name, wanted in zip(NEEDED, (spectype, "TGT", 0, 0), strict=True):
        kept &= held[name] == wanted
    return kept


def read(path: Path) -> dict[str, NDArray[Any]]:
    """The columns of a table of redshifts, under the names of either version of the catalogue.

    Raises:
        IntegrityError: If a column is absent that the cut needs: to leave it out would let all in.
    """
    held = catalogue.fits_columns(path, COLUMNS)
    held |= {n: v for n, v in catalogue.fits_columns(path, RENAMED).items() if n not in held}
    lacking = [n for n in ("targetid", "ra", "dec", *NEEDED) if n not in held]
    if lacking:
        names = ", ".join(
            COLUMNS[n] + (f" or {RENAMED[n]}" if n in RENAMED else "") for n in lacking
        )
        raise IntegrityError(f"{path} has no {names}", "see redshifts of [desi-galaxies]")
    return held


def select(request: Request, client: Client) -> Selection:
    """Galaxies of the table, of several spectra of one the primary; or those that are followed."""
    settings, dr = client.of(Settings), desi.release(request)
    known = galaxies.followed(request)
    sparcl = client.of(desi.Settings).via == "sparcl"
    if not settings.redshifts and sparcl and (known["targetid"] > 0).any():
        held = {n: v[known["targetid"] > 0] for n, v in known.items()}
        held |= {n: np.full(len(held["ra"]), "") for n in ("survey", "program")}
        held["healpix"] = np.zeros(len(held["ra"]), np.int64)
        notes: Json = {"redshifts": "not fetched: targets of " + request.follows}
    else:
        path = catalogue.local(client, desi.SERVICE, address(request, client), catalogue.whole)
        held = read(path)
        kept = clean(held, settings.spectype)
        notes = {"table_rows": len(kept), "cut": int((~kept).sum())}
        held = {n: v[kept] for n, v in held.items() if n not in ("objtype", "status")}
        held["source_id"] = galaxies.local_ids(held["targetid"])
    held["score"] = np.asarray(held.pop("primary", np.zeros(len(held["ra"])))).astype(np.float64)
    table = catalogue.table_of(held, UNITS)
    found = catalogue.select(request, client, table, "snr", "score", "targetid")
    notes = found.notes | notes | {"desi_release": dr, "id_release": "local, by TARGETID of DESI"}
    return Selection(found.table, found.queries, found.missing, found.absent, notes)


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """As for the stars of DESI."""
    return desi.steps(request, client, selected)


def outline(request: Request, client: Client) -> Outline:
    """The table unless targets are followed, and 94 kB a spectrum by SPARCL."""
    settings = client.of(desi.Settings)
    rows = len(request.ids) or request.sample
    how = settings.sparcl if settings.via == "sparcl" else settings.url
    queries = (f"table {address(request, client)}", f"spectra by {settings.via} from {how}")
    return Outline(queries, rows, None if rows is None else rows * 94_000)


SURVEY = Survey(
    name="desi-galaxies",
    title="DESI galaxies: spectra and redshifts",
    release="dr1",
    citations=("2025arXiv250314745D", "2024AJ....168...58D"),
    select=select,
    steps=steps,
    outline=outline,
    products={"spectra": (), "labels": ()},
    settings=Settings,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(desi.THANKS,),
)
