"""Artefacts: directories that are whole or absent, under a manifest of SHA-256 sums.

An artefact is written under a temporary name beside its place, `manifest.json` last, flushed to
disk, then renamed. A reader checks the manifest before it believes a file.
"""

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from mmclip import __version__, environment
from mmclip.errors import IntegrityError, MmclipError, NotFound

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
    "index",
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


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name, fsync, then rename."""
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` when the block ends well, and vanishes if not."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=_prefix())
    try:
        with os.fdopen(handle, "w+b") as file:
            os.fchmod(handle, 0o666 & ~_umask())
            yield file
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
    body = {
        **identity,
        "fingerprint": sha256_bytes(canonical),
        "mmclip_version": __version__,
        "command": shlex.join(["mmclip", *sys.argv[1:]]),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
        "surveys": surveys,
        "provenance": provenance,
        "seed": seed,
        "notes": (notes or {}) | {"environment": environment.now()},
    }
    write_atomic(path / MANIFEST, json.dumps(body, indent=2, sort_keys=True).encode())
    _sync(path)
    return Artifact(path, _parse(path, body))


def _of_this_version(path: Path, body: dict[str, Any]) -> None:
    """Refuse what another version of the format wrote, by name."""
    version, writer = body["format_version"], body.get("mmclip_version", "unknown")
    unknown = sorted(set(body) - {f.name for f in dataclasses.fields(Manifest)})
    if version != FORMAT_VERSION:
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


def _parse(path: Path, body: dict[str, Any]) -> Manifest:
    try:
        return Manifest(**body)
    except TypeError as error:
        raise IntegrityError(f"{path / MANIFEST} is not a manifest of mmclip: {error}") from error


def read(path: Path) -> Artifact:
    """Open an artefact by its manifest; the files are not read (see `verify`).

    Raises:
        NotFound: If there is no artefact at `path`.
        IntegrityError: If the manifest cannot be read or its fingerprint does not fit it.
    """
    file = path / MANIFEST
    try:
        body = json.loads(file.read_bytes())
        _of_this_version(path, body)
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
    if file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
        raise IntegrityError(
            f"{file} is not what its manifest says (SHA-256 differs)",
            f"remove {artifact.path} and make it again with: {artifact.manifest.command}",
        )
    return file


@contextlib.contextmanager
def understood(artifact: Artifact, name: str) -> Iterator[None]:
    """Within it a file of an artefact is taken apart; one of another make is refused by name.

    Raises:
        IntegrityError: If what is read lacks a key or has a value of another kind.
    """
    try:
        yield
    except MmclipError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        made = artifact.manifest
        raise IntegrityError(
            f"{name} of {artifact.path}, written by mmclip {made.mmclip_version}, is not as mmclip "
            f"{__version__} reads it ({type(error).__name__}: {error})",
            f"make it again with: {made.command}",
        ) from error


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
