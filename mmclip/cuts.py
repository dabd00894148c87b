"""Cuts as an astronomer writes them, `snr > 50 and teff < 8000`: on a table, or as ADQL.

One grammar serves the rows of a table and a query to a service. Nothing is evaluated as code, and
nothing of the user's text is passed on as it stands: in ADQL names come from the list of columns,
numbers are printed from numbers, and text values may hold only plain characters.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.errors import NotFound, UsageError, nearest

TERM = re.compile(r"\s*([A-Za-z_]\w*)\s*(<=|>=|==|!=|=|<|>)\s*(?:'([^']*)'|\"([^\"]*)\"|(\S+))\s*")
PLAIN = re.compile(r"[\w .,:+*/()-]*", re.ASCII)
EXAMPLE = 'for example --where "snr > 50 and teff < 8000"'
TRUE, FALSE = ("true", "t", "1"), ("false", "f", "0")


@dataclass(frozen=True)
class Term:
    """One comparison; the value is a number or text."""

    column: str
    operator: str
    value: int | float | str


def parse(text: str) -> tuple[Term, ...]:
    """The comparisons of `column operator value and ...`.

    Args:
        text: The operators are < <= > >= = == !=; text values may be quoted.

    Raises:
        UsageError: If the text is of another form.
    """
    return tuple(_term(p) for p in re.split(r"\s+and\s+", text.strip(), flags=re.IGNORECASE))


def _term(part: str) -> Term:
    match = TERM.fullmatch(part)
    if match is None:
        raise UsageError(f"--where '{part[:80]}' is not COLUMN OPERATOR VALUE", EXAMPLE)
    name, operator, single, double, bare = match.groups()
    operator = {"==": "="}.get(operator, operator)
    if bare is None:
        return Term(name, operator, single if single is not None else double)
    return Term(name, operator, _value(bare))


def _value(bare: str) -> int | float | str:
    # An id has more digits than a float holds: whole numbers stay whole.
    if re.fullmatch(r"[+-]?\d+", bare):
        return int(bare)
    try:
        number = float(bare)
    except ValueError:
        return bare
    return number if np.isfinite(number) else bare


def where(table: pa.Table, text: str) -> NDArray[np.bool_]:
    """[rows] True where every condition holds; an unknown value (NaN, null) satisfies none.

    Args:
        table: With the columns that are named.
        text: See `parse`.

    Raises:
        UsageError: If the text is of another form, or compares a number with a word.
        NotFound: If a column is not there.
    """
    kept = np.ones(table.num_rows, bool)
    for term in parse(text):
        if term.column not in table.column_names:
            known = table.column_names
            raise NotFound(
                f"--where: there is no column '{term.column}'; {nearest(term.column, known)}",
                f"columns: {', '.join(known)[:300]}",
            )
        kept &= _compare(term, arrays.whole(table, term.column))
    return kept


def _compare(term: Term, column: pa.Array) -> NDArray[np.bool_]:
    column = arrays.plain(column)
    known = np.asarray(column.is_valid())
    if pa.types.is_null(column.type):
        return known
    if pa.types.is_boolean(column.type):
        return known & _operate(_filled(column, False), term.operator, _truth(term))
    if not arrays.is_number(column.type):
        words = column.cast(pa.string()).fill_null("").to_pylist()
        return known & _operate(np.array(words, dtype=str), term.operator, _word(term, column.type))
    values, wanted = _filled(column, 0), _number(term)
    if values.dtype == np.float16:  # beyond 65,504 it has no numbers
        values = values.astype(np.float32)
    with np.errstate(invalid="ignore"):
        known &= np.isfinite(values) & _operate(values, term.operator, wanted)
    return known


def _number(term: Term) -> int | float:
    """What a column of numbers is compared with; quotes may stand about a number."""
    wanted = _value(term.value) if isinstance(term.value, str) else term.value
    if isinstance(wanted, str):
        raise UsageError(f"--where: '{wanted}' is not a number, as {term.column} is", EXAMPLE)
    return wanted


def _word(term: Term, kind: pa.DataType) -> str:
    """What a column of text is compared with: the name of a class may be a whole number."""
    if isinstance(term.value, str) or (
        isinstance(term.value, int) and term.operator in ("=", "!=") and arrays.is_text(kind)
    ):
        return str(term.value)
    held = "text" if arrays.is_text(kind) else str(kind)
    raise UsageError(
        f"--where: {term.column} holds {held}, which is not compared with the number {term.value}",
        f"--where \"{term.column} {term.operator} '{term.value}'\" compares text with text",
    )


def _filled(column: pa.Array, value: int) -> NDArray[Any]:
    filled = column.fill_null(value) if column.null_count else column
    return np.asarray(filled.to_numpy(zero_copy_only=False))


def _truth(term: Term) -> bool:
    word = str(term.value).lower()
    if word not in TRUE + FALSE:
        raise UsageError(
            f"--where: '{term.value}' is not true or false, as {term.column} is", EXAMPLE
        )
    return word in TRUE


def _operate(values: NDArray[Any], operator: str, wanted: int | float | str) -> NDArray[np.bool_]:
    table = {
        "<": np.less, "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal,
        "=": np.equal, "!=": np.not_equal,
    }  # fmt: skip
    return np.asarray(table[operator](values, wanted), bool)


def adql(text: str, columns: dict[str, str], true: str = "t") -> str:
    """The condition in ADQL.

    Args:
        text: See `parse`.
        columns: Every column that may be named, with its table's alias.
        true: How the service writes a true flag in text.

    Raises:
        NotFound: If a column is not among them.
        UsageError: If a text value holds more than plain characters.
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
            _check_plain(value)
            value = {"true": true, "false": true.replace("t", "f").replace("True", "False")}.get(
                value.lower(), value
            )
            written = "'" + value.replace("'", "''") + "'"
        else:
            written = repr(value)
        operator = "<>" if term.operator == "!=" else term.operator
        parts.append(f"{columns[name]}.{name} {operator} {written}")
    return " AND ".join(parts)


def _check_plain(value: str) -> None:
    if not PLAIN.fullmatch(value):
        raise UsageError(f"--where: the value '{value[:60]}' holds odd characters", EXAMPLE)
    if "--" in value or "/*" in value:
        raise UsageError(f"--where: the value '{value[:60]}' holds a comment", EXAMPLE)
