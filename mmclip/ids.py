"""Ids of objects: Gaia DR3 source_ids as they are, and marked local ids for everything else.

A Gaia source_id begins with a HEALPix pixel of level 12 (source_id >> 35), of which there are
12 x 4^12; so every Gaia id is below 12 x 2^59 = 3 x 2^61. A local id is 3 x 2^61 plus the first
61 bits of SHA-256(survey, NUL, own id): a positive int64 that no Gaia release can use.
"""

import hashlib
import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip.arrays import find, need, whole
from mmclip.errors import NotFound, UsageError

GAIA = (
    "gaia_dr3_source_id", "gaiadr3_source_id", "gaiaedr3_source_id", "edr3_source_id",
    "dr3_source_id", "gaia_source_id", "source_id", "gaiadr3", "gaia_dr3", "gaiaedr3", "gaia_edr3",
    "gaia_dr3_id", "gaiadr3_id", "source_id_dr3", "source_id_gaia", "dr3name", "edr3name",
    "dr3_name",
)  # fmt: skip
# Names that other catalogues use as well: Gaia's where the values say so.
PERHAPS = ("source", "designation", "gaia", "gaia_id", "gaiaid", "sourceid", "main_id")  # fmt: skip
OWN = (
    "object_name", "object_id", "objid", "obj_id", "targetid", "apogee_id", "obsid", "asassn_name",
    "asassn_id", "asas_sn_id", "css_id", "asas_id", "cesium_id", "linear_id", "star_id", "miles_id",
    "mangaid", "galaxy_id", "masterid", "master_id", "objectid", "oid", "catalogid",
    "sdss_id", "specobjid", "bestobjid", "kic", "tic", "epic", "2mass", "tmass", "star name",
    "target_name", "targetname", "target", "object", "lcid", "numid", "sourceid",
    "rave_obs_id", "kepid", "ticid", "star_name", "star", "name", "id",
    "designation", "source_file",
)  # fmt: skip
NO_ID = ("", "-1", "0", "-9999", "999999")  # what catalogues write for no id
FIRST_GAIA = 4295806720  # the smallest source_id of DR3
OWN_IDS = "own ids? say --id-column NAME"
FIRST_LOCAL = 3 << 61  # 12 x 2^59: above every Gaia source_id
SPELLING = re.compile(r"(?:GAIA\s*)?(?:(E?DR[1234])\s*)?([0-9]+)", re.IGNORECASE)
OTHER = ("DR1", "DR2", "DR4")  # releases with other ids than DR3
EXACT = 2**53  # above this a float64 skips integers
CHUNK = 1 << 20  # ids looked at at a time
Ids = NDArray[np.int64]


def local_id(survey: str, name: str) -> int:
    """The stable local id of an object by its survey and its name there.

    >>> local_id("css", "3025001014168") >> 61
    3
    """
    digest = hashlib.sha256(f"{survey}\0{name}".encode()).digest()
    return FIRST_LOCAL | int.from_bytes(digest[:8], "big") >> 3


def is_local(source_id: NDArray[np.int64]) -> NDArray[np.bool_]:
    """True for ids that mmclip made; False for Gaia's."""
    return np.asarray(source_id, np.int64) >= FIRST_LOCAL


def spelled(value: object) -> tuple[str, int] | None:
    """(release, number) of a Gaia id in any of its spellings; None if it is none.

    >>> spelled("Gaia EDR3 5937083312263887616"), spelled(12), spelled("1.2e3")
    (('EDR3', 5937083312263887616), ('', 12), None)
    """
    text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
    match = SPELLING.fullmatch(text.strip())
    return None if match is None else ((match[1] or "").upper(), int(match[2]))


def gaia_id(value: object) -> tuple[int | None, str]:
    """A Gaia DR3 id from an integer or any of its spellings, or None and the reason."""
    found = spelled(value)
    if found is None:
        return None, f"'{str(value)[:40]}' is not a Gaia source_id"
    release, number = found
    if release in OTHER:
        return None, f"the id is of Gaia {release}, not of DR3"
    if not number:
        return None, "no source_id"
    if number < FIRST_GAIA:
        return None, f"a source_id below {FIRST_GAIA}, the smallest of Gaia's ({OWN_IDS})"
    if number >= FIRST_LOCAL:
        return None, f"{number} is not a Gaia source_id"
    return number, ""


def not_float(table: pa.Table, name: str) -> None:
    """Refuse an id column of floats, whose last digits are lost.

    Raises:
        UsageError: If the column is one of floats, with whole numbers above 2^53 or Gaia ids.
    """
    array = whole(table, name)
    if not pa.types.is_floating(array.type):
        return
    values = np.asarray(array.drop_null().to_numpy(zero_copy_only=False), np.float64)
    large = values[np.abs(values) >= EXACT]
    if len(large) or find(table.select([name]), GAIA):
        example = f" (for example {large[0]:.6g})" if len(large) else ""
        raise UsageError(
            f"the id column '{name}' was read as floats{example}: the last digits are lost",
            "write that column as int64 or as text with all digits, and import it again",
        )


