"""Any catalogue of VizieR as labels, joined on Gaia ids: `--survey vizier:J/A+A/649/A6/table1c`.

The table must have a column of Gaia ids (DR3 or EDR3; of DR2 they are mapped), or positions, by
which its stars are matched. VizieR's own TAP service serves it.
"""

import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.config import Count, Range
from mmclip.errors import NotFound, UsageError
from mmclip.surveys import Acknowledgement, Outline, Piece, Request, Selection, Step, Survey
from mmclip.surveys import catalogue as _catalogue
from mmclip.surveys.client import tap
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import match, neighbours
from mmclip.surveys.probe import Answer, Finding, find

IDS = {  # lower case -> release; VizieR's usual names
    "gaiadr3": "DR3", "dr3name": "DR3", "gaiaedr3": "DR3", "edr3name": "DR3", "gaia": "",
    "source": "", "sourceid": "", "source_id": "", "gaiadr2": "DR2", "dr2name": "DR2",
}  # fmt: skip
POSITIONS = (("raj2000", "dej2000"), ("ra_icrs", "de_icrs"), ("ra", "dec"), ("_ra", "_de"))


@dataclass(frozen=True)
class Settings:
    """The table `[vizier]` of the settings file."""

    tap: str = "https://tapvizier.cds.unistra.fr/TAPVizieR/tap"
    most: Count = 1_000_000  # rows of a catalogue that are taken
    epoch: Annotated[float, Range(1700, 2200)] = 2000.0  # of its positions, Julian year


def table_name(request: Request) -> str:
    """The table that is asked for, `J/A+A/649/A6/table1c`.

    Raises:
        UsageError: If none is, or its name holds anything that no table of VizieR has.
    """
    if not re.fullmatch(r"[A-Z]+[A-Z+&]*/[\w+&./-]+", request.release, re.ASCII):
        raise UsageError(
            f"'{request.release}' is no table of VizieR", "--survey vizier:J/A+A/649/A6/table1c"
        )
    return request.release


def query(request: Request, most: int) -> str:
    """The query for the whole table."""
    return f'SELECT TOP {most} * FROM "{table_name(request)}"'


def select(request: Request, client: Client) -> Selection:
    """Rows of the table with a star of Gaia; of several rows of a star the first."""
    settings = client.of(Settings)
    asked = query(request, settings.most)
    answer = tap.run(client, settings.tap.rstrip("/"), asked)
    held = {n: _plain(answer[n]) for n in answer.column_names}
    ids, notes = identify(client, held, settings.epoch)
    labels = {n: v for n, v in held.items() if n not in ("source_id", "ra", "dec")}
    ra, dec = positions(held)
    table = _catalogue.table_of({"source_id": ids, "ra": ra, "dec": dec} | labels, _units(answer))
    found = _catalogue.select(request, client, table, "first")
    notes |= found.notes | {"table": table_name(request)}
    return Selection(found.table, (asked, *found.queries), found.missing, found.absent, notes)


def _plain(column: pa.ChunkedArray) -> NDArray[Any]:
    if pa.types.is_integer(column.type) and column.null_count:
        return np.asarray(column.fill_null(0).to_numpy())
    return np.asarray(column.to_numpy())


def _units(answer: pa.Table) -> dict[str, str]:
    told = {f.name: (f.metadata or {}).get(b"unit", b"").decode() for f in answer.schema}
    return {n: u for n, u in told.items() if u} | {"ra": "deg", "dec": "deg"}


def positions(held: dict[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """RA and Dec in deg; NaN where the table has none in decimal degrees."""
    for one, two in POSITIONS:
        if one in held and two in held and held[one].dtype.kind == "f":
            return held[one].astype(np.float64), held[two].astype(np.float64)
    blank = np.full(len(next(iter(held.values()))), np.nan)
    return blank, blank


def identify(
    client: Client, held: dict[str, NDArray[Any]], epoch: float
) -> tuple[NDArray[np.int64], dict[str, Any]]:
    """DR3 ids of the rows (0 where there is none), and how they were found.

    Raises:
        NotFound: If the table has neither Gaia ids nor positions.
    """
    ra, dec = positions(held)
    name = next((n for n in held if n.lower() in IDS and held[n].dtype.kind in "iuOU"), None)
    if name is None:
        if not np.isfinite(ra).any():
            raise NotFound(
                f"the table has neither Gaia ids nor positions (it has: {', '.join(held)[:200]})",
                "choose a table with one of them",
            )
        found, distance, rivals = match.by_position(client, ra, dec, np.full(len(ra), epoch))
        held["match_distance"], held["match_candidates"] = distance, rivals
        return found, {"id_release": "position"}
    ids = _catalogue.gaia_ids(held[name])
    release, notes = IDS[name.lower()], dict[str, Any](id_column=name)
    if not release and np.isfinite(ra).any():
        test = match.release_of(client, ids, ra, dec, epoch)
        release, notes = test.release.upper(), notes | {"release_test": asdict(test)}
    if release != "DR2":
        return ids, notes | {"id_release": release or "DR3 (not tested: no positions)"}
    mapping, lost = neighbours.from_dr2(client, tuple(np.unique(ids[ids > 0]).tolist()))
    new = dict(
        zip(mapping["dr2_source_id"].to_pylist(), mapping["source_id"].to_pylist(), strict=True)
    )
    made = np.array([new.get(i, 0) for i in ids.tolist()], np.int64)
    return made, notes | {"id_release": "dr2", "dr2_unmapped": len(lost)}


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The columns are all there is."""
    table = _catalogue.objects(selected)
    return [Step("objects", lambda: Piece({"objects": table}))]


def outline(request: Request, client: Client) -> Outline:
    """One query."""
    return Outline((query(request, client.of(Settings).most),), None, None)


def probe(client: Client) -> list[Finding]:
    """Whether its TAP service answers."""
    service = client.of(Settings).tap.rstrip("/")

    def rows() -> Answer:
        count = tap.run(client, service, 'SELECT TOP 1 * FROM "I/239/hip_main"').num_rows
        return Answer(count == 1, f"{count} row of I/239/hip_main")

    return [find("vizier", f"{service} answers queries", rows)]


SURVEY = Survey(
    name="vizier",
    title="A catalogue of VizieR",
    release="as the catalogue has it",
    citations=("2000A&AS..143...23O",),
    select=select,
    steps=steps,
    outline=outline,
    products={"labels": ()},
    settings=Settings,
    probe=probe,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(
        Acknowledgement(
            "This work uses the VizieR catalogue access tool, CDS, Strasbourg, France "
            "(DOI: 10.26093/cds/vizier).",
            "https://cds.unistra.fr/vizier-org/licences_vizier.html",
        ),
    ),
)
