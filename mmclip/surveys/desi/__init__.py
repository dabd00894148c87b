"""DESI Milky Way Survey: parameters and Gaia DR3 ids of its catalogue, spectra of SPARCL or coadds.

The id is `SOURCE_ID` of the catalogue's HDU `GAIA`, never `REF_ID` of a fibermap, which is of DR2.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import whole
from mmclip.config import Count, Json
from mmclip.errors import IntegrityError, UsageError, nearest
from mmclip.ids import rows_of
from mmclip.readers import desi as reader
from mmclip.readers import files
from mmclip.readers.spectra import Spectrum, spectrum
from mmclip.readers.wavelength import sigma
from mmclip.surveys import (
    Acknowledgement,
    Outline,
    Piece,
    Request,
    Selection,
    Step,
    Survey,
    catalogue,
    spectra,
)
from mmclip.surveys.client.answers import Absent
from mmclip.surveys.client.each import Outcome, each
from mmclip.surveys.client.http import BadAnswer, Client
from mmclip.surveys.client.settings import Service
from mmclip.surveys.probe import Answer, Finding, find, reachable

SERVICE, SPARCL = Service("desi", 0.2), Service("sparcl", 0.5)
RELEASES = {
    "dr1": ("iron", "dr1/vac/dr1/mws/iron/v1.0/mwsall-pix-iron.fits", "DESI-DR1"),
    "edr": ("fuji", "edr/vac/edr/mws/fuji/v1.0/mwsall-pix-fuji.fits", "DESI-EDR"),
    # Not public yet: its path, by analogy with DR1, is an assumption.
    "dr2": ("loa", "dr2/vac/dr2/mws/loa/v1.0/mwsall-pix-loa.fits", "DESI-DR2"),
}
PARAMETERS = {
    "vrad": "VRAD", "vrad_err": "VRAD_ERR", "teff": "TEFF", "teff_err": "TEFF_ERR", "logg": "LOGG",
    "logg_err": "LOGG_ERR", "feh": "FEH", "feh_err": "FEH_ERR", "alphafe": "ALPHAFE",
    "alphafe_err": "ALPHAFE_ERR", "vsini": "VSINI", "rvs_warn": "RVS_WARN", "sn_r": "SN_R",
    "rr_spectype": "RR_SPECTYPE", "survey": "SURVEY", "program": "PROGRAM", "healpix": "HEALPIX",
    "primary": "PRIMARY", "targetid": "TARGETID",
}  # fmt: skip
SP = {"sp_teff": "TEFF", "sp_logg": "LOGG", "sp_feh": "FEH", "sp_alphafe": "ALPHAFE"}
UNITS = {
    "sp_teff": "K", "sp_logg": "dex(cm s-2)", "sp_feh": "dex", "sp_alphafe": "dex",
    "ra": "deg", "dec": "deg", "vrad": "km s-1", "vrad_err": "km s-1", "teff": "K",
    "teff_err": "K", "logg": "dex(cm s-2)", "logg_err": "dex(cm s-2)", "feh": "dex",
    "feh_err": "dex", "alphafe": "dex", "alphafe_err": "dex", "vsini": "km s-1",
}  # fmt: skip
FLUX = "1e-17 erg s-1 cm-2 Angstrom-1"
FRAME = "vacuum, barycentric"
SURVEYS = ("cmx", "main", "special", "sv1", "sv2", "sv3")
PROGRAMS = ("backup", "bright", "dark", "other")
UNMATCHED = (0, -1, 999_999)  # SOURCE_ID of rows without a star in Gaia
ROOTS = ("/api", "/sparc")  # of SPARCL: now, and until its client 1.2.6
SWAPS = (ROOTS, ROOTS[::-1])
Where = tuple[str, str, int]  # survey, program, HEALPix pixel of a coadd file


@dataclass(frozen=True)
class Settings:
    """The table `[desi]` of the settings file; `desi-galaxies` and `provabgs` heed it too."""

    catalogue: str = ""  # empty: the release's MWS catalogue (13 GB for DR1)
    url: str = "https://data.desi.lbl.gov/public"
    via: str = "sparcl"  # sparcl: star by star; coadd: whole HEALPix files
    sparcl: str = "https://astrosparcl.datalab.noirlab.edu/api"  # /sparc after a 404
    sparcl_chunk: Count = 100


THANKS = Acknowledgement(
    "This work uses public data of the Dark Energy Spectroscopic Instrument (DESI).",
    "https://data.desi.lbl.gov/doc/acknowledgments/",
)


def release(request: Request) -> str:
    """`dr1` or `edr`.

    Raises:
        UsageError: If it is another.
    """
    wanted = request.release or "dr1"
    if wanted not in RELEASES:
        raise UsageError(
            f"'{wanted}' is no release of DESI; {nearest(wanted, list(RELEASES))}",
            "--survey desi:dr1",
        )
    return wanted


def select(request: Request, client: Client) -> Selection:
    """Stars of the MWS catalogue; of several rows of a star the one marked PRIMARY."""
    dr = release(request)
    settings = client.of(Settings)
    place = settings.catalogue or f"{settings.url}/{RELEASES[dr][1]}"
    path = catalogue.local(client, SERVICE, place, catalogue.whole)
    held = catalogue.fits_columns(path, PARAMETERS, "RVTAB")
    gaia = catalogue.fits_columns(
        path, {"source_id": "SOURCE_ID", "ra": "RA", "dec": "DEC"}, "GAIA"
    )
    if len(gaia.get("source_id", ())) != len(held.get("targetid", (0,))):
        raise IntegrityError(f"{path}: HDUs RVTAB and GAIA are not row-aligned", "fetch it again")
    held |= _sp(path, len(gaia["source_id"]))
    good = np.isfinite(catalogue.numbers(gaia["ra"])) & ~np.isin(gaia["source_id"], UNMATCHED)
    good &= gaia["source_id"] > 0
    held |= {
        "source_id": np.where(good, gaia["source_id"], 0),
        "ra": gaia["ra"],
        "dec": gaia["dec"],
    }
    held["score"] = np.nan_to_num(catalogue.numbers(held["sn_r"])) + 1e6 * held["primary"].astype(
        bool
    )
    table = catalogue.table_of(held, UNITS)
    found = catalogue.select(request, client, table, "snr", "score", "targetid")
    notes = found.notes | {"desi_release": dr, "id_release": "dr3", "best": "PRIMARY, then SN_R"}
    return Selection(found.table, found.queries, found.missing, found.absent, notes)


def _sp(path: Path, rows: int) -> dict[str, NDArray[Any]]:
    """Labels of the SP pipeline (FERRE) where the catalogue has them; NaN where it had no success.

    Source:
        Data model of the Milky Way Survey: SPTAB, row by row that of RVTAB.
    """
    if not catalogue.fits_has(path, "SPTAB"):
        return {}
    held = catalogue.fits_columns(path, {**SP, "success": "SUCCESS"}, "SPTAB")
    good = np.asarray(held.pop("success", np.ones(rows)), bool)
    if any(len(v) != rows for v in (good, *held.values())):
        raise IntegrityError(f"{path}: HDUs SPTAB and GAIA are not row-aligned", "fetch it again")
    return {n: np.where(good, catalogue.numbers(v), np.nan) for n, v in held.items()}


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The catalogue's columns, then spectra by blocks (SPARCL) or by HEALPix files."""
    table = catalogue.objects(selected, ("score",))
    work = [Step("objects", lambda: Piece({"objects": table}))]
    if request.products and "spectra" not in request.products:
        return work
    names = ["source_id", "targetid", "survey", "program", "healpix", "chosen"]
    names += [n for n in ("vrad", *spectra.ALSO) if n in selected.column_names]
    rows = [_shift(r) | r for r in selected.select(names).to_pylist() if r["targetid"]]
    settings = client.of(Settings)
    if settings.via == "sparcl":
        size = settings.sparcl_chunk
        for n in range(0, len(rows), size):
            work.append(
                Step(f"spectra-{n // size:05d}", _sparcl(request, client, rows[n : n + size]))
            )
        return work
    if settings.via != "coadd":
        raise UsageError(f"[desi] via = '{settings.via}'", "sparcl or coadd")
    by_file: dict[Where, list[spectra.Row]] = {}
    for row in rows:
        by_file.setdefault((row["survey"], row["program"], row["healpix"]), []).append(row)
    for where in sorted(by_file):
        label = "-".join(str(w) for w in where)
        work.append(Step(f"spectra-{label}", _coadd(request, client, where, by_file[where])))
    return work


