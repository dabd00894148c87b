"""Presets: one TOML file a published work, with every constant and where it comes from.

A preset lies under `--config FILE` and the flags; its quirks are settings like any other.
"""

import tomllib
from pathlib import Path
from typing import Any

from mmclip.errors import NotFound, nearest

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """Names of the presets."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def read(name: str) -> dict[str, Any]:
    """The settings of a preset.

    Raises:
        NotFound: If there is none of that name; names the nearest.
    """
    if name not in names():
        raise NotFound(f"there is no preset '{name}'; {nearest(name, names())}", "docs/presets.md")
    body: dict[str, Any] = tomllib.loads((FOLDER / f"{name}.toml").read_text())["train"]
    return body | {"preset": name}
