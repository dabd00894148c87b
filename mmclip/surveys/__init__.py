"""From the sky to rows: one folder a survey, and the only code that touches the network.

A survey is a file or folder that defines `SURVEY`: with it lie its settings, references, layout of
files, and which labels its modelled views were made from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mmclip import plugins
from mmclip.config import Json
from mmclip.errors import UsageError
from mmclip.ids import spelled

if TYPE_CHECKING:
    from mmclip.surveys.client.http import Client
    from mmclip.surveys.probe import Finding

FIND = ("best", "all")
JOIN = ("1and2", "all1", "1not2")


@dataclass(frozen=True)
class Request:
    """Which objects are wanted, and what of them; see docs/commands/fetch.md.

    Attributes:
        sample: A random sample of about this many objects.
        ids: Gaia source_ids of the survey's own release (`Survey.ids`), DR3 as a rule.
        cone: (ra, dec, radius), deg, ICRS.
        adql: A query of the user's that returns `source_id`.
        modelled_rvs: Demo data only: add the modelled RVS view.
        seed: Of every random choice.
        dr2_ids, dr3_ids, dr4_ids: Ids of other releases of Gaia than the survey's own, to be
            mapped through the archive's tables of neighbours.
        healpix: (order, pixels), nested, of the source_ids.
        where: Cuts, `column operator value` joined by `and`.
        products: What to fetch; empty for the survey's own choice.
        find: `best` (one row a star) or `all`, of the rows a catalogue has of a star.
        join: `1and2`, `all1` or `1not2`: which wanted stars (1) stay, by the catalogue (2).
        choose: The rule by which one of several rows is best; empty for the survey's own.
        release: Data release, for surveys of several.
        bulk: Gaia: take spectra from the bulk files instead of DataLink.
        follows: The survey that selected `ids`, when the user did not.
        known: What that survey said of them: (source_id, ra, dec in deg, DESI TARGETID or 0).
    """

    sample: int | None = None
    ids: tuple[int, ...] = ()
    cone: tuple[float, float, float] | None = None
    adql: str | None = None
    modelled_rvs: bool = False
    seed: int = 42
    dr2_ids: tuple[int, ...] = ()
    healpix: tuple[int, tuple[int, ...]] | None = None
    where: str | None = None
    products: tuple[str, ...] = ()
    find: str = "best"
    join: str = "1and2"
    choose: str = ""
    release: str = ""
    bulk: bool = False
    follows: str = ""
    known: tuple[tuple[int, float, float, int], ...] = ()
    dr3_ids: tuple[int, ...] = ()
    dr4_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Fetched:
    """What a survey gave, all at once.

    Attributes:
        tables: `objects` (source_id int64, ra, dec in deg, labels) and one table a view, each
            with `source_id`.
        provenance: `observed` or `modelled` for each view.
        queries: What was asked, word for word.
        missing: (source_id, reason) of objects asked for and not received.
        notes: Anything else worth keeping.
    """

    tables: dict[str, pa.Table]
    provenance: dict[str, str]
    queries: tuple[str, ...] = ()
    missing: tuple[tuple[int, str], ...] = ()
    notes: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Selection:
    """Which stars a survey of the network will be asked for.

    Attributes:
        table: One row a star, `source_id` int64 rising, and whatever the survey needs later.
        queries: What was asked, word for word.
        missing: (source_id, reason) of stars the user asked for that are not to be had.
        absent: (source_id, reason) of stars the survey does not have, and need not.
        notes: Counts and rules of the join.
    """

    table: pa.Table
    queries: tuple[str, ...] = ()
    missing: tuple[tuple[int, str], ...] = ()
    absent: tuple[tuple[int, str], ...] = ()
    notes: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Piece:
    """What one step gave.

    Attributes:
        tables: Rows of `objects` and of views, each sorted by `source_id`.
        missing: (source_id, view, reason) of what should have come.
        absent: (source_id, view, reason) of what the survey never published.
        queries: What was asked, word for word.
    """

    tables: dict[str, pa.Table]
    missing: tuple[tuple[int, str, str], ...] = ()
    absent: tuple[tuple[int, str, str], ...] = ()
    queries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A piece of work that is done once: its name is that of its shards."""

    name: str
    get: Callable[[], Piece]


@dataclass(frozen=True)
class Outline:
    """What `--dry-run` says: queries, and the rows and bytes to expect."""

    queries: tuple[str, ...]
    rows: int | None
    bytes: int | None
    exact: bool = False


