"""LAMOST low-resolution spectra and parameters, joined to Gaia DR3.

The release of the catalogue's Gaia ids differs by data release, so it is tested against Gaia before
they are believed; ids of DR2 are mapped, and rows may be matched by position instead.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.config import Json
from mmclip.errors import UsageError
from mmclip.readers import files
from mmclip.readers import lamost as reader
from mmclip.readers.spectra import Spectrum
from mmclip.surveys import (
    Acknowledgement,
    Outline,
    Piece,
    Request,
    Selection,
    Step,
    Survey,
    spectra,
)
from mmclip.surveys import catalogue as _catalogue
from mmclip.surveys.client import checks
from mmclip.surveys.client.answers import Absent
from mmclip.surveys.client.each import each
from mmclip.surveys.client.http import BadAnswer, Client, credential
from mmclip.surveys.client.settings import Service
from mmclip.surveys.gaia import match, neighbours
from mmclip.surveys.probe import Answer, Finding, find

SERVICE = Service("lamost", 1.0)
RELEASE = "dr10/v2.0"
VERSION = "v2.0"  # of a release given without one
TEXT = ("class", "subclass", "designation", "obsdate")
REALS = (
    "ra", "dec", "snru", "snrg", "snrr", "snri", "snrz", "z", "z_err", "teff", "teff_err", "logg",
    "logg_err", "feh", "feh_err", "rv", "rv_err", "alpha_m", "alpha_m_err", "mjd",
)  # fmt: skip
COLUMNS = ("obsid", "gaia_source_id", *TEXT, *REALS)
UNITS = {
    "ra": "deg", "dec": "deg", "teff": "K", "teff_err": "K", "logg": "dex(cm s-2)",
    "logg_err": "dex(cm s-2)", "feh": "dex", "feh_err": "dex", "alpha_m": "dex",
    "alpha_m_err": "dex", "rv": "km s-1", "rv_err": "km s-1", "mjd": "d",
    "match_distance": "arcsec",
}  # fmt: skip
BLOCK = 500  # spectra a step
Columns = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Settings:
    """The table `[lamost]` of the settings file."""

    catalogue: str = ""  # empty: the release's LRS_stellar catalogue
    url: str = "https://www.lamost.org"
    spectrum: str = "{base}/openapi/{dr}/{version}/lrs/spectrum/fits?obsid={obsid}"
    id_release: str = "auto"  # dr2, dr3, position, or auto: tested against Gaia


def release(request: Request) -> tuple[str, str]:
    """(`dr10`, `v2.0`) of `dr10`, `dr10/v2.0` or nothing.

    Raises:
        UsageError: If it is no release.
    """
    match = re.fullmatch(r"(dr\d{1,2})(?:/(v\d+(?:\.\d+)?))?", request.release or RELEASE)
    if match is None:
        raise UsageError(
            f"'{request.release}' is no release of LAMOST",
            "--survey lamost:dr10 or lamost:dr9/v2.0",
        )
    return match[1], match[2] or VERSION


def catalogue(client: Client, dr: str, version: str) -> Columns:
    """The columns of the release's catalogue that are wanted.

    Raises:
        NeedsToken: If the release is not public and no token is set.
        Absent: If the service has it under neither of the names that its releases use.
    """
    places = addresses(client.of(Settings), dr, version)
    for n, place in enumerate(places):
        try:
            path = _catalogue.local(client, SERVICE, place, _catalogue.whole, _secret())
            break
        except Absent:
            if n + 1 == len(places):
                raise
    name = path.name if path.suffix else place
    if ".csv" in name or ".txt" in name:
        held = {n: v for n, v in _catalogue.text_columns(path).items() if n in COLUMNS}
    else:
        held = _catalogue.fits_columns(path, {n: n for n in COLUMNS})
    for needed in ("obsid", "ra", "dec"):
        if needed not in held:
            raise UsageError(f"{place} has no column {needed}", "give the LRS_stellar catalogue")
    held["obsid"] = np.array([int(v) for v in held["obsid"]], np.int64)
    return {n: _catalogue.numbers(v) if n in REALS else v for n, v in held.items()}


def identify(client: Client, held: Columns) -> Json:
    """Fill `source_id` (DR3) by the catalogue's ids, mapped if they are of DR2, or by position."""
    ra, dec = held["ra"], held["dec"]
    given = held.pop("gaia_source_id", None)
    ids = np.zeros(len(ra), np.int64) if given is None else _catalogue.gaia_ids(given)
    wanted = client.of(Settings).id_release
    if wanted not in ("auto", "dr2", "dr3", "position"):
        raise UsageError(f"[lamost] id_release = '{wanted}'", "auto, dr2, dr3 or position")
    test: Json = {"release": wanted}
    if not (ids > 0).any() or wanted == "position":
        epoch = 2000.0 + (held.get("mjd", np.full(len(ra), 57400.0)) - 51544.5) / 365.25
        found, distance, rivals = match.by_position(
            client, ra, dec, np.nan_to_num(epoch, nan=2016.0)
        )
        held["match_distance"], held["match_candidates"] = distance, rivals
        held["source_id"] = found
        return {"id_release": "position", "unmatched_positions": int((found == 0).sum())}
    if wanted == "auto":
        test = asdict(match.release_of(client, ids, ra, dec))
    if test["release"] == "dr2":
        mapping, lost = neighbours.from_dr2(client, tuple(np.unique(ids[ids > 0]).tolist()))
        new = dict(zip(mapping["dr2_source_id"].to_pylist(), mapping["source_id"].to_pylist()))
        held["source_id"] = np.array([new.get(i, 0) for i in ids.tolist()], np.int64)
        return {"id_release": "dr2", "release_test": test, "dr2_unmapped": len(lost)}
    held["source_id"] = ids
    return {"id_release": "dr3", "release_test": test}


