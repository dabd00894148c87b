"""Settings of `mmclip preprocess`: flag over `--config FILE` over `--like` over `--preset`."""

from pathlib import Path

from mmclip import config, papers, plugins
from mmclip.artifacts import Artifact
from mmclip.config import Json
from mmclip.datasets.build import PreprocessConfig
from mmclip.modalities import registry

Views = dict[str, Json]


def resolve(
    file: Path | None, flags: Json, like: Artifact | None = None
) -> tuple[PreprocessConfig, Views]:
    """The settings of the stage, and those of the modalities.

    Args:
        file: TOML with the table `[preprocess]` and one `[NAME]` a modality, or None.
        flags: Values from the command line; None means "not given".
        like: A data artefact whose settings are the defaults, or None.

    Raises:
        UsageError: On an unknown key or a value of the wrong type.
        NotFound: If there is no such preset.
    """
    given = _stage(file) | {k: v for k, v in flags.items() if v is not None}
    base: Json = {}
    views: Views = {}
    if given.get("preset"):
        base = papers.settings(str(given["preset"]), "preprocess")
        views = {n: dict(v) for n, v in base.pop("views", {}).items()}
    if like is not None:
        past = dict(like.manifest.config)
        views |= past.pop("settings", {})
        kept = ("modalities", "normalisation", "clip", "seed", "split")
        base |= {k: past[k] for k in kept if k in past}
    settings = config.resolve(PreprocessConfig, "preprocess", None, base | given)
    for name, table in _tables(file, settings.modalities).items():
        views[name] = views.get(name, {}) | table
    return settings, views


def _stage(file: Path | None) -> Json:
    return config.read_toml(file, "preprocess") if file else {}


def _tables(file: Path | None, asked: tuple[str, ...]) -> Views:
    """The tables of a TOML file (already read once) that are named like modalities."""
    if file is None:
        return {}
    body = config.toml(file)
    dotted = [registry.modality(n).name for n in asked if "." in plugins.base(n)]
    known = {*plugins.names("modalities"), *map(plugins.base, dotted)}
    return {k: v for k, v in body.items() if isinstance(v, dict) and plugins.base(k) in known}