def _shift(row: spectra.Row) -> spectra.Row:
    """The redshift of a radial velocity in km/s."""
    speed = row.get("vrad")
    return {"redshift": None if speed is None else speed / 299_792.458}


def address(settings: Settings, dr: str, survey: str, program: str, pixel: int) -> str:
    """Where the coadds of a HEALPix pixel (nside 64, nested) are.

    Raises:
        IntegrityError: If the catalogue names a survey or program that does not exist.
    """
    if survey not in SURVEYS or program not in PROGRAMS:
        raise IntegrityError(f"the catalogue names '{survey}/{program}'", "mend the catalogue")
    base = f"{settings.url.rstrip('/')}/{dr}/spectro/redux/{RELEASES[dr][0]}/healpix"
    folder = f"{base}/{survey}/{program}/{int(pixel) // 100}/{int(pixel)}"
    return f"{folder}/coadd-{survey}-{program}-{int(pixel)}.fits"


def coadd(path: Path, wanted: list[int]) -> dict[int, Spectrum]:
    """Spectra of some targets of a coadd file, arms merged with inverse-variance weights.

    Raises:
        BadAnswer: If it is no whole coadd.
    """
    with spectra.asked_again(), files.fits_units(path) as units:
        if not reader.is_desi(units):
            raise BadAnswer("not a DESI coadd")
        fibermap, arms = reader.held(units, path.name)
    asked = np.array(list(dict.fromkeys(wanted)), np.int64)
    found = rows_of(whole(fibermap, "TARGETID").to_numpy(), asked)
    targets, rows = asked[found >= 0].tolist(), found[found >= 0]
    grid, flux, ivar = reader.merge([(w, f[rows], v[rows]) for w, f, v in arms])
    return {t: spectrum(grid, f, sigma(v)) for t, f, v in zip(targets, flux, ivar, strict=True)}