def texts(table: pa.Table, name: str) -> list[str | None]:
    """A column of names as text, stripped; None where empty. Whole floats lose their `.0`."""
    found: list[str | None] = []
    for value in whole(table, name).to_pylist():
        if isinstance(value, float):
            value = int(value) if value.is_integer() else value if value == value else None
        text = value.decode(errors="replace") if isinstance(value, bytes) else value
        found.append(str(text).strip() or None if text is not None else None)
    return found


def like_a_path(name: str) -> bool:
    """True for names that a careless program would take for a file of the system."""
    return name.startswith(("/", "~", "\\")) or ".." in name or any(ord(c) < 32 for c in name)


def columns(table: pa.Table, id_column: str | None) -> tuple[str | None, str | None]:
    """Which column holds Gaia ids and which the object's own name.

    The column the user names is taken for Gaia's if it is called so and its values can be Gaia's:
    numbers that are all below the smallest of Gaia's are own ids then. `gaia_source_id` beside
    LAMOST's `obsid` is not taken by itself: its release differs between data releases. Of the
    names an object has, the first that no row lacks is taken.
    """
    if id_column is not None:
        chosen = need(table, id_column, "--id-column")
        only = table.select([chosen])
        gaia = None if _too_small(only[chosen]) else find(only, GAIA) or _by_value(only)
        own = find(table, OWN) if gaia else chosen
        return gaia, own if own != gaia else None
    gaia = find(table, GAIA) or _by_value(table) or _by_words(table)
    if gaia and gaia.lower() == "gaia_source_id" and find(table, ["obsid"]):
        gaia = None
    known = [n for n in (find(table, [name]) for name in OWN) if n is not None and n != gaia]
    whole_ones = [n for n in known if table[n].null_count == 0]
    return gaia, next(iter(whole_ones or known), None)


def _too_small(column: pa.ChunkedArray) -> bool:
    """Whether a column of whole numbers holds none that can be Gaia's."""
    if not pa.types.is_integer(column.type) or column.null_count == len(column):
        return False
    return bool(pc.max(column).as_py() < FIRST_GAIA)


def _by_value(table: pa.Table) -> str | None:
    """A column of a name that may be Gaia's, if all that it holds are ids of Gaia.

    A number must be as large as the smallest id; text must say the release or be such a number. Ids
    of another release than DR3 are refused later, one by one.
    """
    for name in PERHAPS:
        found = find(table, [name])
        if found is None:
            continue
        kind = table.schema.field(found).type
        if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
            continue
        read = [spelled(v) for v in table[found].drop_null().slice(0, 1000).to_pylist()]
        if read and all(
            r is not None and FIRST_GAIA <= r[1] < FIRST_LOCAL
            and (r[0] or name != "gaia_id") for r in read
        ):  # fmt: skip
            return found
    return None


def _by_words(table: pa.Table) -> str | None:
    """A column whose name speaks of Gaia (`Gaia ID`, `gaia dr3 source id`), if its values do."""
    for name in table.column_names:
        words = re.sub(r"[^a-z0-9]+", " ", name.lower())
        if not re.search(r"gaia|dr3|source id", words) or re.search(r"dr[124]\b|solution", words):
            continue
        column = table[name]
        if not pa.types.is_integer(column.type) or column.null_count == len(column):
            continue
        if pc.min(column).as_py() >= FIRST_GAIA and pc.max(column).as_py() < FIRST_LOCAL:
            return str(name)
    return None


def identify(
    table: pa.Table, id_column: str | None, fallback: str
) -> tuple[pa.Array, pa.Array, list[str]]:
    """Ids of each row of a table.

    Args:
        table: Any table, one row an object.
        id_column: The column that names the objects; None to look for a known one.
        fallback: What rows are called (`fallback:17`) when no column names them.

    Returns:
        source_id (int64, null where there is no Gaia id), object_name (text; `Gaia DR4 123` for an
        id of another release), and for each row the reason why it cannot be used, or "".

    Raises:
        NotFound: If `id_column` is not there.
        UsageError: If ids were read as floats.
    """
    gaia, own = columns(table, id_column)
    for name in (gaia, own):
        if name is not None:
            not_float(table, name)
    count = table.num_rows
    names: list[str | None] = texts(table, own) if own else [None] * count
    ids: list[int | None] = [None] * count
    reasons = [""] * count
    if gaia is not None:
        for i, value in enumerate(whole(table, gaia).to_pylist()):
            if value is None or str(value).strip() in NO_ID:
                reasons[i] = "" if names[i] else "no source_id"
            else:
                ids[i], reasons[i] = gaia_id(value)
                release, number = spelled(value) or ("", 0)
                if ids[i] is None and release in OTHER:
                    names[i] = f"Gaia {release} {number}"  # a table of neighbours may know it
                names[i] = names[i] or (str(ids[i]) if ids[i] else None)
    elif own is None:
        names = [fallback if count == 1 else f"{fallback}:{i}" for i in range(count)]
    for i, name in enumerate(names):
        if name is None and ids[i] is None and not reasons[i]:
            reasons[i] = "no id"
        elif name is not None and like_a_path(name):
            names[i], reasons[i] = None, "the object's name looks like a path"
    return pa.array(ids, pa.int64()), pa.array(names, pa.string()), reasons


