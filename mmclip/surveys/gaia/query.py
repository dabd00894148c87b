"""The queries of a fetch from Gaia, as ADQL: which stars, and their columns."""

import re

import numpy as np

from mmclip import cuts
from mmclip.errors import UsageError, nearest
from mmclip.surveys import Outline, Request
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import datalink, neighbours
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.release import Release
from mmclip.surveys.gaia.settings import Settings

DEFAULT = ("labels", "astrometry", "2mass")
SPECTRA = ("xp", "rvs")  # fetched of a plain sample when no product is named


def products(release: Release, request: Request) -> tuple[str, ...]:
    """What is fetched; a name that is none of ours is another survey's.

    Raises:
        UsageError: If none is left.
    """
    known = release.names()
    ours = tuple(p for p in request.products if p in known)
    if request.products and not ours:
        raise UsageError(
            f"{release.survey} has none of --products {','.join(request.products)}; "
            f"{nearest(request.products[0], sorted(known))}",
            f"known: {', '.join(sorted(known))}",
        )
    return ours or (DEFAULT + SPECTRA if _only_a_sample(request) else DEFAULT)


def spectra(release: Release, request: Request) -> tuple[str, ...]:
    """Names of the kinds of spectra that are fetched."""
    return tuple(p for p in products(release, request) if p in release.products)


def named(request: Request) -> bool:
    """Whether stars are listed by ids, of whatever release."""
    return bool(request.ids or request.dr2_ids or request.dr3_ids or request.dr4_ids)


def _only_a_sample(request: Request) -> bool:
    """True if no stars are named or cut out: then the sample is of stars that have spectra."""
    listed = named(request) or request.adql
    return not (listed or request.cone or request.healpix or request.where)


def condition(release: Release, request: Request, settings: Settings) -> tuple[str, str]:
    """The ADQL condition of a selection on `g`, and a TOP clause (or nothing)."""
    wanted = spectra(release, request)
    parts, top = [], ""
    if request.cone:
        ra, dec, radius = request.cone
        circle = f"CIRCLE('ICRS', {ra!r}, {dec!r}, {radius!r})"
        parts.append(f"1 = CONTAINS(POINT('ICRS', g.ra, g.dec), {circle})")
    if request.healpix:
        order, pixels = request.healpix
        width = 2**35 * 4 ** (12 - order)
        spans = [f"g.source_id BETWEEN {p * width} AND {(p + 1) * width - 1}" for p in pixels]
        parts.append(spans[0] if len(spans) == 1 else f"({' OR '.join(spans)})")
    if request.where:
        parts.append(cuts.adql(request.where, release.columns.cuttable, settings.true))
    if request.sample is not None or not parts:
        start, size = _window(release, request)
        parts.append(f"g.random_index BETWEEN {start} AND {start + size - 1}")
        flagged = [release.products[p] for p in wanted if release.products[p].flag]
        parts += [f"{p.has} > 0" if p.graded else f"{p.has} = '{settings.true}'" for p in flagged]
        if wanted or len(parts) > 1:
            top = f"TOP {request.sample or 1000} "
    return " AND ".join(parts), top


def _window(release: Release, request: Request) -> tuple[int, int]:
    """First random_index and how many: wide enough for `sample` stars that have the spectra."""
    wanted = request.sample or 1000
    with_them = [release.products[p].share for p in spectra(release, request)]
    share = min((n / release.stars for n in with_them), default=1.0)
    if request.cone or request.healpix or request.where:
        return 0, release.stars  # the cut decides; TOP takes the first by random_index
    spare = 1.5 if with_them else 1.0
    size = min(int(wanted / share * spare) + (10_000 if with_them else 0), release.stars)
    start = np.random.default_rng(request.seed).integers(max(release.stars - size, 1))
    return int(start), size


def _flags(release: Release, request: Request) -> str:
    wanted = [release.products[p] for p in spectra(release, request)]
    return "".join(dict.fromkeys(f", {p.has}" for p in wanted if p.flag))


