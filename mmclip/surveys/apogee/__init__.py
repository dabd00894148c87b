"""APOGEE: labels of DR17's allStar or of SDSS-V DR20's mwmAllStar, joined by their own Gaia ids.

EDR3 and DR3 share one list of sources. The columns of mwmAllStar were not confirmed: each is looked
for under several names, and one that is needed and absent is an error.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.errors import IntegrityError, UsageError, nearest
from mmclip.surveys import (
    Acknowledgement,
    Outline,
    Piece,
    Request,
    Selection,
    Step,
    Survey,
    catalogue,
)
from mmclip.surveys.client.http import Client
from mmclip.surveys.client.settings import Service
from mmclip.surveys.probe import Finding, reachable

SERVICE = Service("apogee")

LABELS = ("TEFF", "LOGG", "M_H", "ALPHA_M", "FE_H", "MG_FE", "SI_FE", "C_FE", "N_FE", "O_FE")
RELEASES = {
    "dr17": "https://data.sdss.org/sas/dr17/apogee/spectro/aspcap/dr17/synspec_rev1/"
    "allStar-dr17-synspec_rev1.fits",
    "dr20": "https://data.sdss.org/sas/dr20/spectro/astra/0.8.1/summary/mwmAllStar-0.8.1.fits.gz",
}
COLUMNS = {
    "source_id": "GAIAEDR3_SOURCE_ID", "apogee_id": "APOGEE_ID", "telescope": "TELESCOPE",
    "ra": "RA", "dec": "DEC", "snr": "SNR", "vhelio_avg": "VHELIO_AVG", "vscatter": "VSCATTER",
    "aspcapflag": "ASPCAPFLAG", "starflag": "STARFLAG",
    **{x.lower(): x for x in LABELS}, **{f"{x.lower()}_err": f"{x}_ERR" for x in LABELS},
}  # fmt: skip
UNITS = {
    "ra": "deg", "dec": "deg", "teff": "K", "teff_err": "K", "vhelio_avg": "km s-1",
    "vscatter": "km s-1", "logg": "dex(cm s-2)", "logg_err": "dex(cm s-2)",
    **{x.lower(): "dex" for x in LABELS[2:]}, **{f"{x.lower()}_err": "dex" for x in LABELS[2:]},
}  # fmt: skip
ALSO = {  # of mwmAllStar
    "source_id": "gaia_dr3_source_id", "apogee_id": "sdss4_apogee_id", "vhelio_avg": "v_rad",
    "vscatter": "std_v_rad", "aspcapflag": "result_flags", "starflag": "spectrum_flags",
    "m_h": "m_h_atm", "alpha_m": "alpha_m_atm",
    **{f"{x.lower()}_err": f"e_{x.lower()}" for x in LABELS},
    "m_h_err": "e_m_h_atm", "alpha_m_err": "e_alpha_m_atm",
}  # fmt: skip
STAR_BAD = 1 << 23  # bit of ASPCAPFLAG


@dataclass(frozen=True)
class Settings:
    """The table `[apogee]` of the settings file."""

    catalogue: str = ""  # path or URL; empty: that of the release


def release(request: Request) -> str:
    """`dr17` or `dr20`.

    Raises:
        UsageError: If it is another.
    """
    wanted = request.release or "dr17"
    if wanted not in RELEASES:
        raise UsageError(
            f"'{wanted}' is no release of APOGEE; {nearest(wanted, list(RELEASES))}",
            "--survey apogee:dr20",
        )
    return wanted


def read(path: Path, dr: str) -> dict[str, NDArray[Any]]:
    """The columns of either table under our names.

    Raises:
        IntegrityError: If there is no Gaia id, position, or S/N.
    """
    first = 1 if dr == "dr17" else _hdu(path)
    held = catalogue.fits_columns(path, COLUMNS, first)
    held |= {n: v for n, v in catalogue.fits_columns(path, ALSO, first).items() if n not in held}
    lacking = [n for n in ("source_id", "ra", "dec", "snr") if n not in held]
    if lacking:
        names = ", ".join(COLUMNS[n] + (f" or {ALSO[n]}" if n in ALSO else "") for n in lacking)
        raise IntegrityError(f"{path} has no column {names}", "see catalogue of [apogee]")
    return held


def _hdu(path: Path) -> int:
    """The first extension that holds rows: mwmAllStar has one an instrument."""
    from astropy.io import fits

    with fits.open(path) as units:
        return next((n for n, u in enumerate(units) if n and u.header.get("NAXIS2", 0)), 1)


def select(request: Request, client: Client) -> Selection:
    """Stars with labels; of several visits' rows the one of highest S/N with a clean STARFLAG."""
    dr = release(request)
    place = client.of(Settings).catalogue or RELEASES[dr]
    path = catalogue.local(client, SERVICE, place, catalogue.whole)
    held = read(path, dr)
    rows = len(held["source_id"])
    held["source_id"] = catalogue.gaia_ids(held["source_id"])
    held["source_id"][held["source_id"] <= 1] = 0
    flags = held.setdefault("aspcapflag", np.zeros(rows, np.int64)).astype(np.int64)
    bad = (flags & STAR_BAD) != 0
    for name in LABELS:
        if name.lower() in held:
            held[name.lower()] = np.where(bad, np.nan, catalogue.numbers(held[name.lower()]))
    # A clean STARFLAG wins over any S/N.
    clean = held.setdefault("starflag", np.zeros(rows, np.int64)).astype(np.int64) == 0
    held["score"] = np.nan_to_num(catalogue.numbers(held["snr"])) + 1e6 * clean
    table = catalogue.table_of(held, UNITS)
    found = catalogue.select(request, client, table, "snr", "score")
    notes = found.notes | {"star_bad": int(bad.sum()), "id_release": "EDR3 (= DR3)"}
    if dr != "dr17":
        notes |= {"apogee_release": dr, "lacking": [n for n in COLUMNS if n not in held]}
    return Selection(found.table, found.queries, found.missing, found.absent, notes)


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The labels are all there is."""
    table = catalogue.objects(selected, ("score",))
    return [Step("objects", lambda: Piece({"objects": table}))]


def outline(request: Request, client: Client) -> Outline:
    """One file."""
    rows = len(request.ids) or request.sample or 733_901
    return Outline(
        (f"GET {client.of(Settings).catalogue or RELEASES[release(request)]}",),
        rows,
        rows * 8 * len(COLUMNS),
    )


def probe(client: Client) -> list[Finding]:
    """Whether the table of each release is where it is assumed."""
    return [
        reachable(client, "apogee", f"the table of {dr}", SERVICE.name, place)
        for dr, place in RELEASES.items()
    ]


SURVEY = Survey(
    name="apogee",
    title="APOGEE DR17: stellar labels of the allStar table",
    release="DR17",
    citations=("2017AJ....154...94M", "2022ApJS..259...35A"),
    select=select,
    steps=steps,
    outline=outline,
    products={"labels": ()},
    settings=Settings,
    probe=probe,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(
        Acknowledgement(
            "This work uses data of the Sloan Digital Sky Survey IV (APOGEE-2).",
            "https://www.sdss.org/collaboration/citing-sdss/",
        ),
    ),
)
