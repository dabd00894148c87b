"""What a release of Gaia turns out to be: its tables and columns, as its own service lists them.

A description of a release that is not published yet is an assumption. What the service's `/tables`
says wins; what was found, and what is lacking, goes into the manifest.
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

from mmclip.errors import IntegrityError, UsageError
from mmclip.surveys.client import tap
from mmclip.surveys.client.http import BadAnswer, Client
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.release import Columns, Product, Release

REAL = ("boolean", "char", "unicodechar", "string", "varchar")  # kinds of a flag that is t or f
LABEL = re.compile(
    r"(teff|logg|mh|feh|fe_h|alphafe|distance|azero|ag|abp|arp|ebpminrp|mass|age|radius|lum)"
    r"(_|$)\w*|(class|spectraltype)\w*|flags_\w+|\w+_(class|classlabel)\w*"
)
MOST = 60  # labels of one table


@dataclass(frozen=True)
class Table:
    """A table of a service: column -> kind of its values, lower case."""

    name: str
    columns: dict[str, str]


def listed(client: Client, release: Release) -> dict[str, Table]:
    """Every table that the service lists, by its name in lower case.

    Raises:
        Refused, Unreachable: If the service does not answer.
        IntegrityError: If the list is hostile.
    """
    url = f"{_settings.of(client, release.settings).tap}/tables"
    path = client.download(tap.SERVICE, url, check=_check)
    return _parse(path)


def _check(path: Path) -> None:
    body = path.read_bytes()
    if re.search(rb"<!\s*(DOCTYPE|ENTITY)", body, re.IGNORECASE):
        raise IntegrityError("a list of tables with a document type is refused", "tell the service")
    try:
        if not _parse(path):
            raise BadAnswer("a list of tables without a table")
    except ElementTree.ParseError as error:
        raise BadAnswer(f"a list of tables that is no XML ({error})") from error


def _parse(path: Path) -> dict[str, Table]:
    """A VOSI list of tables, whatever namespace its elements have.

    Source:
        IVOA Recommendation VOSI 1.1, section 2.4, and VODataService 1.2.
    """
    found = {}
    for element in ElementTree.parse(path).iter():
        if _local(element) != "table":
            continue
        name, columns = "", {}
        for child in element:
            if _local(child) == "name":
                name = (child.text or "").strip().lower()
            if _local(child) == "column":
                held = {_local(c): (c.text or "").strip().lower() for c in child}
                columns[held.get("name", "")] = held.get("datatype", held.get("dataType", ""))
        if name:
            found[name] = Table(name, columns)
    return found


def _local(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]


def settle(client: Client, release: Release) -> Release:
    """The release as its service has it; one that is well known stays as it is described.

    Raises:
        UsageError: If the service has no such release (yet).
    """
    if not release.assumed:
        return release
    tables = listed(client, release)
    schema = _schema(client, release, tables)
    source = tables[f"{schema}.{_bare(release.source)}"]
    flags = tables.get(f"{schema}.{release.flags}") if release.flags else None
    lacking: list[str] = []

    def kept(names: tuple[str, ...]) -> tuple[str, ...]:
        lacking.extend(n for n in names if n not in source.columns)
        return tuple(n for n in names if n in source.columns)

    own = release.columns
    parameters, joins = _labels(schema, release, tables)
    columns = replace(
        own, core=kept(own.core), labels=kept(own.labels), astrometry=kept(own.astrometry),
        photometry=kept(own.photometry), parameters=parameters,
        joins=_joins(schema, own, tables) | {"parameters": joins},
        cuttable=dict.fromkeys(flags.columns if flags else (), "f")
        | dict.fromkeys(source.columns, "g"),
    )  # fmt: skip
    products = {n: _flagged(p, source, flags) for n, p in release.products.items()}
    client.learned[release.survey] = {
        "schema": schema, "lacking": lacking, "labels": list(parameters),
        "flags": {n: f"{p.alias}.{p.flag}" if p.flag else "none" for n, p in products.items()},
        "crossmatches": sorted(n for n in ("2mass", "wise") if n in columns.joins),
    }  # fmt: skip
    return replace(
        release, source=source.name, columns=columns, products=products, assumed=False,
        flags=flags.name if flags else "",
        neighbours=f"{schema}.{_bare(release.neighbours)}" if release.neighbours else "",
    )  # fmt: skip


def _bare(name: str) -> str:
    return name.rpartition(".")[2]


def _schema(client: Client, release: Release, tables: dict[str, Table]) -> str:
    wanted = _settings.of(client, release.settings).schema.lower()
    main = _bare(release.source)
    having = [n.rpartition(".")[0] for n in tables if _bare(n) == main]
    if wanted in having:
        return wanted
    word = release.survey.replace("-", "")  # gaiadr4
    like = sorted(s for s in having if word in s.replace("_", ""))
    if like:
        return like[0]
    raise UsageError(
        f"the service has no {release.title}: no schema like {word} holds a table {main} "
        f"(it has {', '.join(sorted(having)) or 'none of that name'})",
        f"wait for the release, or set tap or schema under [{release.survey}] of --config",
    )


def _flagged(product: Product, source: Table, flags: Table | None) -> Product:
    """The product with the first of its possible flags that there is."""
    for name in (product.flag, *product.flags):
        for alias, table in (("f", flags), ("g", source)):
            if table is not None and name in table.columns:
                kind = table.columns[name]
                graded = not any(kind.startswith(r) for r in REAL)
                return replace(product, flag=name, alias=alias, graded=graded)
    return replace(product, flag="")


def _labels(
    schema: str, release: Release, tables: dict[str, Table]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Columns of the tables of parameters, as `alias.name AS ours`, and their joins."""
    listed_: list[str] = []
    joins, taken = [], set(release.columns.core)
    for n, bare in enumerate(release.parameters):
        table = tables.get(f"{schema}.{bare}")
        if table is None:
            continue
        names = [c for c in table.columns if LABEL.fullmatch(c)][:MOST]
        for name in names:
            ours = name if name not in taken else f"{name}_{bare}"
            taken.add(ours)
            listed_.append(f"p{n}.{name} AS {ours}" if ours != name else f"p{n}.{name}")
        if names:
            joins.append(f"LEFT OUTER JOIN {table.name} AS p{n} ON p{n}.source_id = g.source_id")
    return tuple(listed_), tuple(joins)


def _joins(schema: str, columns: Columns, tables: dict[str, Table]) -> dict[str, tuple[str, ...]]:
    """The joins to other catalogues all of whose tables there are."""
    found = {}
    for name, lines in columns.joins.items():
        moved = tuple(line.replace("{schema}", schema) for line in lines)
        wanted = re.findall(r"JOIN ([\w.]+) AS", " ".join(moved))
        if name != "parameters" and all(t.lower() in tables for t in wanted):
            found[name] = moved
    return found