def _joined(release: Release, text: str) -> str:
    """The join of the table of flags, where a text needs it."""
    if not release.flags or not re.search(r"\bf\.\w", text):
        return ""
    return f"\nJOIN {release.flags} AS f ON f.source_id = g.source_id"


def selecting(release: Release, request: Request, settings: Settings) -> str:
    """The query that selects."""
    where, top = condition(release, request, settings)
    order, flags = "g.random_index" if top else "g.source_id", _flags(release, request)
    join = _joined(release, f"{flags} {where}")
    return (
        f"SELECT {top}g.source_id{flags}\n"
        f"FROM {release.source} AS g{join}\nWHERE {where}\nORDER BY {order}"
    )


def uploaded(release: Release, request: Request) -> str:
    """The query that looks uploaded ids up, with the flags of the spectra."""
    flags = _flags(release, request)
    return (
        f"SELECT g.source_id{flags}\nFROM tap_upload.ids AS u\n"
        f"JOIN {release.source} AS g ON g.source_id = u.source_id{_joined(release, flags)}\n"
        "ORDER BY g.source_id"
    )


def catalogue(release: Release, request: Request, where: str | None) -> str:
    """The query for the columns of one chunk: of uploaded ids, or of a condition."""
    chosen, columns = products(release, request), release.columns
    names = [*columns.core]
    names += columns.labels if "labels" in chosen else ()
    names += columns.astrometry if "astrometry" in chosen else ()
    listed = [f"g.{n}" for n in dict.fromkeys([*names, *columns.photometry])]
    joins: list[str] = []
    if "labels" in chosen:
        listed += [n if "." in n else f"ap.{n}" for n in columns.parameters]
        joins += columns.joins["parameters"]
    for name, held in (("2mass", columns.tmass), ("wise", columns.wise)):
        if name in chosen and name in columns.joins:
            listed += [f"{source} AS {n}" for n, source in held.items()]
            joins += columns.joins[name]
    source = [f"FROM {release.source} AS g"]
    if where is None:
        source = [
            "FROM tap_upload.ids AS u",
            f"JOIN {release.source} AS g ON g.source_id = u.source_id",
        ]
    if where and (join := _joined(release, where)):
        source.append(join.strip())
    end = ([f"WHERE {where}"] if where else []) + ["ORDER BY g.source_id"]
    return "\n".join([f"SELECT g.source_id, {', '.join(listed)}", *source, *joins, *end])


def outline(release: Release, request: Request, client: Client) -> Outline:
    """What would be asked; rows from the number of ids, or from the mean density of the sky."""
    settings = _settings.of(client, release.settings)
    number: int | None = None
    exact = False
    if request.adql is not None:
        queries = [request.adql, catalogue(release, request, None)]
    elif named(request):
        others = neighbours.others(release, request)
        number, exact = len(request.ids) + sum(map(len, others.values())), not others
        queries = [neighbours.text(*pair) for pair in others]
        queries += [uploaded(release, request), catalogue(release, request, None)]
    else:
        where = condition(release, request, settings)[0]
        queries = [selecting(release, request, settings), catalogue(release, request, where)]
        number, exact = _expected(release, request)
    wanted = [release.products[p] for p in spectra(release, request)]
    for product in wanted:
        chunk = min(settings.chunk, datalink.MOST)
        queries.append(
            f"POST {settings.data}/data  RETRIEVAL_TYPE={product.kind}"
            f"  DATA_STRUCTURE={settings.data_structure}  {chunk} ids at a time"
        )
    star = 8 * catalogue(release, request, None).split("\nFROM")[0].count(",")
    star += sum(p.bytes for p in wanted)
    return Outline(tuple(queries), number, None if number is None else number * star, exact)


def _expected(release: Release, request: Request) -> tuple[int | None, bool]:
    if request.sample is not None or not (request.cone or request.healpix or request.where):
        return request.sample or 1000, not (request.cone or request.healpix or request.where)
    share = 1.0
    if request.cone:
        share *= (1 - np.cos(np.radians(request.cone[2]))) / 2
    if request.healpix:
        share *= len(request.healpix[1]) / (12 * 4 ** request.healpix[0])
    return int(release.stars * share), False
