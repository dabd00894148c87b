"""ASAS-SN Sky Patrol v2: light curves of any star of its catalogue, 1000 a request.

The service's `stellar_main` knows stars by their Gaia DR2 id, so DR3 ids go through
dr2_neighbourhood first. Requests and answers follow the public client (skypatrol 0.6.21); none was
confirmed against the service. Times are JD, as observed; with `heliocentric` they are HJD.
"""

import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.config import Json
from mmclip.errors import IntegrityError
from mmclip.readers import files
from mmclip.sky import unit_vectors
from mmclip.surveys import Outline, Piece, Request, Selection, Step, catalogue
from mmclip.surveys.asassn.curves import BAD, Curve, photometry
from mmclip.surveys.asassn.settings import BLOCKS, SERVICE, Settings
from mmclip.surveys.client import answers, cache, checks, tap
from mmclip.surveys.client.answers import Refused, TooMuch
from mmclip.surveys.client.http import BadAnswer, Client, Unreachable
from mmclip.surveys.gaia import selection
from mmclip.surveys.gaia import settings as _gaia
from mmclip.surveys.gaia.dr3 import DR3

BLOCK = 1000  # stars a block of the service
COLUMNS = ("asas_sn_id", "ra_deg", "dec_deg")
OLD_IDS = (
    "SELECT n.dr2_source_id, n.dr3_source_id, n.angular_distance, n.magnitude_difference\n"
    "FROM tap_upload.ids AS u\n"
    "JOIN gaiadr3.dr2_neighbourhood AS n ON n.dr3_source_id = u.source_id"
)
V_CAMERAS = re.compile(r"b[a-h]")  # told from those of g by the case of their letters
G_CAMERAS = re.compile(r"[bc][A-H]|b[i-t]")
LIGHT_TIME = 499.004783836 / 86400  # d an astronomical unit, IAU 2012
TT_UTC = 69.184 / 86400  # d, since 2017; a second earlier moves the Earth by 0.1 ms of light time


def old_ids(client: Client, ids: NDArray[np.int64]) -> tuple[dict[int, int], int]:
    """DR2 id -> DR3 id, the nearest DR2 neighbour of each; and how many had several."""
    size, several = client.settings.tap_chunk, 0
    best: dict[int, tuple[float, float, int]] = {}
    for n in range(0, len(ids), size):
        answer = tap.run(client, _gaia.of(client).tap, OLD_IDS, ("source_id", ids[n : n + size]))
        for row in answer.to_pylist():
            step = abs(row["magnitude_difference"] or 0.0)
            rank = (row["angular_distance"], step, row["dr2_source_id"])
            several += row["dr3_source_id"] in best
            best[row["dr3_source_id"]] = min(rank, best.get(row["dr3_source_id"], rank))
    found: dict[int, int] = {}
    for new, (*_, old) in sorted(best.items(), key=lambda item: item[1]):
        found.setdefault(old, new)
    return found, several


def _posted(settings: Settings, ids: list[int], column: str, download: bool) -> Json:
    names = [*COLUMNS, *(n for n in [column] if n not in COLUMNS)]
    return {
        "tar_ids": ids, "catalog": settings.skypatrol_catalogue, "id_col": column, "cols": names,
        "format": "arrow", "download": download,
    }  # fmt: skip


def _look_up(client: Client, posted: Json, fresh: bool = False) -> pa.Table:
    url = f"{client.of(Settings).skypatrol.rstrip('/')}/lookup_targets/catalog_list"
    path = client.download(SERVICE, url, posted=posted, check=_parquet, fresh=fresh)
    return files.parquet(path)


def _parquet(path: Path) -> None:
    try:
        files.parquet(path)
    except IntegrityError as error:
        raise BadAnswer(error.message) from error


VARIABLES = (
    "SELECT TOP {count} v.source_id, v.best_class_name, v.best_class_score\n"
    "FROM gaiadr3.vari_classifier_result AS v\n"
    "JOIN gaiadr3.gaia_source AS g ON g.source_id = v.source_id\n"
    "WHERE g.random_index BETWEEN {start} AND {end}\n"
    "AND g.phot_g_mean_mag BETWEEN 11 AND 16\nORDER BY g.random_index"
)
CLASSIFIED = 9_976_881 * 0.15  # rows of that table, and about how many of them are so bright


