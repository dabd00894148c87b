"""Locks that a killed process lets go, and whether what it left behind may be removed.

A lock is one of the kernel's (flock). Where a file system has none (some NFS and Lustre), a second
file, `NAME.held`, is made with O_EXCL and touched while it is held; one that was not touched for
`STALE` seconds, or whose process is gone, is taken over.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import platform
import re
import secrets
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from mmclip.artifacts import paths

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # what flock says on some NFS and Lustre
BEAT, STALE = 10.0, 90.0  # s between two touches; without one for so long a lock is given up
POLL = 0.5  # s between two looks at a lock that is waited for
ABANDONED = 3600.0  # s after which unlocked leftovers of processes that cannot be seen are removed


@functools.cache
def machine() -> str:
    """Eight digits for the kernel and the PID namespace in which process numbers mean something."""
    told = platform.node()
    with contextlib.suppress(OSError):
        told += Path("/proc/sys/kernel/random/boot_id").read_text()
        told += str(Path("/proc/self/ns/pid").stat().st_ino)
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def temporary_prefix() -> str:
    """How the temporary names of this process begin."""
    return f"{paths.TEMPORARY}{_host()}+{machine()}-{os.getpid()}-"


def _host() -> str:
    return platform.node()[:64] or "host"


def alive(process: int) -> bool:
    """True for a process of this machine that has not ended."""
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def abandoned(left: Path) -> bool:
    """True for a temporary name of this host whose process has ended.

    A process of another PID namespace (a container) or of an earlier start of the machine cannot be
    seen: its work is left alone while it is locked, and for `ABANDONED` seconds in any case.
    """
    host = re.escape(f"{paths.TEMPORARY}{_host()}+")
    whose = re.fullmatch(rf"{host}([0-9a-f]{{8}})-([0-9]{{1,10}})-.*", left.name)
    if whose is None:
        return False
    if whose[1] == machine():
        return not alive(int(whose[2]))
    with contextlib.suppress(OSError):
        if time.time() - left.stat().st_mtime > ABANDONED:
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            finally:
                os.close(handle)
    return False


@contextlib.contextmanager
def marked(path: Path) -> Iterator[None]:
    """Hold a temporary directory, so that a process which cannot see this one leaves it alone."""
    handle = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def lock(file: IO[Any], wait: bool) -> contextlib.AbstractContextManager[Any]:
    """Lock an open file until what is returned is left.

    Raises:
        BlockingIOError: If another process holds it and it is not waited for.
        OSError: If the disk is bad.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        return _Beating(Path(file.name), wait)
    return contextlib.nullcontext()  # closing the file lets go


class _Beating:
    """`NAME.held`, made by this process alone and touched until the block ends."""

    def __init__(self, path: Path, wait: bool) -> None:
        self.path = path.with_name(path.name + paths.HELD)
        self.said = f"{machine()} {os.getpid()} {secrets.token_hex(8)}"
        while not self._made():
            if not self._stale() and not wait:
                raise BlockingIOError(errno.EAGAIN, "held by another process", str(self.path))
            time.sleep(POLL if wait else 0)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._mine():
            with contextlib.suppress(OSError):
                self.path.unlink()

    def _made(self) -> bool:
        try:
            handle = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            return False
        try:
            os.write(handle, self.said.encode())
        finally:
            os.close(handle)
        return True

    def _said(self) -> str:
        return self.path.read_text(errors="replace")  # of a damaged one, what is not ours

    def _mine(self) -> bool:
        with contextlib.suppress(OSError):
            return self._said() == self.said
        return False

    def _beat(self) -> None:
        while not self._over.wait(BEAT) and self._mine():
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _stale(self) -> bool:
        """True if the lock was taken away from a holder that is gone."""
        try:
            before, said = self.path.stat(), self._said().split()
        except OSError:
            return True  # it has just been given back
        if len(said) == 3 and said[0] == machine() and said[1].isdecimal():
            gone = not alive(int(said[1]))
        else:
            gone = self._now() - before.st_mtime > STALE
        if not gone:
            return False
        away = self.path.with_name(f"{temporary_prefix()}{secrets.token_hex(4)}")
        with contextlib.suppress(OSError):
            self.path.rename(away)  # of several that try, one moves it
            if not os.path.samestat(before, away.stat()):
                os.link(away, self.path)  # another one's new lock was moved: back with it
            away.unlink()
        return True

    def _now(self) -> float:
        """The time by the clock of the file system, which need not be that of this machine."""
        probe = self.path.with_name(f"{temporary_prefix()}{secrets.token_hex(4)}")
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)
