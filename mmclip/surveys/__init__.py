"""The sky -> rows: one file a survey, and the only code that touches the network.

A survey is one file that defines `SURVEY`; its `fetch` returns tables, the caller writes them.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from mmclip.errors import UsageError


@dataclass(frozen=True)
class Request:
    """Which objects are wanted; see docs/commands/fetch.md.

    Attributes:
        sample: A random sample of about this many objects.
        ids: Gaia DR3 source_ids.
        cone: (ra, dec, radius), deg, ICRS.
        adql: A query of the user's that returns `source_id`.
        modelled_rvs: Demo data only: add the modelled RVS view.
        seed: Of every random choice.
    """

    sample: int | None = None
    ids: tuple[int, ...] = ()
    cone: tuple[float, float, float] | None = None
    adql: str | None = None
    modelled_rvs: bool = False
    seed: int = 42


@dataclass(frozen=True)
class Fetched:
    """What a survey gave.

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
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Survey:
    """The contract of a survey."""

    name: str
    title: str
    release: str
    citations: tuple[str, ...]
    fetch: Callable[[Request], Fetched]


def parse_source_id(text: str | int | float) -> int:
    """A Gaia DR3 source_id from any of its spellings: `123`, `Gaia DR3 123`, `EDR3 123`.

    Raises:
        UsageError: If the text is no id, is a DR2 id, or was written as a float (which keeps
            only 53 bits, so that the last digits of a source_id are lost).
    """
    written = str(text).strip()
    words = written.upper().replace("GAIA", " ").split()
    if words and words[0] in ("DR2", "DR1"):
        raise UsageError(
            f"'{written}' is a Gaia {words[0]} id; it is not a DR3 id",
            "map it with gaiadr3.dr2_neighbourhood first: most ids look alike, not all are",
        )
    if words and words[0] in ("DR3", "EDR3"):
        words = words[1:]
    digits = words[0] if len(words) == 1 else ""
    if isinstance(text, float) or (any(c in digits for c in ".E") and _is_number(digits)):
        raise UsageError(
            f"'{written}' is a source_id written as a float: its last digits are lost",
            "read the id column as text or int64, and give all its digits",
        )
    if not (digits.isascii() and digits.isdigit()) or not 0 < int(digits) < 2**63:
        raise UsageError(
            f"'{written}' is not a Gaia source_id", "give its digits, for example 4295806720"
        )
    return int(digits)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