def variables(request: Request) -> str:
    """The query for a random sample of Gaia's variable stars as bright as ASAS-SN measures well."""
    count = request.sample or 1000
    size = min(int(1.5 * count * DR3.stars / CLASSIFIED) + 10_000, DR3.stars)
    start = int(np.random.default_rng(request.seed).integers(max(DR3.stars - size, 1)))
    return VARIABLES.format(count=count, start=start, end=start + size - 1)


def _unnamed(request: Request) -> bool:
    named = request.ids or request.dr2_ids or request.adql or request.follows
    return not (named or request.cone or request.healpix or request.where)


def _classes(request: Request, client: Client) -> dict[int, tuple[str, float]]:
    """Gaia's class and its score of each variable star of a sample."""
    client.say("asassn without a selection: variable stars of Gaia DR3, from Sky Patrol")
    answer = tap.run(client, _gaia.of(client).tap, variables(request))
    return {
        r["source_id"]: (r["best_class_name"], r["best_class_score"]) for r in answer.to_pylist()
    }


def select(request: Request, client: Client) -> Selection:
    """Stars that Gaia selects and the service's catalogue has; else a sample of its variables."""
    settings = client.of(Settings)
    asked, classes = request, None
    if _unnamed(request):
        classes = _classes(request, client)
        asked = replace(request, ids=tuple(sorted(classes)), sample=None, follows="gaia-dr3")
        if not classes:
            return Selection(pa.table({"source_id": pa.array([], pa.int64())}))
    request, queries = asked, (variables(request),) if classes is not None else ()
    found = selection.select(DR3, replace(request, products=("labels",), release=""), client)
    ids = found.table["source_id"].to_numpy().astype(np.int64)
    new, several = old_ids(client, ids)
    column, olds = settings.skypatrol_id, sorted(new)
    parts = [
        _look_up(client, _posted(settings, olds[n : n + BLOCK], column, False))
        for n in range(0, len(olds), BLOCK)
    ]
    rows = [r for part in parts for r in part.to_pylist()]
    for row in rows[:1]:
        if not {*COLUMNS, column} <= {*row}:
            raise IntegrityError(f"Sky Patrol answered with columns {', '.join(row)}", "")
    known = [r for r in rows if r[column] is not None and int(r[column]) in new]
    table = catalogue.table_of(
        {
            "source_id": np.array([new[int(r[column])] for r in known], np.int64),
            "dr2_source_id": np.array([int(r[column]) for r in known], np.int64),
            "asas_sn_id": np.array([int(r["asas_sn_id"]) for r in known], np.int64),
            "ra": np.array([r["ra_deg"] for r in known], np.float64),
            "dec": np.array([r["dec_deg"] for r in known], np.float64),
        },
        {"ra": "deg", "dec": "deg"},
    )
    inside = replace(
        request, ids=tuple(ids.tolist()), dr2_ids=(), adql=None, cone=None, healpix=None,
        sample=None, where=None, find="best", follows=request.follows or "gaia-dr3",
    )  # fmt: skip
    joined = catalogue.select(inside, client, table, "first", "", "asas_sn_id")
    notes = joined.notes | {
        "id_release": "DR3 by dr2_neighbourhood, nearest", "several_dr2_ids": several,
        "catalogue": settings.skypatrol_catalogue, "time": _system(settings),
    }  # fmt: skip
    made = joined.table
    if classes is not None:
        told = [classes.get(i, (None, None)) for i in made["source_id"].to_pylist()]
        made = made.append_column("class", pa.array([t[0] for t in told], pa.string()))
        scores = pa.array([t[1] for t in told], pa.float64())
        made = made.append_column("class_probability", scores)
        notes["class"] = "best_class_name of gaiadr3.vari_classifier_result"
    queries = (*queries, *found.queries, OLD_IDS)
    return Selection(
        made, queries, found.missing, (*found.absent, *joined.absent), notes
    )  # fmt: skip


