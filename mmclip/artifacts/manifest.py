"""The manifest of an artefact: what it says of itself, how it is sealed, read and verified."""

import functools
import json
import logging
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import (
    Any,
    Concatenate,
    Literal,
    NotRequired,
    ParamSpec,
    TypedDict,
    TypeVar,
    get_args,
    get_origin,
    is_typeddict,
)

from mmclip import __version__
from mmclip.artifacts import environment, paths
from mmclip.artifacts.disk import sync, write_atomic
from mmclip.artifacts.sums import canonical, sha256, sum_fits, summed
from mmclip.config import Json
from mmclip.errors import IntegrityError, MmclipError, NotFound, hidden

LOG = logging.getLogger("mmclip")

P = ParamSpec("P")
R = TypeVar("R")
FORMAT_VERSION = 1
Kind = Literal[
    "raw",
    "data",
    "run",
    "decoder",
    "adapter",
    "encoder",
    "vectors",
    "index",
    "generated",
    "head",
    "map",
    "report",
]
SHA256 = re.compile("[0-9a-f]{64}")
KINDS: tuple[Kind, ...] = get_args(Kind)


class FileEntry(TypedDict):
    """What the manifest says of one file."""

    sha256: str
    bytes: int


class Reference(TypedDict):
    """How a child names the artefact it was made from."""

    kind: str
    name: str
    fingerprint: str


class SurveyEntry(TypedDict):
    """A survey whose data are in an artefact; `citations` are keys of its references.

    `ids` is the release of Gaia that its source_ids are of, where that is not DR3.
    """

    name: str
    release: NotRequired[str]
    title: NotRequired[str]
    citations: NotRequired[list[str]]
    labels_from: NotRequired[Mapping[str, Sequence[str]]]
    ids: NotRequired[str]


@dataclass(frozen=True)
class Manifest:
    """What an artefact says of itself; see docs/formats.md."""

    kind: str
    fingerprint: str
    files: dict[str, FileEntry]
    config: Json
    parents: list[Reference]
    rows: dict[str, int]
    surveys: list[SurveyEntry]
    provenance: dict[str, str]
    command: str
    seed: int | None
    created: str
    mmclip_version: str
    format_version: int
    notes: Json = field(default_factory=dict)
    sum: str = ""  # SHA-256 of all the rest; manifests of older versions have none


