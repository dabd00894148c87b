"""Settings of a modality: a frozen dataclass, from `[NAME]` of a TOML file and `--set`."""

import dataclasses
import json
import typing
from collections.abc import Mapping
from typing import Any

from mmclip import config
from mmclip.config import Json
from mmclip.errors import UsageError
from mmclip.modalities import Modality


def configured(modality: Modality, values: Mapping[str, Any]) -> Modality:
    """The modality under other settings; those not named keep their defaults.

    Args:
        modality: With its default settings.
        values: As typed (text) or as TOML gives them.

    Raises:
        UsageError: On a setting that the modality lacks, or a value that it cannot have.
    """
    if not values:
        return modality
    if modality.settings is None or modality.configure is None:
        raise UsageError(
            f"{modality.name} has no settings (given: {', '.join(values)})",
            "mmclip preprocess --help",
        )
    kind = type(modality.settings)
    hints = typing.get_type_hints(kind)
    ready = {k: _typed(v, hints.get(k)) for k, v in values.items()}
    try:
        settings = config.resolve(kind, modality.name, None, ready)
    except UsageError as error:
        known = ", ".join(f"{k}={v}" for k, v in plain(modality).items())
        raise UsageError(error.message, f"--set {modality.name}.KEY=VALUE, of: {known}") from error
    made = modality.configure(settings)
    return dataclasses.replace(made, name=modality.name, view=modality.view, origin=modality.origin)


def plain(modality: Modality) -> Json:
    """The resolved settings as JSON values; empty if the modality has none."""
    if modality.settings is None:
        return {}
    return dict(json.loads(json.dumps(dataclasses.asdict(modality.settings))))


def complete(modality: Modality, stored: Mapping[str, Any]) -> Json:
    """Stored settings, with the defaults of settings that came after they were stored."""
    return {**plain(modality), **stored}


def one_of(name: str, value: str, known: tuple[str, ...]) -> str:
    """The value, if it is a known one.

    Raises:
        UsageError: Naming the known ones.
    """
    if value not in known:
        raise UsageError(f"{name} = '{value}' is not known", f"--set {name}={' or '.join(known)}")
    return value


def _typed(value: Any, hint: Any) -> Any:
    """Text as typed on a command line, in the type of the setting, where it can be."""
    if not isinstance(value, str) or hint is str:
        return value
    if hint is bool:
        return {"true": True, "yes": True, "false": False, "no": False}.get(value.lower(), value)
    try:
        if hint is int:
            return int(value)
        if hint is float:
            return float(value)
    except ValueError:
        return value
    return value
