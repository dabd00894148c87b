"""One frozen dataclass per stage; flag over `--config FILE` over default.

The resolved values go into the manifest of what the stage makes.
"""

import contextlib
import dataclasses
import json
import math
import tomllib
import types
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from mmclip.errors import NotFound, UsageError, nearest

C = TypeVar("C")
Json = dict[str, Any]  # a JSON object, or a TOML table
DEEPEST = 32  # levels of tables and arrays in a TOML file
SHOWN = 60  # characters of a value that an error shows


@dataclass(frozen=True)
class Range:
    """What a numeric setting may be: low <= value <= high, or an end that it must not reach."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False  # value > low
    below: bool = False  # value < high

    def __contains__(self, value: float) -> bool:
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return over and under and -math.inf < value < math.inf

    def __str__(self) -> str:
        words = []
        if self.low > -math.inf:
            words.append(f"{'above' if self.above else 'at least'} {_shown(self.low)}")
        if self.high < math.inf:
            words.append(f"{'below' if self.below else 'at most'} {_shown(self.high)}")
        return " and ".join(words) or "finite"


def _shown(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


MOST = 2**31 - 1
Count = Annotated[int, Range(1, MOST)]
Whole = Annotated[int, Range(0, MOST)]
Size = Annotated[int, Range(1, 2**20)]  # of a layer, a kernel, a picture
Seed = Annotated[int, Range(0, 2**32 - 1)]  # what NumPy takes
Positive = Annotated[float, Range(0, above=True)]
AtLeast0 = Annotated[float, Range(0)]
Part = Annotated[float, Range(0, 1)]
Chance = Annotated[float, Range(0, 1, below=True)]


def toml(path: Path) -> Json:
    """A TOML file as plain values.

    Raises:
        NotFound: If there is none.
        UsageError: If it cannot be read, is not TOML, or is nested deeper than `DEEPEST`.
    """
    try:
        body = tomllib.loads(path.read_text())
    except FileNotFoundError:
        raise NotFound(f"there is no configuration file {path}") from None
    except (ValueError, RecursionError) as error:  # an integer of 5,000 digits is a ValueError
        raise UsageError(f"{path} is not TOML: {error}") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    level: list[Any] = [body]
    for _ in range(DEEPEST):
        inner = [v.values() if isinstance(v, dict) else v for v in level]
        level = [v for some in inner for v in some if isinstance(v, dict | list)]
    if level:
        raise UsageError(f"{path} is nested deeper than {DEEPEST} levels")
    return body


def read_toml(path: Path, stage: str) -> Json:
    """The keys of the table `[stage]` of a TOML file, or all its top-level keys without one."""
    body = toml(path)
    tables = {k: v for k, v in body.items() if isinstance(v, dict)}
    if stage in tables:
        return dict(tables[stage])
    return {k: v for k, v in body.items() if k not in tables}


def resolve(
    kind: type[C],
    stage: str,
    file: Path | None,
    flags: Json,
    preset: Json | None = None,
) -> C:
    """Build the configuration of a stage: flag over file over preset over default.

    Args:
        kind: A frozen dataclass with defaults.
        stage: Name of the TOML table to read.
        file: A TOML file, or None.
        flags: Values from the command line; None means "not given".
        preset: Values under those of the file; tables within are merged key by key.

    Raises:
        UsageError: On a key that the dataclass lacks or a value of the wrong type.
    """
    given = merge(preset or {}, read_toml(file, stage) if file else {})
    given = merge(given, {k: v for k, v in flags.items() if v is not None})
    hints = typing.get_type_hints(kind)
    for key, value in given.items():
        if key not in hints:
            raise UsageError(
                f"'{key}' is not a setting of {stage}; {nearest(key, list(hints))}",
                f"mmclip {stage} --help",
            )
        given[key] = _fit(stage, key, value, hints[key])
    made = kind(**given)
    check(stage, made)
    return made


def check(stage: str, config: Any) -> None:
    """Refuse a value that is not among the choices, or not in the range, of its field.

    Raises:
        UsageError: Naming the value, and the choices or the range.
    """
    for key, hint in typing.get_type_hints(type(config)).items():
        known, value = typing.get_args(hint), getattr(config, key)
        if typing.get_origin(hint) is typing.Literal and value not in known:
            raise UsageError(
                f"{stage}: {key} = '{value}' is not known", f"choose {' or '.join(map(str, known))}"
            )
    for key, span in ranges(type(config)).items():
        value = getattr(config, key)
        for number in value if isinstance(value, tuple | list) else (value,):
            if number is not None and number not in span:
                raise UsageError(
                    f"{stage}: {key} = {shortened(number)} cannot be: it must be {span}"
                )


def ranges(kind: type[Any]) -> dict[str, Range]:
    """The declared range of each numeric field of a dataclass."""
    found = {}
    for key, hint in typing.get_type_hints(kind, include_extras=True).items():
        # Of `Count | None` the range is that of `Count`.
        union = typing.get_origin(hint) in (typing.Union, types.UnionType)
        for option in typing.get_args(hint) if union else (hint,):
            for about in getattr(option, "__metadata__", ()):
                if isinstance(about, Range):
                    found[key] = about
    return found


def choice(option: str, value: object, known: Sequence[str]) -> None:
    """Refuse a value that is not among the known ones.

    Raises:
        UsageError: Naming the option, the value and the choices.
    """
    if value not in known:
        raise UsageError(f"{option} {value} is not known", f"choose {', '.join(known)}")


def merge(below: Json, above: Json) -> Json:
    """`above` over `below`, tables within tables key by key."""
    made = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(made.get(key), dict)
        made[key] = merge(made[key], value) if both else value
    return made


def assignments(words: list[str]) -> Json:
    """`a.b=1` -> {"a": {"b": 1}}; a value is read as TOML, or as text if it is none.

    Raises:
        UsageError: If a word has no `=`.
    """
    made: Json = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise UsageError(f"'{word}' sets nothing", "write it as KEY=VALUE")
        try:
            value: Any = tomllib.loads(f"value = {text}")["value"]
        except (ValueError, RecursionError):
            value = text
        if name.count(".") >= DEEPEST:
            raise UsageError(f"'{name[:SHOWN]}...' is nested deeper than {DEEPEST} levels")
        for part in reversed(name.strip().split(".")):
            value = {part: value}
        made = merge(made, value)
    return made


def _fit(stage: str, key: str, value: Any, wanted: Any) -> Any:
    origin = typing.get_origin(wanted)
    if origin in (typing.Union, types.UnionType):
        options = typing.get_args(wanted)
        if value is None and type(None) in options:
            return None
        wanted = next(o for o in options if o is not type(None))
        origin = typing.get_origin(wanted)
    if origin is typing.Literal:
        return value  # see `check`
    if origin is tuple:
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if isinstance(value, list | tuple):
            element = typing.get_args(wanted)[0]
            return tuple(_fit(stage, key, v, element) for v in value)
    elif wanted is float and isinstance(value, int | float) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):
            return float(value)
    elif isinstance(value, origin or wanted) and not (wanted is int and isinstance(value, bool)):
        return value
    raise UsageError(f"{stage}: {key} = {shortened(value)} is not of the type {wanted}")


def shortened(value: object) -> str:
    """A value as Python writes it, cut where it is long."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of too many digits
        return f"a value of the type {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def to_dict(config: Any) -> Json:
    """A configuration as plain JSON values."""
    return typing.cast(Json, json.loads(json.dumps(dataclasses.asdict(config))))


def to_toml(stage: str, config: Any) -> str:
    """A configuration as a TOML table; unset values are left out."""
    return "\n".join(_table(stage, to_dict(config))) + "\n"


def _table(name: str, body: Json) -> list[str]:
    plain = {k: v for k, v in body.items() if v is not None and not isinstance(v, dict)}
    lines = [f"[{name}]", *(f"{k} = {json.dumps(v)}" for k, v in plain.items())]
    for key, value in body.items():
        if isinstance(value, dict) and value:
            lines += ["", *_table(f"{name}.{json.dumps(key)}", value)]
    return lines
