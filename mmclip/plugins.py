"""A file in a package is a plug-in; a dotted name or an entry point is one too.

`mmclip/modalities/xp.py` defines `MODALITY`, and thereby the modality `xp` exists. A user's own
module is named with a dot (`mylab.echelle`) or announced under the entry-point group
`mmclip.modalities` (`mmclip.readers`, `mmclip.surveys`, `mmclip.encoders`, `mmclip.decoders`).

`spectra@miles` is the modality `spectra` as the raw artefact `miles` holds it: a view of its own.
"""

import dataclasses
import functools
import importlib
import os
import re
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmclip.artifacts import paths
from mmclip.errors import IntegrityError, NotFound, nearest

# What a plug-in of each package defines.
ATTRIBUTES = {
    "modalities": "MODALITY",
    "readers": "READER",
    "surveys": "SURVEY",
    "encoders": "ENCODER",
    "decoders": "DECODER",
    "tasks.bench": "BENCH",
    "tasks.predict.heads": "HEAD",
}


def names(package: str) -> list[str]:
    """Names of all plug-ins of a package: its public files and its entry points.

    Args:
        package: `modalities`, `readers`, `surveys`, `encoders` or `decoders`.
    """
    # A modality's name is also that of a file and of columns, where `-` has no place.
    found = _defining(package)
    own = found if package == "modalities" else [name.replace("_", "-") for name in found]
    announced = [point.name for point in _points(f"mmclip.{package}")]
    return sorted(set(own) | set(announced))


def _points(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group; the packages of the path are looked at anew when it changes."""
    return _announced(group, tuple((place, _changed(place)) for place in sys.path))


@functools.lru_cache(64)
def _announced(group: str, path: tuple[tuple[str, int], ...]) -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=group))


def _changed(place: str) -> int:
    try:
        return os.stat(place or ".").st_mtime_ns  # noqa: PTH116 - asked thousands of times
    except OSError:
        return 0


@functools.cache
def _defining(package: str) -> list[str]:
    """Files and folders of a package that define its plug-in's attribute: others only help them."""
    defines = re.compile(rf"^{ATTRIBUTES[package]}\b", re.MULTILINE)
    folder = Path(str(files(f"mmclip.{package}")))
    modules = {f.stem: f for f in folder.glob("*.py") if f.stem != "__init__"}
    modules |= {f.parent.name: f for f in folder.glob("*/__init__.py")}
    return sorted(n for n, f in modules.items() if defines.search(f.read_text(encoding="utf-8")))


def base(view: str) -> str:
    """The modality behind the name of a view: `spectra` of `spectra@miles`."""
    return view.partition("@")[0]


def origins(notes: Mapping[str, Any]) -> dict[str, str]:
    """The dotted names of the views of a raw artefact, from the notes of its manifest."""
    return dict(notes.get("modalities", {}))


def load(package: str, name: str, attribute: str) -> Any:
    """The object `attribute` of the plug-in `name`.

    Args:
        package: Which family, for example `modalities`.
        name: A file's name (`-` and `_` are the same), an entry point, or a dotted module name; a
            modality's, with `@RAW` or without.
        attribute: What the file defines, for example `MODALITY`.

    Raises:
        NotFound: If there is no such plug-in or it does not define the attribute.
    """
    if package == "modalities" and "@" in name:
        word, _, place = name.partition("@")
        found = load(package, word, attribute)
        return dataclasses.replace(found, name=f"{found.name}@{place}", view=found.source)
    singular = {"BENCH": "benchmark"}.get(attribute, attribute.lower())
    for point in _points(f"mmclip.{package}"):
        if point.name == name:
            found = point.load()
            return getattr(found, attribute, found)
    if "." in name:
        target = name
    elif {name, name.replace("_", "-"), name.replace("-", "_")} & set(names(package)):
        target = f"mmclip.{package}.{name.replace('-', '_')}"
    else:
        raise NotFound(
            f"there is no {singular} '{name}'; {nearest(name, names(package))}",
            f"a {singular} of your own is named with a dot: my_package.my_{singular}",
        )
    if "." in name:
        _outside(target)
    try:
        module = importlib.import_module(target)
    except ModuleNotFoundError as error:
        if error.name and target.startswith(error.name):
            raise NotFound(
                f"the module '{target}' cannot be imported",
                f"put it on PYTHONPATH, or choose one of: {', '.join(names(package))}",
            ) from error
        raise
    try:
        return getattr(module, attribute)
    except AttributeError:
        raise NotFound(
            f"'{target}' does not define {attribute}", "see docs/extending.md for the contract"
        ) from None


def _outside(target: str) -> None:
    """Refuse a module that lies in an artefact: the names in a stranger's files are not trusted.

    Raises:
        IntegrityError: If it does. Nothing was imported from there.
    """
    parts = target.split(".")
    for last in range(1, len(parts) + 1):
        try:
            spec = find_spec(".".join(parts[:last]))
        except (ImportError, ValueError):
            return  # the import itself will say so
        if spec is None:
            return
        places = [spec.origin or "", *(spec.submodule_search_locations or ())]
        for place in (Path(p) for p in places):
            for folder in (place, *place.parents):
                file = folder / paths.MANIFEST
                if file.is_file() and b'"fingerprint"' in file.read_bytes():
                    raise IntegrityError(
                        f"'{target}' lies in the artefact {folder}, which is data and is not run",
                        "install your plug-in outside the workspace",
                    )