def steps(request: Request, client: Client, selected: pa.Table, bands: set[str]) -> list[Step]:
    """The ids and positions, then blocks of light curves."""
    table = catalogue.objects(selected)
    work = [Step("objects", lambda: Piece({"objects": table}))]
    rows = [r for r in table.to_pylist() if r["asas_sn_id"] is not None]
    rows.sort(key=lambda r: r["asas_sn_id"])

    def block(part: list[Json]) -> Callable[[], Piece]:
        def get() -> Piece:
            curves, reasons = _curves(client, part, bands)
            have = sorted(
                ((r["source_id"], [curves[r["asas_sn_id"]]])
                 for r in part if r["asas_sn_id"] in curves), key=lambda x: x[0],
            )  # fmt: skip
            lost = tuple(
                (r["source_id"], "photometry", reasons.get(r["asas_sn_id"], "not_returned"))
                for r in part if r["asas_sn_id"] not in curves
            )  # fmt: skip
            made = {"photometry": photometry(have)} if have else {}
            return Piece(made, lost, queries=(f"{len(part)} light curves of Sky Patrol",))

        return get

    for n in range(0, len(rows), BLOCK):
        work.append(Step(f"photometry-{n // BLOCK:05d}", block(rows[n : n + BLOCK])))
    return work


def _curves(
    client: Client, rows: list[Json], bands: set[str]
) -> tuple[dict[int, Curve], dict[int, str]]:
    """Light curves by asas_sn_id, and the service's words for each star without.

    A block that the service will not give is asked for in halves, down to single stars.
    """
    try:
        return _block(client, rows, bands), {}
    except TooMuch as error:
        if len(rows) == 1:
            return {}, {rows[0]["asas_sn_id"]: f"service_failed: {answers.shown(error.text)[:80]}"}
    client.count("skypatrol_blocks_split")
    curves: dict[int, Curve] = {}
    reasons: dict[int, str] = {}
    middle = len(rows) // 2
    for half in (rows[:middle], rows[middle:]):
        found, lost = _curves(client, half, bands)
        curves |= found
        reasons |= lost
    return curves, reasons


def _block(client: Client, rows: list[Json], bands: set[str]) -> dict[int, Curve]:
    """Light curves of one block: the look-up registers it, a server then gives it."""
    settings, ids = client.of(Settings), [r["asas_sn_id"] for r in rows]
    posted = _posted(settings, ids, "asas_sn_id", True)
    asked = (
        f"listlen-{len(ids)}_listfirst-{ids[0]}_listend-{ids[-1]}|catalog-{posted['catalog']}"
        f"|id_col-asas_sn_id|cols-{'/'.join(posted['cols'])}"
    )
    name = quote(base64.encodebytes(asked.encode()).decode(), safe="/=+")
    # The service's name for a block tells its ends alone; the part after # is for our cache.
    mark = hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]
    rest = f"get_block/query_hash-{name}-block_idx-0-catalog-{posted['catalog']}#{mark}"
    urls = [f"{base}/{rest}" for base in servers(client)]
    held = any(cache.find(client.cache, cache.key("GET", u, None)) for u in urls)
    if not client.offline and (client.fresh or not held):
        _look_up(client, posted, fresh=True)
    failed: Unreachable | Refused | None = None
    too_much: TooMuch | None = None
    for url in urls:
        try:
            table = files.parquet(client.download(BLOCKS, url, check=_parquet))
        except TooMuch as error:
            too_much = error
            continue
        except (Unreachable, Refused) as error:
            failed = error
            continue
        return split(table, {r["asas_sn_id"]: r for r in rows}, bands, settings)
    if too_much is not None:  # a server that answers says more than one that is down
        raise too_much
    assert failed is not None
    raise failed


def servers(client: Client) -> list[str]:
    """Addresses of the servers of light curves, in the order in which they are asked."""
    form = client.of(Settings).skypatrol_block
    if "{server}" not in form:
        return [form.rstrip("/")]
    path = client.download(
        SERVICE, f"{client.of(Settings).skypatrol.rstrip('/')}/get_block_servers"
    )
    try:
        names = json.loads(path.read_bytes())
        listed = [form.format(server=checks.safe_key(str(n))).rstrip("/") for n in names]
    except (ValueError, TypeError) as error:
        raise IntegrityError("Sky Patrol named no block servers", "see skypatrol_block") from error
    if not listed:
        raise IntegrityError("Sky Patrol named no block servers", "see skypatrol_block")
    return listed


