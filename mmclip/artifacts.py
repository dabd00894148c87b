"""Artefacts: directories that are whole or absent, under a manifest of SHA-256 sums.

An artefact is written under a temporary name beside its place, `manifest.json` last, flushed to
disk, then renamed. A reader checks the manifest before it believes a file.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar, get_origin

from mmclip import __version__
from mmclip.errors import IntegrityError, MmclipError, NotFound, hidden

P = ParamSpec("P")
R = TypeVar("R")
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
KINDS = (
    "raw",
    "data",
    "run",
    "decoder",
    "adapter",
    "encoder",
    "vectors",
    "generated",
    "map",
    "report",
)


@dataclass(frozen=True)
class Manifest:
    """What an artefact says of itself; see docs/formats.md."""

    kind: str
    fingerprint: str
    files: dict[str, dict[str, Any]]
    config: dict[str, Any]
    parents: list[dict[str, str]]
    rows: dict[str, int]
    surveys: list[dict[str, Any]]
    provenance: dict[str, str]
    command: str
    seed: int | None
    created: str
    mmclip_version: str
    format_version: int
    notes: dict[str, Any] = field(default_factory=dict)
    sum: str = ""  # SHA-256 of all the rest; manifests of older versions have none


@dataclass(frozen=True)
class Artifact:
    """An artefact on disk: where it is and its manifest."""

    path: Path
    manifest: Manifest

    @property
    def reference(self) -> dict[str, str]:
        """How a child names this artefact as its parent."""
        return {
            "kind": self.manifest.kind,
            "name": self.path.name,
            "fingerprint": self.manifest.fingerprint,
        }


def modelled(provenance: Mapping[str, str]) -> list[str]:
    """Names of the views that were computed and not observed."""
    return sorted(name for name, how in provenance.items() if how == "modelled")


def sha256(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(data: bytes) -> str:
    """SHA-256 of bytes, as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def summed(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of JSON values with `sum`, the SHA-256 of all the rest of it."""
    plain: dict[str, Any] = json.loads(json.dumps({k: v for k, v in body.items() if k != "sum"}))
    canonical = json.dumps(plain, sort_keys=True, separators=(",", ":")).encode()
    return plain | {"sum": sha256_bytes(canonical)}


def sound(body: Any) -> bool:
    """True for a JSON object whose `sum` fits it; one written before there were sums has none."""
    return isinstance(body, dict) and body.get("sum") in (None, "", summed(body)["sum"])


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name, fsync, then rename."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o666 & ~_umask())
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        raise


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(path: Path) -> list[Path]:
    found = (p for p in path.rglob("*") if p.is_file() or p.is_symlink())
    return sorted(p for p in found if p.name != MANIFEST)


def seal(
    path: Path,
    kind: str,
    *,
    config: dict[str, Any],
    parents: list[dict[str, str]],
    rows: dict[str, int],
    surveys: list[dict[str, Any]],
    provenance: dict[str, str],
    seed: int | None,
    notes: dict[str, Any] | None = None,
) -> Artifact:
    """Write the manifest over the files now in `path`.

    The fingerprint is the SHA-256 of what determines the content: kind, format, configuration,
    parents and file sums; not of the time or the place.
    """
    files = {}
    for file in _files(path):
        _sync(file)
        name = file.relative_to(path).as_posix()
        files[name] = {"sha256": sha256(file), "bytes": file.stat().st_size}
    identity = {
        "kind": kind,
        "format_version": FORMAT_VERSION,
        "config": config,
        "parents": parents,
        "files": files,
    }
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()
    made = {
        **identity,
        "fingerprint": sha256_bytes(canonical),
        "mmclip_version": __version__,
        "command": hidden(" ".join(["mmclip", *sys.argv[1:]])),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
        "surveys": surveys,
        "provenance": provenance,
        "seed": seed,
        "notes": notes or {},
    }
    body = summed(made)
    write_atomic(path / MANIFEST, json.dumps(body, indent=2, sort_keys=True).encode())
    _sync(path)
    return Artifact(path, _parse(path, body))


def _parse(path: Path, body: dict[str, Any]) -> Manifest:
    version = body.get("format_version")
    if version != FORMAT_VERSION:
        raise IntegrityError(
            f"{path} has format version {version}; this mmclip reads {FORMAT_VERSION}",
            "make it again with this version, or install the version named in its manifest "
            f"({body.get('mmclip_version', 'unknown')})",
        )
    try:
        made = Manifest(**body)
    except TypeError as error:
        raise IntegrityError(f"{path / MANIFEST} is not a manifest of mmclip: {error}") from error
    wrong = [f.name for f in fields(made) if not _is_of(getattr(made, f.name), f.type)]
    if wrong:
        raise IntegrityError(f"{path / MANIFEST}: '{wrong[0]}' is not of its type", "")
    for name in made.files:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise IntegrityError(
                f"{path / MANIFEST} names the file '{name}', which leads out of it"
            )
    return made


def _is_of(value: Any, kind: Any) -> bool:
    """True if a JSON value is what the annotation of a manifest's field says."""
    if get_origin(kind) is list:
        needed = {"kind", "name", "fingerprint"} if kind == list[dict[str, str]] else {"name"}
        return isinstance(value, list) and all(
            isinstance(e, dict) and needed <= set(e) for e in value
        )
    if kind == dict[str, dict[str, Any]]:
        return isinstance(value, dict) and all(
            isinstance(e, dict) and {"sha256", "bytes"} <= set(e) for e in value.values()
        )
    return isinstance(value, get_origin(kind) if get_origin(kind) is dict else kind)


def read(path: Path) -> Artifact:
    """Open an artefact by its manifest; the files are not read (see `verify`).

    Raises:
        NotFound: If there is no artefact at `path`.
        IntegrityError: If the manifest cannot be read or its fingerprint does not fit it.
    """
    file = path / MANIFEST
    try:
        body = json.loads(file.read_bytes())
        identity = {k: body[k] for k in ("kind", "format_version", "config", "parents", "files")}
    except FileNotFoundError:
        raise NotFound(
            f"{path} is not an artefact of mmclip: it has no {MANIFEST}",
            "mmclip info lists what the workspace holds",
        ) from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError(
            f"{file} is damaged: {type(error).__name__}: {error}", f"mmclip verify {path}"
        ) from error
    manifest = _parse(path, body)
    canonical = json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()
    if sha256_bytes(canonical) != manifest.fingerprint:
        raise IntegrityError(
            f"{file} was changed after it was written: its fingerprint does not fit",
            f"make the artefact again with: {manifest.command}",
        )
    if not sound(body):
        raise IntegrityError(
            f"{file} was changed after it was written: its sum does not fit",
            "make the artefact again",
        )
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
        raise IntegrityError(
            f"{artifact.path} has no file {name}",
            f"make it again with: {artifact.manifest.command}",
        )
    if not file.resolve().is_relative_to(artifact.path.resolve()):
        raise IntegrityError(f"{file} leads out of the artefact", "put the file itself there")
    if file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
        raise IntegrityError(
            f"{file} is not what its manifest says (SHA-256 differs)",
            f"remove {artifact.path} and make it again with: {artifact.manifest.command}",
        )
    return file


def json_of(artifact: Artifact, name: str) -> dict[str, Any]:
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

    Where every sum is right and yet the content is none of mmclip's, something else made the
    artefact, or somebody who means harm; whatever the reader raises is then an IntegrityError.
    """

    @functools.wraps(read)
    def reading(artifact: Artifact, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return read(artifact, *args, **kwargs)
        except (MmclipError, OSError):
            raise
        except Exception as error:
            text = " ".join(str(error).split())[:200] or type(error).__name__
            raise IntegrityError(
                f"{artifact.path} holds what this mmclip did not write: {text}",
                f"make it again with: {artifact.manifest.command}",
            ) from error

    return reading


def _prefix() -> str:
    return f".tmp-{platform.node() or 'host'}-{os.getpid()}-"


def sweep(folder: Path) -> None:
    """Remove what a killed process of this machine left under a temporary name in `folder`."""
    for left in folder.glob(f".tmp-{platform.node() or 'host'}-*"):
        owner = left.name.removeprefix(f".tmp-{platform.node() or 'host'}-").split("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            shutil.rmtree(left, ignore_errors=True)
            left.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextlib.contextmanager
def building(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """A temporary directory that becomes `final` when the block ends well, and vanishes if not.

    Raises:
        MmclipError: If `final` exists and may not be replaced, or cannot be written.
    """
    if final.exists() and not replace:
        raise MmclipError(f"{final} exists already", "choose another --name, or add --force")
    if final.exists() and not (final / MANIFEST).is_file() and any(final.iterdir()):
        raise MmclipError(
            f"{final} is not an artefact of mmclip, so it is not replaced", "choose another --name"
        )
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        sweep(final.parent)
        temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=_prefix()))
    except OSError as error:
        raise unwritable(final, error) from error
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        if not (temporary / MANIFEST).is_file():
            raise AssertionError("an artefact was built without its manifest")
        if final.exists():
            old = Path(tempfile.mkdtemp(dir=final.parent, prefix=_prefix()))
            os.replace(final, old / "old")
            os.replace(temporary, final)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(temporary, final)
        _sync(final.parent)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, MmclipError):
            raise
        raise unwritable(final, error) from error
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """A directory of unfinished work, made if need be and held by this process alone.

    Raises:
        MmclipError: If another process holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise unwritable(folder.parent, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MmclipError(
                f"the same {what} is running in another process", "wait for it to end"
            ) from None
        yield


def unwritable(path: Path, error: OSError) -> MmclipError:
    """The user's words for a directory that cannot be written."""
    if error.errno == errno.ENOSPC:
        return MmclipError(f"the disk is full: {path} was not written", "free space, then repeat")
    return MmclipError(
        f"{path} cannot be written: {error.strerror or error}",
        "choose another place with --workspace DIR",
    )