def select(request: Request, client: Client) -> Selection:
    """Rows of the catalogue; of several spectra of a star the one of highest S/N in g."""
    dr, version = release(request)
    held = catalogue(client, dr, version)
    notes = identify(client, held)
    table = _catalogue.table_of(held, UNITS)
    score = "snrg" if "snrg" in held else ""
    rule = "snr" if score else "last"
    if request.choose == "nearest":
        score = "match_distance" if "match_distance" in held else ""
    found = _catalogue.select(request, client, table, rule, score, "obsid")
    notes |= found.notes | {"lamost_release": f"{dr}/{version}"}
    return Selection(found.table, found.queries, found.missing, found.absent, notes)


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The catalogue's columns, then the spectra of each block of stars."""
    table = _catalogue.objects(selected)
    work = [Step("objects", lambda: Piece({"objects": table}))]
    if request.products and "spectra" not in request.products:
        return work
    names = ["source_id", "obsid", "chosen", *({"z"} & set(selected.column_names))]
    rows = [r | {"redshift": r.get("z")} for r in selected.select(names).to_pylist() if r["obsid"]]
    for n in range(0, len(rows), BLOCK):
        work.append(Step(f"spectra-{n // BLOCK:05d}", _block(request, client, rows[n : n + BLOCK])))
    return work


def addresses(settings: Settings, dr: str, version: str) -> tuple[str, ...]:
    """Where the catalogue may be: the releases up to DR8 v1.0 name it in another order."""
    if settings.catalogue:
        return (settings.catalogue,)
    base = f"{settings.url.rstrip('/')}/{dr}/{version}/catdl?name={dr}_{version}"
    return f"{base}_LRS_stellar.fits.gz", f"{base}_stellar_LRS.fits.gz"


def _secret() -> dict[str, str] | None:
    token = credential("lamost")
    return {"token": token} if token else None


def address(settings: Settings, dr: str, version: str, obsid: int) -> str:
    """Where one spectrum is."""
    base = settings.url.rstrip("/")
    return settings.spectrum.format(base=base, dr=dr, version=version, obsid=int(obsid))


def _block(request: Request, client: Client, rows: list[spectra.Row]) -> Callable[[], Piece]:
    dr, version = release(request)
    secret = _secret()

    def one(obsid: int) -> Spectrum:
        url = address(client.of(Settings), dr, version, obsid)
        path = client.download(SERVICE, url, check=_is_spectrum, secret=secret)
        return spectrum(path.read_bytes())

    def get() -> Piece:
        got = each(client, [r["obsid"] for r in rows], one)
        return spectra.pieces(rows, "obsid", got, "relative", "vacuum, heliocentric")

    return get


def spectrum(body: bytes) -> Spectrum:
    """One LRS file of either layout, packed or not.

    Raises:
        BadAnswer: If it is damaged or none.
    """
    with spectra.asked_again(), files.fits_units(body) as units:
        return reader.held(units)[0]


def _is_spectrum(path: Path) -> None:
    head = path.read_bytes()[:400]
    if head[:2] != b"\x1f\x8b" and not head.startswith(b"SIMPLE  ="):
        raise BadAnswer("neither FITS nor gzip")
    checks.fits(path)
    spectrum(path.read_bytes())


def outline(request: Request, client: Client) -> Outline:
    """The catalogue, and about 60 kB a spectrum."""
    dr, version = release(request)
    settings = client.of(Settings)
    rows = len(request.ids) or request.sample
    place = addresses(settings, dr, version)[0].rpartition("name=")[2]
    queries = (f"catalogue {place}", f"GET {address(settings, dr, version, 0)}  for each spectrum")
    return Outline(queries, rows, None if rows is None else rows * 60_000)


def probe(client: Client) -> list[Finding]:
    """Whether the release that is taken by default is public."""
    url = f"{client.of(Settings).url.rstrip('/')}/openapi/dr_versions"

    def public() -> Answer:
        told = json.loads(client.download(SERVICE, url, fresh=True).read_bytes())
        rows = told if isinstance(told, list) else told.get("data", [])
        of = {
            f"{r.get('dr_version')}/{r.get('sub_version')}".lower(): str(r.get("public_status"))
            for r in rows
            if isinstance(r, dict)
        }
        return Answer(of.get(RELEASE) == "public", f"{RELEASE}: {of.get(RELEASE, 'not listed')}")

    return [find("lamost", f"{RELEASE} is public (no token)", public)]


SURVEY = Survey(
    name="lamost",
    title="LAMOST low-resolution spectra with stellar parameters",
    release=RELEASE,
    citations=("2012RAA....12.1197C", "2012RAA....12..723Z"),
    select=select,
    steps=steps,
    outline=outline,
    products={"spectra": (), "labels": ()},
    settings=Settings,
    probe=probe,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(
        Acknowledgement(
            "This work uses spectra of the Guoshoujing Telescope (LAMOST), operated by the "
            "National Astronomical Observatories, Chinese Academy of Sciences.",
            "https://www.lamost.org",
        ),
    ),
)
