"""Files written whole or not at all, and what the user is told when a disk refuses."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mmclip.artifacts.locks import temporary_prefix
from mmclip.errors import MmclipError

FULL = (errno.ENOSPC, errno.EDQUOT)
DISK = (*FULL, errno.EFBIG, errno.EIO, errno.EROFS, errno.ENODEV, errno.ESTALE)


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary name, fsync, then rename."""
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write to that becomes `path` when the block ends well, and vanishes if not."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=temporary_prefix())
    try:
        with os.fdopen(handle, "w+b") as file:
            os.fchmod(handle, 0o666 & ~umask())
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
    """The file under a second name too, without a copy where the file system allows that.

    Directories of `target` are made; a file that is there is replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(file, target)
    except OSError:
        shutil.copyfile(file, target)


def umask() -> int:
    """The file mode bits that this process masks."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def sync(path: Path) -> None:
    """Flush a file or a directory to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file or a directory, as far as it can be."""
    shutil.rmtree(path, ignore_errors=True)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


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