@dataclass(frozen=True)
class Artifact:
    """An artefact on disk: where it is and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def reference(self) -> Reference:
        """How a child names this artefact as its parent."""
        return {
            "kind": self.manifest.kind,
            "name": self.path.name,
            "fingerprint": self.manifest.fingerprint,
        }


def modelled(provenance: Mapping[str, str]) -> list[str]:
    """Names of the views that were computed and not observed."""
    return sorted(name for name, how in provenance.items() if how == "modelled")


def _files(path: Path) -> list[Path]:
    found = (p for p in path.rglob("*") if p.is_file() or p.is_symlink())
    return sorted(p for p in found if p.name != paths.MANIFEST)


def seal(
    path: Path,
    kind: str,
    *,
    config: Json,
    parents: list[Reference],
    rows: dict[str, int],
    surveys: list[SurveyEntry],
    provenance: dict[str, str],
    seed: int | None,
    notes: Json | None = None,
) -> Artifact:
    """Write the manifest over the files now in `path`.

    The fingerprint is the SHA-256 of what determines the content: kind, format, configuration,
    parents and file sums; not of the time or the place.
    """
    config = _without_secrets(config)
    files: dict[str, FileEntry] = {}
    for file in _files(path):
        sync(file)
        name = file.relative_to(path).as_posix()
        files[name] = {"sha256": sha256(file), "bytes": file.stat().st_size}
    identity = {
        "kind": kind,
        "format_version": FORMAT_VERSION,
        "config": config,
        "parents": parents,
        "files": files,
    }
    made = {
        **identity,
        "fingerprint": canonical(identity),
        "mmclip_version": __version__,
        "command": hidden(shlex.join(["mmclip", *sys.argv[1:]])),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
        "surveys": surveys,
        "provenance": provenance,
        "seed": seed,
        "notes": _without_secrets(notes or {}) | {"environment": environment.now()},
    }
    body = summed(made)
    write_atomic(path / paths.MANIFEST, json.dumps(body, indent=2, sort_keys=True).encode())
    sync(path)
    LOG.debug("made %s, fingerprint %s", kind, made["fingerprint"][:12])
    return Artifact(path, _parse(path, body))


def _without_secrets(value: Any) -> Any:
    """A JSON value without the passwords and tokens of the URLs in it."""
    if isinstance(value, str):
        return hidden(value)
    if isinstance(value, dict):
        return {k: _without_secrets(v) for k, v in value.items()}
    return [_without_secrets(v) for v in value] if isinstance(value, list | tuple) else value


def _of_this_version(path: Path, body: Json) -> None:
    """Refuse what another version of the format wrote, by name."""
    version, writer = body["format_version"], body.get("mmclip_version", "unknown")
    unknown = sorted(set(body) - {f.name for f in fields(Manifest)})
    if version != FORMAT_VERSION or type(version) is not int:
        raise IntegrityError(
            f"{path} has format version {version}; this mmclip reads {FORMAT_VERSION}",
            "make it again with this version, or install the version named in its manifest "
            f"({writer})",
        )
    if unknown:
        raise IntegrityError(
            f"{path} was written by mmclip {writer}: this mmclip, {__version__}, does not know "
            f"'{unknown[0]}' in its manifest",
            f"install mmclip {writer}",
        )


def _parse(path: Path, body: Json) -> Manifest:
    file = path / paths.MANIFEST
    try:
        made = Manifest(**body)
    except TypeError as error:
        raise IntegrityError(f"{file} is not a manifest of mmclip: {error}") from error
    wrong = [f.name for f in fields(made) if not _is_of(getattr(made, f.name), f.type)]
    if wrong:
        raise IntegrityError(f"{file}: '{wrong[0]}' is not of its type", "")
    if absurd := _absurd(made):
        raise IntegrityError(f"{file}: {absurd} cannot be", "make the artefact again")
    for name in made.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise IntegrityError(f"{file} names the file '{name}', which leads out of it")
    return made


def _whole(value: Any, below: int = 1 << 63) -> bool:
    return type(value) is int and 0 <= value < below


def _absurd(made: Manifest) -> str:
    """The first value of the right kind that cannot be, with its name; empty if there is none."""
    if made.kind not in KINDS:
        return f"the kind '{str(made.kind)[:40]}'"
    if made.seed is not None and not _whole(made.seed, 1 << 32):
        return f"the seed {made.seed}"
    for name, entry in made.files.items():
        if not _whole(entry["bytes"]):
            return f"{str(entry['bytes'])[:40]} bytes of '{name}'"
        if not (isinstance(entry["sha256"], str) and SHA256.fullmatch(entry["sha256"])):
            return f"the SHA-256 of '{name}', '{str(entry['sha256'])[:80]}',"
    for view, rows in made.rows.items():
        if not _whole(rows):
            return f"{str(rows)[:40]} rows of '{view}'"
    for view, how in made.provenance.items():
        if not isinstance(how, str):
            return f"'{str(how)[:40]}' as the provenance of '{view}'"
    for parent in made.parents:
        if not all(isinstance(parent[k], str) for k in ("kind", "name", "fingerprint")):
            return f"the parent {str(parent)[:80]}"
    for survey in made.surveys:
        keys = survey.get("citations", [])
        if not (isinstance(survey["name"], str) and isinstance(keys, list)
                and all(isinstance(k, str) for k in keys)):  # fmt: skip
            return f"the survey {str(survey)[:80]}"
    return ""


def _is_of(value: Any, kind: Any) -> bool:
    """True if a JSON value is what the annotation of a manifest's field says."""
    element: Any = get_args(kind)[-1] if get_origin(kind) in (list, dict) else None
    if is_typeddict(element):
        each = value.values() if isinstance(value, dict) else value
        return isinstance(value, get_origin(kind)) and all(
            isinstance(e, dict) and element.__required_keys__ <= set(e) for e in each
        )
    return isinstance(value, get_origin(kind) if get_origin(kind) is dict else kind)