def _coadd(
    request: Request, client: Client, where: Where, rows: list[spectra.Row]
) -> Callable[[], Piece]:
    def get() -> Piece:
        url = address(client.of(Settings), release(request), *where)
        wanted = [r["targetid"] for r in rows]

        def check(path: Path) -> None:
            coadd(path, [])

        def file(address_: str) -> dict[int, Spectrum]:
            return coadd(client.download(SERVICE, address_, check=check), wanted)

        outcome = each(client, [url], file)
        got = outcome.found.get(url, {})
        reason = (outcome.missing | outcome.absent).get(url, "not_in_the_file")
        lost = {t: reason for t in wanted if t not in got}
        return spectra.pieces(rows, "targetid", Outcome(got, lost), FLUX, FRAME)

    return get


def _sparcl(request: Request, client: Client, rows: list[spectra.Row]) -> Callable[[], Piece]:
    data_release = RELEASES[release(request)][2]

    def get() -> Piece:
        """Records of these targets, then their spectra; JSON only, a pickle is never opened."""
        targets = sorted({r["targetid"] for r in rows})
        records = _records_of(client, targets, data_release, rows)
        found: dict[int, Spectrum] = {}
        if records:
            fields = "sparcl_id,specid,wavelength,flux,ivar,mask"
            path = f"spectras/?include={fields}&format=json"
            for r in _posted(client, path, sorted(records)):
                one = spectrum(r["wavelength"], r["flux"], sigma(r["ivar"]), r.get("mask"))
                found.setdefault(records.get(str(r.get("sparcl_id")), int(r["specid"])), one)
        lost = {t: "not_returned" for t in targets if t not in found}
        client.learned["sparcl_pixels"] = sorted({len(s[0]) for s in found.values()})
        return spectra.pieces(rows, "targetid", Outcome(found, lost), FLUX, FRAME)

    return get


