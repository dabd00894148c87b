"""Directories and files that appear under their name only when they are whole."""

import contextlib
import ctypes
import errno
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mmclip.artifacts import paths
from mmclip.artifacts.disk import (
    remove,
    sync,
    umask,
    unwritable,
    write_atomic,
)
from mmclip.artifacts.locks import marked, temporary_prefix
from mmclip.artifacts.work import sweep
from mmclip.errors import MmclipError


def check_free(final: Path, replace: bool) -> None:
    """Refuse a place that is taken.

    Raises:
        MmclipError: If `final` exists and may not be replaced, or is no artefact.
    """
    if final.exists() and not replace:
        sweep(final.parent)
        raise MmclipError(f"{final} exists already", "choose another --name, or add --force")
    if final.exists() and not (final / paths.MANIFEST).is_file() and any(final.iterdir()):
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
    check_free(final, replace)
    with assembling(final, replace=replace) as temporary:
        yield temporary
        if not (temporary / paths.MANIFEST).is_file():
            raise AssertionError("an artefact was built without its manifest")
        if work is not None:
            named = [
                final.name,
                json.loads((temporary / paths.MANIFEST).read_bytes())["fingerprint"],
            ]
            write_atomic(work / paths.DONE, json.dumps(named).encode())


@contextlib.contextmanager
def assembling(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """As `building`, for a directory without a manifest.

    Raises:
        MmclipError: If `final` cannot be written, or was made meanwhile and may not be replaced.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        with scratch(final.parent) as temporary:
            yield temporary
            _install(temporary, final, replace)
    except OSError as error:
        if isinstance(error, MmclipError):
            raise
        raise unwritable(final, error) from error


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A temporary directory in `folder`, gone when the block ends; what a kill left is swept."""
    sweep(folder)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=temporary_prefix()))
    try:
        temporary.chmod(0o777 & ~umask())
        with marked(temporary):
            yield temporary
    finally:
        remove(temporary)


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
        old = Path(tempfile.mkdtemp(dir=final.parent, prefix=temporary_prefix()))
        with contextlib.suppress(FileNotFoundError):
            os.replace(final, old / final.name)
        try:
            os.replace(temporary, final)
            break
        except OSError:
            with contextlib.suppress(OSError):
                os.replace(old / final.name, final)
        finally:
            remove(old)
    with contextlib.suppress(OSError):  # it is there, whether or not the disk confirms it
        sync(final.parent)


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


def _check_no_part(path: Path) -> None:
    """Refuse to write over what a manifest names: an artefact is never changed."""
    place = path.resolve()
    for folder in place.parents:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
            named = json.loads((folder / paths.MANIFEST).read_bytes())["files"]
            name = place.relative_to(folder).as_posix()
            if name in named or name == paths.MANIFEST:
                raise MmclipError(
                    f"{path} is a file of the artefact {folder}, which is never changed",
                    "choose another place for the file",
                )


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that becomes it when the block ends well.

    Raises:
        MmclipError: If it cannot be written, or is a file of an artefact.
    """
    _check_no_part(path)
    try:
        sweep(path.parent)
        part = path.with_name(f"{temporary_prefix()}{path.name[-30:]}")
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