def split(
    table: pa.Table, stars: dict[int, Json], bands: set[str], settings: Settings
) -> dict[int, Curve]:
    """A block as light curves by asas_sn_id.

    Magnitudes of bad quality (not `G`), or without an error, are NaN; a magnitude whose error is
    99.99 is an upper limit. Epochs of other bands are left out; of an unknown camera they stay,
    with an empty band.
    """
    if not {"asas_sn_id", "jd", "mag", "mag_err"} <= {*table.column_names}:
        raise IntegrityError(f"a block of columns {', '.join(table.column_names)[:200]}", "")
    number = {
        n: catalogue.numbers(table[n].to_numpy(zero_copy_only=False))
        for n in ("jd", "mag", "mag_err")
    }
    text = {
        n: np.array([str(v or "") for v in table[n].to_pylist()], object)
        if n in table.column_names else np.full(table.num_rows, "", object)
        for n in ("camera", "phot_filter", "quality")
    }  # fmt: skip
    band = np.array(
        [f or _band(c) for f, c in zip(text["phot_filter"], text["camera"], strict=True)], object
    )
    limit = (number["mag_err"] >= BAD) & (number["mag"] < BAD)
    good = (number["mag"] < BAD) & (number["mag_err"] < BAD)
    if "quality" in table.column_names:
        good &= text["quality"] == "G"
    kept = np.isfinite(number["jd"]) & np.isin(band, [*bands, ""])
    ids = table["asas_sn_id"].to_numpy().astype(np.int64)
    found: dict[int, Curve] = {}
    for i in np.unique(ids[kept]).tolist():
        if i not in stars:
            continue
        at = np.flatnonzero(kept & (ids == i))
        at = at[np.argsort(number["jd"][at], kind="stable")]
        time = number["jd"][at]
        if settings.heliocentric:
            time = time + heliocentric(time, stars[i]["ra"], stars[i]["dec"])
        found[i] = {
            "time": time,
            "magnitude": np.where(good, number["mag"], np.nan)[at].astype(np.float32),
            "error": np.where(good, number["mag_err"], np.nan)[at].astype(np.float32),
            "band": band[at],
            "camera": text["camera"][at],
            "is_upper_limit": limit[at],
            "system": np.full(len(at), _system(settings), object),
        }
    return found


def _system(settings: Settings) -> str:
    return "HJD" if settings.heliocentric else "JD"


def _band(camera: str) -> str:
    for name, cameras in (("V", V_CAMERAS), ("g", G_CAMERAS)):
        if cameras.fullmatch(camera):
            return name
    return ""


def heliocentric(jd: NDArray[np.float64], ra: float, dec: float) -> NDArray[np.float64]:
    """HJD - JD in days, up to 0.0059: the light time from the Earth's centre to the Sun's.

    Args:
        jd: UTC, [epochs].
        ra, dec: Of the star, deg, ICRS.

    Returns:
        [epochs]. The site of the camera, up to 21 ms, is left out, as is the Shapiro delay.

    Source:
        The Earth's heliocentric position of ERFA's epv00 (Bretagnon's VSOP2000, simplified).
    """
    import erfa

    place = erfa.epv00(jd, TT_UTC)[0]["p"]
    return np.asarray(LIGHT_TIME * place @ unit_vectors(np.array([ra]), np.array([dec]))[0])


def outline(request: Request, settings: Settings) -> Outline:
    """About 60 kB a star."""
    rows = len(request.ids) or request.sample or (1000 if _unnamed(request) else None)
    own = (variables(request),) if _unnamed(request) else ()
    queries = (*own, OLD_IDS, f"POST {settings.skypatrol}/lookup_targets/catalog_list")
    return Outline(queries, rows, None if rows is None else rows * 60_000)
