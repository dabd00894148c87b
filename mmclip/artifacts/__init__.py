"""Artefacts: directories that are whole or absent, under a manifest of SHA-256 sums.

An artefact is written under a temporary name beside its place, `manifest.json` last, flushed to
disk, then renamed. A reader checks the manifest before it believes a file.
"""

import contextlib
import ctypes
import errno
import fcntl
import functools
import hashlib
import json
import os
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Concatenate, ParamSpec, TypeVar, get_origin

from mmclip import __version__
from mmclip.artifacts import environment
from mmclip.errors import IntegrityError, MmclipError, NotFound, hidden

P = ParamSpec("P")
R = TypeVar("R")
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
LOCK, DONE = "lock", "done.json"  # of a directory of unfinished work
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


def mark(identity: Any) -> str:
    """16 digits that name work by what determines its result, given as JSON values."""
    return sha256_bytes(json.dumps(identity, sort_keys=True).encode())[:16]


def unfinished(final: Path, identity: Any) -> Path:
    """Directory of unfinished work beside the `final` one; see `mark` and `locked`."""
    return final.parent / f".partial-{mark(identity)}"


def _canonical(body: Any) -> str:
    """SHA-256 of JSON values, whatever the order of their keys."""
    return sha256_bytes(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


def summed(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body of JSON values with `sum`, the SHA-256 of all the rest of it."""
    plain: dict[str, Any] = json.loads(json.dumps({k: v for k, v in body.items() if k != "sum"}))
    return plain | {"sum": _canonical(plain)}


def sound(body: Any) -> bool:
    """True for a JSON object whose `sum` fits it; one written before there were sums has none."""
    return isinstance(body, dict) and body.get("sum") in (None, "", summed(body)["sum"])


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
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        if isinstance(error, OSError) and error.filename in (None, name):
            error.filename = str(path)  # a full disk is met by the write, which knows no name
        raise


def link(file: Path, target: Path) -> None:
    """The file under a second name too, without a copy where the file system allows that."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


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
    made = {
        **identity,
        "fingerprint": _canonical(identity),
        "mmclip_version": __version__,
        "command": hidden(shlex.join(["mmclip", *sys.argv[1:]])),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": rows,
        "surveys": surveys,
        "provenance": provenance,
        "seed": seed,
        "notes": (notes or {}) | {"environment": environment.now()},
    }
    body = summed(made)
    write_atomic(path / MANIFEST, json.dumps(body, indent=2, sort_keys=True).encode())
    _sync(path)
    return Artifact(path, _parse(path, body))


def _of_this_version(path: Path, body: dict[str, Any]) -> None:
    """Refuse what another version of the format wrote, by name."""
    version, writer = body["format_version"], body.get("mmclip_version", "unknown")
    unknown = sorted(set(body) - {f.name for f in fields(Manifest)})
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
    if _canonical(identity) != manifest.fingerprint:
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
        still(artifact)
        raise IntegrityError(
            f"{artifact.path} has no file {name}",
            f"make it again with: {artifact.manifest.command}",
        )
    if not file.resolve().is_relative_to(artifact.path.resolve()):
        raise IntegrityError(f"{file} leads out of the artefact", "put the file itself there")
    if file.stat().st_size != entry["bytes"] or sha256(file) != entry["sha256"]:
        still(artifact)
        raise IntegrityError(
            f"{file} is not what its manifest says (SHA-256 differs)",
            f"remove {artifact.path} and make it again with: {artifact.manifest.command}",
        )
    return file


def still(artifact: Artifact) -> Artifact:
    """The artefact itself if its place still holds it: what was read meanwhile is all of one piece.

    Raises:
        MmclipError: If another process replaced it.
    """
    try:
        now = json.loads((artifact.path / MANIFEST).read_bytes())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return artifact
    if now != artifact.manifest.fingerprint:
        raise MmclipError(
            f"another process replaced {artifact.path} while it was read", "repeat the command"
        )
    return artifact


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


def _prefix() -> str:
    return f".tmp-{platform.node() or 'host'}-{os.getpid()}-"


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left in `folder`, and put back what they moved.

    That is: temporary names, and the unfinished work of an artefact that was finished after all.
    """
    for left in folder.glob(f".tmp-{platform.node() or 'host'}-*"):
        owner = left.name.removeprefix(f".tmp-{platform.node() or 'host'}-").split("-")[0]
        if owner.isdigit() and not _alive(int(owner)):
            for kept in left.glob(f"*/{MANIFEST}"):
                if not (folder / kept.parent.name).exists():
                    os.replace(kept.parent, folder / kept.parent.name)
            _remove(left)
    for done in folder.glob(f".part*/{DONE}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            name, fingerprint = json.loads(done.read_bytes())
            body = json.loads((folder / name / MANIFEST).read_bytes())
            if body["fingerprint"] == fingerprint:
                with contextlib.suppress(MmclipError), locked(done.parent, "work"):
                    pass


def _remove(path: Path) -> None:
    """Remove a file or a directory, as far as it can be."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def vacant(final: Path, replace: bool) -> None:
    """Refuse a place that is taken.

    Raises:
        MmclipError: If `final` exists and may not be replaced, or is no artefact.
    """
    if final.exists() and not replace:
        sweep(final.parent)
        raise MmclipError(f"{final} exists already", "choose another --name, or add --force")
    if final.exists() and not (final / MANIFEST).is_file() and any(final.iterdir()):
        raise MmclipError(
            f"{final} is not an artefact of mmclip, so it is not replaced", "choose another --name"
        )


@contextlib.contextmanager
def building(final: Path, *, replace: bool = False, work: Path | None = None) -> Iterator[Path]:
    """A temporary directory that becomes `final` when the block ends well, and vanishes if not.

    Args:
        final: The artefact's directory-to-be.
        replace: Whether another one there may be replaced.
        work: The directory of unfinished work that has then served its turn; see `locked`.

    Raises:
        MmclipError: If `final` exists and may not be replaced, or cannot be written.
    """
    vacant(final, replace)
    with assembling(final, replace=replace) as temporary:
        yield temporary
        if not (temporary / MANIFEST).is_file():
            raise AssertionError("an artefact was built without its manifest")
        if work is not None:
            named = [final.name, json.loads((temporary / MANIFEST).read_bytes())["fingerprint"]]
            write_atomic(work / DONE, json.dumps(named).encode())


@contextlib.contextmanager
def assembling(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """As `building`, for a directory without a manifest.

    Raises:
        MmclipError: If `final` cannot be written, or was made meanwhile and may not be replaced.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        sweep(final.parent)
        temporary = Path(tempfile.mkdtemp(dir=final.parent, prefix=_prefix()))
    except OSError as error:
        raise unwritable(final, error) from error
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        _install(temporary, final, replace)
    except OSError as error:
        if isinstance(error, MmclipError):
            raise
        raise unwritable(final, error) from error
    finally:
        _remove(temporary)


def _install(temporary: Path, final: Path, replace: bool) -> None:
    """Put a finished directory in its place; one that is there is exchanged for it in one step."""
    while True:
        try:
            os.replace(temporary, final)  # succeeds where nothing is, or an empty directory
            break
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        if not replace:
            raise MmclipError(
                f"{final} exists already: another process made it meanwhile",
                "choose another --name, or add --force",
            )
        if _exchange(temporary, final):
            break
        # Killed in between, the next command puts the old one back: see `sweep`.
        old = Path(tempfile.mkdtemp(dir=final.parent, prefix=_prefix()))
        with contextlib.suppress(FileNotFoundError):
            os.replace(final, old / final.name)
        try:
            os.replace(temporary, final)
            break
        except OSError:
            with contextlib.suppress(OSError):
                os.replace(old / final.name, final)
        finally:
            _remove(old)
    with contextlib.suppress(OSError):  # it is there, whether or not the disk confirms it
        _sync(final.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories so that neither name is ever absent; False where that is not offered.

    Source: renameat2(2), RENAME_EXCHANGE; Linux only, and not on every file system.
    """
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        swap = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(swap(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that becomes it when the block ends well.

    Raises:
        MmclipError: If it cannot be written.
    """
    try:
        sweep(path.parent)
        part = path.with_name(f"{_prefix()}{path.name}")
        try:
            yield part
            part.replace(path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
    except OSError as error:
        if isinstance(error, MmclipError):
            raise
        raise unwritable(path, error, "choose another place for the file") from error


@contextlib.contextmanager
def locked(folder: Path, what: str) -> Iterator[None]:
    """A directory of unfinished work, made if need be and held by this process alone.

    It vanishes when the block ends well; otherwise what is in it waits for the next time.

    Raises:
        MmclipError: If another process holds it, or it cannot be written.
    """
    lock = _hold(folder, what)
    with lock:
        try:
            yield
        except BaseException:
            if not any(p.is_file() and p.name != LOCK for p in folder.rglob("*")):
                _discard(folder)
            raise
        _discard(folder)


def _hold(folder: Path, what: str) -> IO[str]:
    while True:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = (folder / LOCK).open("w")
        except FileNotFoundError:
            continue  # the process that held it has just removed it
        except OSError as error:
            raise unwritable(folder.parent, error) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(lock.fileno()), (folder / LOCK).stat()):
                return lock
        except BlockingIOError:
            lock.close()
            raise MmclipError(
                f"the same {what} is running in another process", "wait for it to end"
            ) from None
        except FileNotFoundError:
            pass
        lock.close()


def _discard(folder: Path) -> None:
    """Remove a directory of work; under another name first, so that no half of it is taken up."""
    with contextlib.suppress(OSError):
        away = folder.with_name(f"{_prefix()}{folder.name}")
        os.replace(folder, away)
        _remove(away)


FULL = (errno.ENOSPC, errno.EDQUOT)
DISK = (*FULL, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENODEV, errno.ESTALE)


def unwritable(
    path: Path, error: OSError, hint: str = "choose another place with --workspace DIR"
) -> MmclipError:
    """The user's words for a file or directory that cannot be written (or read, on a bad disk)."""
    if error.errno in FULL:
        return MmclipError(f"the disk is full: {path} was not written", "free space, then repeat")
    reason = error.strerror or str(error)
    if error.errno == errno.EFBIG:
        return MmclipError(
            f"{path} cannot be written: {reason}", "raise the limit (ulimit -f), then repeat"
        )
    if error.errno == errno.EIO:
        return MmclipError(
            f"the disk failed at {error.filename or path}: {reason}",
            f"look after the disk, or {hint}; then repeat",
        )
    return MmclipError(f"{path} cannot be written: {reason}", hint)
