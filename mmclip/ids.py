"""Ids of objects: Gaia DR3 source_ids as they are, and marked local ids for everything else.

A Gaia source_id begins with a HEALPix pixel of level 12 (source_id >> 35), of which there are
12 x 4^12; so every Gaia id is below 12 x 2^59 = 3 x 2^61. A local id is 3 x 2^61 plus the first
61 bits of SHA-256(survey, NUL, own id): a positive int64 that no Gaia release can use.
"""

import hashlib
import re

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.arrays import find, need, whole
from mmclip.errors import UsageError

GAIA = (
    "gaia_dr3_source_id", "gaiadr3_source_id", "gaiaedr3_source_id", "edr3_source_id",
    "dr3_source_id", "gaia_source_id", "source_id",
)  # fmt: skip
OWN = (
    "object_name", "object_id", "objid", "obj_id", "targetid", "apogee_id", "obsid", "asassn_name",
    "asassn_id", "asas_sn_id", "css_id", "asas_id", "cesium_id", "linear_id", "star_id", "miles_id",
    "mangaid", "galaxy_id", "rave_obs_id", "kepid", "ticid", "star_name", "star", "name", "id",
    "designation", "source_file",
)  # fmt: skip
FIRST_LOCAL = 3 << 61  # 12 x 2^59: above every Gaia source_id
SPELLING = re.compile(r"(?:GAIA\s*)?(?:(E?DR[123])\s*)?([0-9]+)", re.IGNORECASE)
EXACT = 2**53  # above this a float64 skips integers


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
    match = SPELLING.fullmatch(str(value).strip())
    return None if match is None else ((match[1] or "").upper(), int(match[2]))


def gaia_id(value: object) -> tuple[int | None, str]:
    """A Gaia DR3 id from an integer or any of its spellings, or None and the reason."""
    found = spelled(value)
    if found is None:
        return None, f"'{str(value)[:40]}' is not a Gaia source_id"
    release, number = found
    if release in ("DR1", "DR2"):
        return None, f"the id is of Gaia {release}, not of DR3"
    if not 0 < number < FIRST_LOCAL:
        return None, f"{number} is not a Gaia source_id" if number else "no source_id"
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

    The column the user names is taken for Gaia's if it is called so. `gaia_source_id` beside
    LAMOST's `obsid` is not taken by itself: its release differs between data releases. Of the
    names an object has, the first that no row lacks is taken.
    """
    if id_column is not None:
        chosen = need(table, id_column, "--id-column")
        gaia = find(table.select([chosen]), GAIA)
        own = find(table, OWN) if gaia else chosen
        return gaia, own if own != gaia else None
    gaia = find(table, GAIA)
    if gaia and gaia.lower() == "gaia_source_id" and find(table, ["obsid"]):
        gaia = None
    known = [n for n in (find(table, [name]) for name in OWN) if n is not None]
    whole_ones = [n for n in known if table[n].null_count == 0]
    return gaia, next(iter(whole_ones or known), None)


def identify(
    table: pa.Table, id_column: str | None, fallback: str
) -> tuple[pa.Array, pa.Array, list[str]]:
    """Ids of each row of a table.

    Args:
        table: Any table, one row an object.
        id_column: The column that names the objects; None to look for a known one.
        fallback: What rows are called (`fallback:17`) when no column names them.

    Returns:
        source_id (int64, null where there is no Gaia id), object_name (text), and for each row
        the reason why it cannot be used, or "".

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
            if value is None or str(value).strip() in ("", "-1", "0", "-9999"):
                reasons[i] = "" if names[i] else "no source_id"
            else:
                ids[i], reasons[i] = gaia_id(value)
                names[i] = names[i] or (str(ids[i]) if ids[i] else None)
    elif own is None:
        names = [fallback if count == 1 else f"{fallback}:{i}" for i in range(count)]
    for i, name in enumerate(names):
        if name is None and ids[i] is None and not reasons[i]:
            reasons[i] = "no id"
        elif name is not None and like_a_path(name):
            names[i], reasons[i] = None, "the object's name looks like a path"
    return pa.array(ids, pa.int64()), pa.array(names, pa.string()), reasons
