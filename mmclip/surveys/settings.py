"""The user's settings file: `[fetch]` for the client, and one table a survey, named after it."""

import dataclasses
from difflib import get_close_matches
from pathlib import Path

from mmclip import plugins
from mmclip.config import read_toml, resolve, toml
from mmclip.errors import UsageError
from mmclip.surveys import Survey
from mmclip.surveys.client.settings import Settings


def read(file: Path | None) -> tuple[Settings, tuple[object, ...]]:
    """The client's settings, and those of every survey that the file has a table for.

    Raises:
        UsageError: If a key is no setting; a key that moved is named with its new table.
    """
    if file is None:
        return Settings(), ()
    _refuse_moved(file)
    return resolve(Settings, "fetch", file, {}), tuple(_of_surveys(file))


def _of_surveys(file: Path) -> list[object]:
    known = plugins.names("surveys")
    found: list[object] = []
    for table in _tables(file):
        if table.replace("_", "-") in known or "." in table:
            kind = _survey(table).settings
            if kind is None:
                raise UsageError(f"{file}: the survey {table} has no settings", "")
            found.append(resolve(kind, table, file, {}))
        elif close := get_close_matches(table, known, 1, 0.75):
            raise UsageError(f"{file}: there is no survey [{table}]", f"[{close[0]}]")
    return found


def _tables(file: Path) -> list[str]:
    body = toml(file)
    return [name for name, value in body.items() if isinstance(value, dict)]


def _survey(name: str) -> Survey:
    found: Survey = plugins.load("surveys", name, "SURVEY")
    return found


def _refuse_moved(file: Path) -> None:
    """Every survey's settings lay in `[fetch]` once: say where a key is now.

    Raises:
        UsageError: At the first key of `[fetch]` that is none of the client's.
    """
    own = {f.name for f in dataclasses.fields(Settings)}
    strange = [k for k in read_toml(file, "fetch") if k not in own]
    if not strange:
        return
    key = strange[0]
    keys = {
        f"[{name}] {f.name}": (name, f.name)
        for name in plugins.names("surveys")
        if (kind := _survey(name).settings) is not None
        for f in dataclasses.fields(kind)
    }
    for (name, field), was in ((v, _earlier(*v)) for v in keys.values()):
        if key in was:
            raise UsageError(
                f"'{key}' is not a setting of [fetch] any more: it is {field} of [{name}]",
                f"write it in {file} as\n[{name}]\n{field} = ...",
            )
    fields = {field: name for name, field in reversed(keys.values())}
    close = get_close_matches(key, [*own, *fields], 1, 0.5)
    table = fields.get(close[0]) if close else None
    hint = f"did you mean '{close[0]}'" + (f" of [{table}]" if table else "") if close else ""
    raise UsageError(
        f"'{key}' is not a setting of fetch; {hint or 'known: ' + ', '.join(sorted(own))}",
        "docs/surveys names the settings of each survey",
    )


def _earlier(survey: str, field: str) -> tuple[str, ...]:
    """What a setting was called in `[fetch]`: alone, after its survey, or after its family."""
    name = survey.replace("-", "_")
    return (field, f"{name}_{field}", f"{name.split('_')[0]}_{field}", f"datalink_{field}")