def rows_of(ids: Ids, asked: Ids) -> Ids:
    """[asked] the row of `ids` that holds each id asked for, -1 for one that is not there.

    Of an id that `ids` has several times, the first row. Ids that rise are searched as they stand
    (mapped ones stay on disk). Of others, a few are looked for in one pass, in memory of the size
    of `asked`; for many, the ids are sorted once, as `lookup` does.

    Args:
        ids, asked: In any order.

    >>> rows_of(np.array([30, 10, 20]), np.array([20, 99, 30])).tolist()
    [2, -1, 0]
    """
    asked = np.asarray(asked, np.int64)
    if len(ids) == 0 or len(asked) == 0:
        return np.full(len(asked), -1)
    if rising(ids) or len(asked) > len(ids) // 8:
        return lookup(ids)(asked)
    wanted, back = np.unique(asked, return_inverse=True)
    rows = np.full(len(wanted), -1)
    for start in reversed(range(0, len(ids), CHUNK)):  # so that the first row is written last
        part = ids[start : start + CHUNK]
        at = np.minimum(np.searchsorted(wanted, part), len(wanted) - 1)
        here = np.flatnonzero(wanted[at] == part)[::-1]
        rows[at[here]] = start + here
    return rows[back]


def reorder(ids: Ids, asked: Ids) -> Ids | None:
    """As `rows_of`; None where both are the same ids in the same order, and nothing is to move."""
    return None if np.array_equal(ids, asked) else rows_of(ids, asked)


def lookup(ids: Ids) -> Callable[[Ids], Ids]:
    """`rows_of` for ids that are asked again and again: what it needs to sort is sorted once."""
    order = None if rising(ids) else np.argsort(ids, kind="stable")

    def rows(asked: Ids) -> Ids:
        if len(ids) == 0:
            return np.full(len(asked), -1)
        at = np.minimum(np.searchsorted(ids, asked, sorter=order), len(ids) - 1)
        at = at if order is None else order[at]
        return np.where(ids[at] == asked, at, -1)

    return rows


def required_rows(ids: Ids, asked: Ids, owner: str) -> Ids:
    """As `rows_of`, where every id must be there.

    Args:
        ids, asked: See `rows_of`.
        owner: What holds the ids, for the error: "the 300 stars of vectors/demo".

    Raises:
        NotFound: Naming the first id that is not there and the nearest that is.
    """
    found = rows_of(ids, asked)
    if (found < 0).any():
        lost = asked[found < 0].tolist()
        near = int(ids[np.argmin(np.abs(ids - lost[0]))])
        hint = f"an id that is there: {near}"
        if abs(near - lost[0]) <= 1024 and near != lost[0]:
            hint = f"did it lose its last digits in a float? Very near lies {near}"
        more = f" (nor {len(lost) - 1} more)" if lost[1:] else ""
        raise NotFound(f"source_id {lost[0]} is not among {owner}{more}", hint)
    return found


def best_rows(ids: Ids, *ranks: NDArray[np.number]) -> Ids:
    """One row of each object, in order of id: the one of lowest rank, of equal ones the first.

    This is the one rule for objects that several rows describe; what differs is only the rank (a
    signal-to-noise with its sign turned, a distance, nothing).

    Args:
        ids: [rows].
        ranks: [rows] each; a later one decides where the earlier are equal. Last decides the order
            of the rows.

    >>> best_rows(np.array([7, 5, 7]), np.array([2.0, 0.0, 1.0])).tolist()
    [1, 2]
    """
    order = np.lexsort((*reversed(ranks), ids)) if ranks else np.argsort(ids, kind="stable")
    first = np.ones(len(order), bool)
    first[1:] = ids[order][1:] != ids[order][:-1]
    return order[first]


def rising(ids: Ids) -> bool:
    """Whether no id is below the one before it."""
    return all(
        bool((part[1:] >= part[:-1]).all())
        for part in (ids[start : start + CHUNK + 1] for start in range(0, len(ids), CHUNK))
    )


def repeated(ids: Ids) -> bool:
    """Whether an id is there twice; NumPy's `unique` takes ten times the memory."""
    if (ids[1:] > ids[:-1]).all():
        return False
    ordered = np.sort(ids)
    return bool((ordered[1:] == ordered[:-1]).any())