@dataclass(frozen=True)
class Acknowledgement:
    """Words of thanks that go with data.

    Attributes:
        text: Our words.
        address: Where the full text that is asked for stands.
        cited: Bibcode of a catalogue that a survey brings along; empty for the survey itself.
    """

    text: str
    address: str
    cited: str = ""


@dataclass(frozen=True)
class Survey:
    """The contract of a survey: `fetch`, or for one of the network `select` and `steps`.

    Attributes:
        name, title, release: For people and manifests.
        citations: Bibcodes of everything the survey gives.
        fetch: All at once, for what is small or local.
        select: Which stars; asked once, its answer is kept.
        steps: The work that follows; the same list for the same selection.
        outline: What would be asked.
        products: Names that `--products` may hold, and the citations that come with each.
        settings: Frozen dataclass with defaults: the table `[NAME]` of the settings file, which
            `client.of(THAT_CLASS)` returns.
        references: BibTeX file with an entry for each bibcode.
        acknowledgements: Of the survey, and of catalogues that it brings along.
        labels_from: View -> labels that it was modelled from, which it cannot predict honestly.
        ids: Release of Gaia whose source_ids it gives.
        probe: Compares what the adapter assumes with tiny answers of the live service.
    """

    name: str
    title: str
    release: str
    citations: tuple[str, ...]
    fetch: Callable[[Request], Fetched] | None = None
    select: Callable[[Request, Client], Selection] | None = None
    steps: Callable[[Request, Client, pa.Table], list[Step]] | None = None
    outline: Callable[[Request, Client], Outline] | None = None
    products: dict[str, tuple[str, ...]] = field(default_factory=dict)
    settings: type | None = None
    references: Path | None = None
    acknowledgements: tuple[Acknowledgement, ...] = ()
    labels_from: dict[str, tuple[str, ...]] = field(default_factory=dict)
    ids: str = "DR3"
    probe: Callable[[Client], list[Finding]] | None = None


def other_release(
    one: Iterable[Mapping[str, Any]], two: Iterable[Mapping[str, Any]]
) -> tuple[str, str] | None:
    """Surveys of two manifests that are different releases of the same one; None if none are.

    Releases that are surveys of their own (`gaia-dr3`, `gaia-dr4`) differ in their bases and grids:
    what was learned from one does not hold for the other.
    """
    names = [{s["name"] for s in listed if "-dr" in s["name"]} for listed in (one, two)]
    for first in sorted(names[0]):
        family = first.partition("-dr")[0]
        like = sorted(n for n in names[1] if n.partition("-dr")[0] == family)
        if like and first not in like and not set(like) & names[0]:
            return first, like[0]
    return None


def labels_from(listed: Iterable[Mapping[str, Any]], view: str) -> frozenset[str]:
    """Labels that a modelled view was made from.

    Args:
        listed: The surveys of a manifest; one written before this was noted there is looked up.
        view: Its name.
    """
    found: set[str] = set()
    for one in listed:
        told = one.get("labels_from")
        if told is None and one["name"] in plugins.names("surveys"):
            told = plugins.load("surveys", one["name"], "SURVEY").labels_from
        found.update((told or {}).get(view, ()))
    return frozenset(found)


def parse_source_id(text: str | int | float) -> int:
    """A Gaia DR3 source_id from any of its spellings: `123`, `Gaia DR3 123`, `EDR3 123`.

    Raises:
        UsageError: If the text is no id, is a DR2 id, or was written as a float (which keeps
            only 53 bits, so that the last digits of a source_id are lost).
    """
    written = str(text).strip()
    found = spelled(written)
    release, number = found or ("", 0)
    if release not in ("", "DR3", "EDR3"):
        raise UsageError(
            f"'{written}' is a Gaia {release} id; it is not a DR3 id",
            f"mmclip fetch --ids FILE maps it by {_neighbours(release)}: "
            "most ids look alike, not all are",
        )
    digits = written.split()[-1] if written else ""
    if isinstance(text, float) or (any(c in digits for c in ".eE") and _is_number(digits)):
        raise UsageError(
            f"'{written}' is a source_id written as a float: its last digits are lost",
            "read the id column as text or int64, and give all its digits",
        )
    if not 0 < number < 2**63:
        raise UsageError(
            f"'{written}' is not a Gaia source_id", "give its digits, for example 4295806720"
        )
    return number


def _neighbours(release: str) -> str:
    """Gaia's table of the sources of another release beside those of DR3."""
    return "gaiadr3.dr2_neighbourhood" if release in ("DR1", "DR2") else "its neighbourhood table"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