def _records_of(
    client: Client, targets: list[int], data_release: str, rows: list[spectra.Row]
) -> dict[str, int]:
    """sparcl_id -> TARGETID, one record a target.

    A target was observed in several surveys and programs, each a record: that of the catalogue's
    row is taken, else the primary one.
    """
    search = [["specid", *targets], ["data_release", data_release]]
    outfields = ["sparcl_id", "specid", "data_release"]
    path = f"find/?limit={20 * len(targets)}"
    records = _posted(client, path, {"outfields": outfields, "search": search})
    of: dict[int, list[str]] = {}
    for r in records:
        of.setdefault(int(r["specid"]), []).append(r["sparcl_id"])
    several = sorted(t for t, ids in of.items() if len(ids) > 1)
    if several:
        client.count("sparcl_several_records", len(several))
        told = _posted(client, path, {
            "outfields": [*outfields, "survey", "program", "specprimary"],
            "search": [["specid", *several], ["data_release", data_release]],
        })  # fmt: skip
        meant = {r["targetid"]: (r["survey"], r["program"]) for r in rows}
        ranked: dict[int, list[tuple[bool, bool, str]]] = {}
        for r in told:
            target = int(r["specid"])
            same = (r.get("survey"), r.get("program")) == meant.get(target)
            ranked.setdefault(target, []).append(
                (not same, not r.get("specprimary"), r["sparcl_id"])
            )
        of |= {t: [min(candidates)[2]] for t, candidates in ranked.items()}
    return {ids[0]: target for target, ids in of.items()}


def _posted(client: Client, path: str, body: Any) -> list[Json]:
    """Records that SPARCL answers with; its root of other days is tried after a 404."""
    root = client.learned.get("sparcl_root") or client.of(Settings).sparcl.rstrip("/")
    other = next(
        (root.removesuffix(a) + b for a, b in zip(ROOTS, ROOTS[::-1]) if root.endswith(a)), ""
    )
    try:
        got = client.download(SPARCL, f"{root}/{path}", posted=body, check=_sound)
    except Absent:
        if not other or "sparcl_root" in client.learned:
            raise
        got = client.download(SPARCL, f"{other}/{path}", posted=body, check=_sound)
        root = other
    client.learned["sparcl_root"] = root
    return _records(got)


def _sound(path: Path) -> None:
    _records(path)


def _records(path: Path) -> list[Json]:
    """The records of an answer of SPARCL, after its header.

    Raises:
        BadAnswer: If it is not the JSON that was asked for; a pickle is refused unopened.
    """
    body = path.read_bytes()
    if body[:1] == b"\x80":
        raise IntegrityError("SPARCL answered with a pickle, which is never opened", "")
    try:
        answer = json.loads(body)
    except ValueError:
        raise BadAnswer("not JSON") from None
    if not isinstance(answer, list) or not all(isinstance(r, dict) for r in answer):
        raise BadAnswer("JSON of an unknown form")
    return answer[1:]


def outline(request: Request, client: Client) -> Outline:
    """The catalogue, and 94 kB a spectrum by SPARCL."""
    dr = release(request)
    settings = client.of(Settings)
    rows = len(request.ids) or request.sample
    place = settings.catalogue or f"{settings.url}/{RELEASES[dr][1]}"
    how = settings.sparcl if settings.via == "sparcl" else settings.url
    queries = (f"catalogue {place}", f"spectra by {settings.via} from {how}")
    return Outline(queries, rows, None if rows is None else rows * 94_000)


def probe(client: Client) -> list[Finding]:
    """Where SPARCL answers, and where the catalogue is."""
    settings = client.of(Settings)
    root = settings.sparcl.rstrip("/")

    def version() -> Answer:
        for path in dict.fromkeys((root, *(root.removesuffix(a) + b for a, b in SWAPS))):
            try:
                got = client.download(SPARCL, f"{path}/version/", fresh=True).read_bytes()
            except Absent:
                continue
            told = f"{path}: version {got[:20].decode('utf-8', 'replace').strip()}"
            return Answer(path == root, told, "sparcl", path)
        return Answer(False, "neither /api nor /sparc answers")

    place = settings.catalogue or f"{settings.url}/{RELEASES['dr1'][1]}"
    found = [find("desi", f"SPARCL answers at {root}", version)]
    if place.startswith("http"):
        found.append(reachable(client, "desi", "the catalogue", SERVICE.name, place))
    return found


SURVEY = Survey(
    name="desi",
    title="DESI Milky Way Survey: spectra and stellar parameters",
    release="dr1",
    citations=("2025arXiv250314745D", "2024AJ....168...58D", "2023ApJ...947...37C",
               "2025arXiv250514787K"),
    select=select,
    steps=steps,
    outline=outline,
    products={"spectra": (), "labels": ()},
    settings=Settings,
    probe=probe,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(THANKS,),
)  # fmt: skip
