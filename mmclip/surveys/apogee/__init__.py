"""APOGEE DR17: labels of the allStar table, joined by its own Gaia EDR3 ids (EDR3 = DR3)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

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

SERVICE = Service("apogee")

LABELS = ("TEFF", "LOGG", "M_H", "ALPHA_M", "FE_H", "MG_FE", "SI_FE", "C_FE", "N_FE", "O_FE")
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
STAR_BAD = 1 << 23  # bit of ASPCAPFLAG


@dataclass(frozen=True)
class Settings:
    """The table `[apogee]` of the settings file."""

    catalogue: str = (  # path or URL
        "https://data.sdss.org/sas/dr17/apogee/spectro/aspcap/dr17/synspec_rev1/"
        "allStar-dr17-synspec_rev1.fits"
    )


def select(request: Request, client: Client) -> Selection:
    """Stars with labels; of several visits' rows the one of highest S/N with a clean STARFLAG."""
    place = client.of(Settings).catalogue
    path = catalogue.local(client, SERVICE, place, catalogue.whole)
    held = catalogue.fits_columns(path, COLUMNS)
    held["source_id"] = catalogue.gaia_ids(held["source_id"])
    held["source_id"][held["source_id"] <= 1] = 0
    bad = (held["aspcapflag"].astype(np.int64) & STAR_BAD) != 0
    for name in LABELS:
        if name.lower() in held:
            held[name.lower()] = np.where(bad, np.nan, catalogue.numbers(held[name.lower()]))
    # A clean STARFLAG wins over any S/N.
    clean = held["starflag"].astype(np.int64) == 0
    held["score"] = np.nan_to_num(catalogue.numbers(held["snr"])) + 1e6 * clean
    table = catalogue.table_of(held, UNITS)
    found = catalogue.select(request, client, table, "snr", "score")
    notes = found.notes | {"star_bad": int(bad.sum()), "id_release": "EDR3 (= DR3)"}
    return Selection(found.table, found.queries, found.missing, found.absent, notes)


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The labels are all there is."""
    table = catalogue.objects(selected, ("score",))
    return [Step("objects", lambda: Piece({"objects": table}))]


def outline(request: Request, client: Client) -> Outline:
    """One file."""
    rows = len(request.ids) or request.sample or 733_901
    return Outline((f"GET {client.of(Settings).catalogue}",), rows, rows * 8 * len(COLUMNS))


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
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(
        Acknowledgement(
            "This work uses data of the Sloan Digital Sky Survey IV (APOGEE-2).",
            "https://www.sdss.org/collaboration/citing-sdss/",
        ),
    ),
)
