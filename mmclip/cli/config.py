"""`mmclip config`: every setting of a stage, its value, and where that comes from."""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from mmclip.cli.options import Config, Json, Output, Where

if TYPE_CHECKING:
    from mmclip.results import Result

# Stage -> module and class of its settings, and the table of a preset that it reads.
STAGES = {
    "fetch": ("mmclip.surveys.client.settings", "Settings", ""),
    "preprocess": ("mmclip.datasets.build", "PreprocessConfig", "preprocess"),
    "train": ("mmclip.clip.settings", "TrainConfig", "train"),
    "train-decoder": ("mmclip.tasks.generate.decoder", "DecodeConfig", "decode"),
    "pretrain": ("mmclip.tasks.pretrain", "PretrainConfig", ""),
    "classify": ("mmclip.tasks.classify.finetune", "FinetuneConfig", ""),
    "adapt": ("mmclip.transfer.adapter", "AdaptConfig", ""),
}
# Variable of the environment -> what it is without one.
ENVIRONMENT = {
    "MMCLIP_WORKSPACE": "mmclip-work", "MMCLIP_CACHE": "~/.cache/mmclip", "MMCLIP_HELD_MB": "1024",
    "MMCLIP_GAIA_TAP": "ESA's", "MMCLIP_GAIA_DATA": "ESA's", "OMP_NUM_THREADS": "every core",
}  # fmt: skip


def command(
    action: Annotated[str, Argument(help="show.")],
    stage: Annotated[
        str | None, Argument(help=f"One of {', '.join(STAGES)}. [default: all]")
    ] = None,
    origin: Annotated[
        bool, Option("--origin", help="A table that says where each value comes from.")
    ] = False,
    preset: Annotated[str | None, Option(help="Settings of a published work.")] = None,
    words: Annotated[
        list[str] | None, Option("--set", help="A setting of STAGE, as KEY=VALUE.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result | None":
    """Show the settings of the stages: default, preset, file, environment or option."""
    from mmclip.cli.output import show, tell
    from mmclip.config import assignments, choice
    from mmclip.errors import UsageError
    from mmclip.results import from_rows

    choice("mmclip config", action, ("show",))
    if stage is not None:
        choice("mmclip config show", stage, tuple(STAGES))
    if words and stage is None:
        raise UsageError("--set needs the stage", f"mmclip config show train --set {words[0]}")
    chosen = [stage] if stage else list(STAGES)
    flags = assignments(words or [])
    if not origin and not as_json and output is None:
        tell("\n".join(_toml(one, config, preset, flags) for one in chosen))
        return None
    rows = [row for one in chosen for row in _rows(one, config, preset, flags)]
    rows += _environment(workspace)
    return show(from_rows(rows, "settings and where they come from"), as_json, output, rows)


def _settings(stage: str, file: Path | None, preset: str | None,
              flags: dict[str, Any]) -> tuple[Any, dict[str, str]]:  # fmt: skip
    """The resolved settings of a stage, and the origin of those that are not defaults."""
    from mmclip import papers
    from mmclip.config import read_toml, resolve

    module, name, table = STAGES[stage]
    below = papers.settings(preset, table) if preset and table else {}
    below = {k: v for k, v in below.items() if k != "views" or stage != "preprocess"}
    kind = getattr(importlib.import_module(module), name)
    made = resolve(kind, stage, file, flags, below)
    origins = dict.fromkeys(below, f"preset {preset}")
    origins |= dict.fromkeys(read_toml(file, stage) if file else {}, f"file {file}")
    return made, origins | dict.fromkeys(flags, "option")


def _rows(stage: str, file: Path | None, preset: str | None,
          flags: dict[str, Any]) -> list[dict[str, Any]]:  # fmt: skip
    from mmclip.config import ranges, to_dict

    made, origins = _settings(stage, file, preset, flags)
    limits = ranges(type(made))
    return [
        {"stage": stage, "setting": key, "value": _shown(value),
         "origin": origins.get(key, "default"), "range": str(limits.get(key, ""))}
        for key, value in to_dict(made).items()
    ]  # fmt: skip


def _toml(stage: str, file: Path | None, preset: str | None, flags: dict[str, Any]) -> str:
    """The settings as the table that --config reads."""
    from mmclip.config import to_toml

    return to_toml(stage, _settings(stage, file, preset, flags)[0])


def _shown(value: object) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _environment(workspace: Path | None) -> list[dict[str, Any]]:
    from mmclip.errors import hidden

    rows = []
    for name, otherwise in ENVIRONMENT.items():
        value, origin = os.environ.get(name), "environment"
        if name == "MMCLIP_WORKSPACE" and workspace is not None and str(workspace) != value:
            value, origin = str(workspace), "option"
        rows.append({"stage": "environment", "setting": name, "value": hidden(value or otherwise),
                     "origin": origin if value else "default", "range": ""})  # fmt: skip
    return rows