def read(path: Path) -> Artifact:
    """Open an artefact by its manifest; the files are not read (see `verify`).

    Raises:
        NotFound: If there is no artefact at `path`.
        IntegrityError: If the manifest cannot be read or its fingerprint does not fit it.
    """
    file = path / paths.MANIFEST
    try:
        body = json.loads(file.read_bytes())
        _of_this_version(path, body)
        identity = {k: body[k] for k in ("kind", "format_version", "config", "parents", "files")}
    except FileNotFoundError:
        raise NotFound(
            f"{path} is not an artefact of mmclip: it has no {paths.MANIFEST}",
            "mmclip info   (lists what the workspace holds)",
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{file} is damaged: {type(error).__name__}: {error}", f"mmclip verify {path}"
        ) from error
    manifest = _parse(path, body)
    if canonical(identity) != manifest.fingerprint:
        raise IntegrityError(
            f"{file} was changed after it was written: its fingerprint does not fit",
            f"make the artefact again with: {manifest.command}",
        )
    if not sum_fits(body):
        raise IntegrityError(
            f"{file} was changed after it was written: its sum does not fit",
            "make the artefact again",
        )
    LOG.debug("%s %s, fingerprint %s", manifest.kind, path, manifest.fingerprint[:12])
    return Artifact(path, manifest)


def faults(artifact: Artifact) -> list[str]:
    """Every way in which the files differ from the manifest; empty when all is well."""
    found = []
    for name, entry in artifact.manifest.files.items():
        file = artifact.path / name
        if not file.resolve().is_relative_to(artifact.path.resolve()):
            found.append(f"{name}: leads out of the artefact")
        elif not file.is_file():
            found.append(f"{name}: missing")
        elif file.stat().st_size != entry["bytes"]:
            found.append(f"{name}: {file.stat().st_size} bytes instead of {entry['bytes']}")
        elif sha256(file) != entry["sha256"]:
            found.append(f"{name}: content changed (SHA-256 differs)")
    known = set(artifact.manifest.files)
    extra = (f.relative_to(artifact.path).as_posix() for f in _files(artifact.path))
    found.extend(f"{name}: not in the manifest" for name in extra if name not in known)
    return found


def verify(artifact: Artifact) -> Artifact:
    """The artefact itself if every file is as its manifest says.

    Raises:
        IntegrityError: Naming each file that is not.
    """
    found = faults(artifact)
    if found:
        raise IntegrityError(
            f"{artifact.path} is damaged: " + "; ".join(found),
            f"remove it and make it again with: {artifact.manifest.command}",
        )
    return artifact


def checked(artifact: Artifact, name: str) -> Path:
    """Path of one file of an artefact after its size and SHA-256 were found right."""
    entry = artifact.manifest.files.get(name)
    file = artifact.path / name
    if entry is None or not file.is_file():
        check_unreplaced(artifact)
        raise IntegrityError(
            f"{artifact.path} has no file {name}",
            f"make it again with: {artifact.manifest.command}",
        )
    if not file.resolve().is_relative_to(artifact.path.resolve()):
        raise IntegrityError(f"{file} leads out of the artefact", "put the file itself there")
    if file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
        check_unreplaced(artifact)
        raise IntegrityError(
            f"{file} is not what its manifest says (SHA-256 differs)",
            f"remove {artifact.path} and make it again with: {artifact.manifest.command}",
        )
    return file


def check_unreplaced(artifact: Artifact) -> Artifact:
    """The artefact itself if its place still holds it: what was read meanwhile is all of one piece.

    Raises:
        MmclipError: If another process replaced it.
    """
    try:
        now = json.loads((artifact.path / paths.MANIFEST).read_bytes())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return artifact
    if now != artifact.manifest.fingerprint:
        raise MmclipError(
            f"another process replaced {artifact.path} while it was read", "repeat the command"
        )
    return artifact


def json_of(artifact: Artifact, name: str) -> Json:
    """A JSON object of an artefact, after its sum was found right.

    Raises:
        IntegrityError: If the sum is wrong, or it is no JSON object.
    """
    file = checked(artifact, name)
    try:
        body = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{file} is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise IntegrityError(f"{file} is not a JSON object")
    return body


def opener(
    read: Callable[Concatenate[Artifact, P], R],
) -> Callable[Concatenate[Artifact, P], R]:
    """Decorate what opens an artefact: content that nobody expects becomes one sentence.

    Where every sum is right and yet the content is not as expected, another version made the
    artefact, or somebody who means harm; whatever the reader raises is then an IntegrityError.
    """

    @functools.wraps(read)
    def reading(artifact: Artifact, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(artifact, *args, **kwargs)
        except (MmclipError, OSError):
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200]
            made = artifact.manifest
            raise IntegrityError(
                f"{artifact.path}, written by mmclip {made.mmclip_version}, is not as mmclip "
                f"{__version__} reads it ({type(error).__name__}: {text})",
                f"make it again with: {made.command}",
            ) from error

    return reading
