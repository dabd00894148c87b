"""Gaia DR3 over TAP: positions, astrometry, GSP-Phot labels, G and 2MASS photometry.

XP and RVS spectra come from DataLink, which this file does not ask yet.
"""

import os
import re

import numpy as np
import pyarrow as pa

from mmclip.errors import RemoteError, UsageError
from mmclip.surveys import Fetched, Request, Survey

ENDPOINT = "https://gea.esac.esa.int/tap-server/tap"
SOURCES = 1_811_709_771  # rows of gaia_source; random_index runs from 0 to one less
OBJECTS = (
    "ra", "dec", "parallax", "parallax_error", "pmra", "pmdec", "ruwe",
    "teff_gspphot", "logg_gspphot", "mh_gspphot",
)  # fmt: skip
PHOTOMETRY = ("j_m", "h_m", "ks_m", "phot_g_mean_mag")


def where(request: Request) -> str:
    """The ADQL condition of a selection on `g` (gaia_source)."""
    if request.adql is not None:
        if not re.match(r"\s*select\b", request.adql, re.IGNORECASE) or ";" in request.adql:
            raise UsageError(
                "--adql must be one SELECT that returns source_id", "see docs/commands/fetch.md"
            )
        return f"g.source_id IN ({request.adql})"
    if request.ids:
        return f"g.source_id IN ({', '.join(map(str, request.ids))})"
    if request.cone:
        ra, dec, radius = request.cone
        circle = f"CIRCLE('ICRS', {ra!r}, {dec!r}, {radius!r})"
        return f"1 = CONTAINS(POINT('ICRS', g.ra, g.dec), {circle})"
    size = request.sample or 1000
    start = int(np.random.default_rng(request.seed).integers(SOURCES - size))
    return f"g.random_index BETWEEN {start} AND {start + size - 1}"


def query(request: Request) -> str:
    """The ADQL that is sent; the 2MASS chain follows Gaia's own cross-match tables."""
    columns = ", ".join(f"g.{c}" for c in (*OBJECTS, "phot_g_mean_mag"))
    return (
        f"SELECT g.source_id, {columns}, tm.j_m, tm.h_m, tm.ks_m\n"
        "FROM gaiadr3.gaia_source AS g\n"
        "LEFT OUTER JOIN gaiadr3.tmass_psc_xsc_best_neighbour AS tx ON tx.source_id = g.source_id\n"
        "LEFT OUTER JOIN gaiadr3.tmass_psc_xsc_join AS tj "
        "ON tj.clean_tmass_psc_xsc_oid = tx.clean_tmass_psc_xsc_oid\n"
        "LEFT OUTER JOIN gaiadr1.tmass_original_valid AS tm "
        "ON tm.designation = tj.original_psc_source_id\n"
        f"WHERE {where(request)}\nORDER BY g.source_id"
    )


def fetch(request: Request) -> Fetched:
    """Ask the archive and split the answer into `objects` and `metadata`.

    Raises:
        RemoteError: If the service is out of reach, refuses, or cuts the answer short.
    """
    import pyvo

    adql, endpoint = query(request), os.environ.get("MMCLIP_GAIA_TAP", ENDPOINT)
    try:
        answer = pyvo.dal.TAPService(endpoint).run_async(adql)
    except Exception as error:  # pyvo, requests and the XML parser raise unrelated types
        raise RemoteError(
            f"Gaia's TAP service {endpoint} did not answer: {type(error).__name__}: {error}",
            "check the connection and repeat, or work offline: mmclip fetch --survey demo",
        ) from error
    if answer.status[0] == "OVERFLOW":
        raise RemoteError("Gaia cut the answer short (row limit)", "ask for fewer stars")
    received = answer.to_table()
    ids = np.asarray(received["source_id"], np.int64)
    _, rows = np.unique(ids, return_index=True)  # the 2MASS join can repeat a star
    columns: dict[str, np.ndarray] = {
        name: np.ma.filled(np.ma.asarray(received[name][rows], float), np.nan)
        for name in (*OBJECTS, *PHOTOMETRY)
    }
    objects = {"source_id": ids[rows], **{n: columns[n] for n in OBJECTS}}
    photometry = {"source_id": ids[rows], **{n: columns[n] for n in PHOTOMETRY}}
    here = set(ids.tolist())
    return Fetched(
        {"objects": pa.table(objects), "metadata": pa.table(photometry)},
        {"metadata": "observed"},
        queries=(adql,),
        missing=tuple((i, "not in gaia_source") for i in request.ids if i not in here),
        notes={"endpoint": endpoint, "repeated_rows_dropped": len(ids) - len(rows)},
    )


SURVEY = Survey(
    name="gaia-dr3",
    title="Gaia DR3 over TAP: astrometry, GSP-Phot labels, G and 2MASS photometry",
    release="DR3",
    citations=("2016A&A...595A...1G", "2023A&A...674A...1G"),
    fetch=fetch,
)
