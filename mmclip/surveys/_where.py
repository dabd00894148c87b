"""`--where` at a service: parsed, checked against known columns, and written again as ADQL.

Nothing of the user's text is passed on as it stands: names come from the list of columns, numbers
are printed from numbers, and text values may hold only plain characters.
"""

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.errors import NotFound, UsageError, nearest

TERM = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|=|<|>)\s*(?:'([^']*)'|\"([^\"]*)\"|(\S+))\s*")
PLAIN = re.compile(r"[\w .,:+*/()-]*", re.ASCII)
EXAMPLE = 'for example --where "phot_g_mean_mag < 14 and ruwe < 1.4"'


@dataclass(frozen=True)
class Term:
    """One comparison; the value is a number or text."""

    column: str
    operator: str
    value: int | float | str


def parse(text: str) -> tuple[Term, ...]:
    """The comparisons of `column operator value and ...`.

    Raises:
        UsageError: If the text is anything else.
    """
    return tuple(_term(p) for p in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE))


def _term(part: str) -> Term:
    match = TERM.fullmatch(part)
    if match is None:
        raise UsageError(f"--where '{part[:80]}' is not COLUMN OPERATOR VALUE", EXAMPLE)
    name, operator, single, double, bare = match.groups()
    operator = {"==": "="}.get(operator, operator)
    if bare is None:
        given = single if single is not None else double
    elif re.fullmatch(r"[+-]?\d+", bare):
        return Term(name, operator, int(bare))
    else:
        try:
            number = float(bare)
        except ValueError:
            number, given = float("nan"), bare
        if np.isfinite(number):
            return Term(name, operator, number)
        given = bare
    if not PLAIN.fullmatch(given):
        raise UsageError(f"--where: the value '{given[:60]}' holds odd characters", EXAMPLE)
    if "--" in given or "/*" in given:
        raise UsageError(f"--where: the value '{given[:60]}' holds a comment", EXAMPLE)
    return Term(name, operator, given)


def adql(text: str, columns: dict[str, str], true: str = "t") -> str:
    """The condition in ADQL.

    Args:
        text: See `parse`.
        columns: Every column that may be named, with its table's alias.
        true: How the service writes a true flag in text.

    Raises:
        NotFound: If a column is not among them.
    """
    parts = []
    for term in parse(text):
        name = term.column.lower()
        if name not in columns:
            raise NotFound(
                f"--where: there is no column '{term.column}'; {nearest(name, list(columns))}",
                EXAMPLE,
            )
        value = term.value
        if isinstance(value, str):
            value = {"true": true, "false": true.replace("t", "f").replace("True", "False")}.get(
                value.lower(), value
            )
            written = "'" + value.replace("'", "''") + "'"
        else:
            written = repr(value)
        operator = "<>" if term.operator == "!=" else term.operator
        parts.append(f"{columns[name]}.{name} {operator} {written}")
    return " AND ".join(parts)


def mask(text: str, table: pa.Table) -> NDArray[np.bool_]:
    """Rows of a local catalogue that satisfy every term; an unknown value satisfies none.

    Raises:
        NotFound: If a column is not there.
        UsageError: If text is compared with a number.
    """
    kept = np.ones(table.num_rows, bool)
    for term in parse(text):
        if term.column not in table.column_names:
            known = table.column_names
            raise NotFound(
                f"--where: there is no column '{term.column}'; {nearest(term.column, known)}",
                f"columns: {', '.join(known)[:300]}",
            )
        kept &= _compare(term, table[term.column])
    return kept


def _compare(term: Term, column: pa.ChunkedArray) -> NDArray[np.bool_]:
    import pyarrow.compute as pc

    functions = {
        "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
        "=": pc.equal, "!=": pc.not_equal,
    }  # fmt: skip
    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    if pa.types.is_boolean(column.type):
        value: object = str(term.value).lower() in ("true", "t", "1")
    elif text:
        value = str(term.value)
    elif isinstance(term.value, str):
        raise UsageError(f"--where: '{term.value}' is not a number, as {term.column} is", EXAMPLE)
    else:
        value = term.value
    found = functions[term.operator](column, pa.scalar(value))
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), bool)
