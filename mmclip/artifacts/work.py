"""Unfinished work: a directory held by one process, kept until what it is for is whole."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmclip.artifacts import locks, paths
from mmclip.artifacts.disk import remove, unwritable
from mmclip.artifacts.sums import mark
from mmclip.errors import MmclipError


def unfinished(final: Path, identity: Any) -> Path:
    """Directory of unfinished work beside the `final` one; see `mark` and `locked`."""
    return final.parent / paths.partial(mark(identity))


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
            if not any(
                p.is_file() and p.name not in (paths.LOCK, paths.LOCK + paths.HELD)
                for p in folder.rglob("*")
            ):
                discard(folder)
            raise
        discard(folder)


def _hold(folder: Path, what: str) -> contextlib.ExitStack:
    while True:
        with contextlib.ExitStack() as held:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                lock = held.enter_context((folder / paths.LOCK).open("w"))
                held.enter_context(locks.lock(lock, wait=False))
                if os.path.samestat(os.fstat(lock.fileno()), (folder / paths.LOCK).stat()):
                    return held.pop_all()
            except BlockingIOError:
                raise MmclipError(
                    f"the same {what} is running in another process", "wait for it to end"
                ) from None
            except FileNotFoundError:
                continue  # the process that held it has just removed it
            except OSError as error:
                raise unwritable(folder.parent, error) from error


def discard(folder: Path) -> None:
    """Remove a directory of work; under another name first, so that no half of it is taken up."""
    away = folder.with_name(f"{locks.temporary_prefix()}{folder.name}")
    with contextlib.suppress(OSError):
        away.mkdir()
        (away / "work").mkdir()  # deeper than what `sweep` puts back
        os.replace(folder, away / "work" / "old")
    remove(away)


def sweep(folder: Path) -> None:
    """Remove what killed processes of this machine left in `folder`, and put back what they moved.

    That is: temporary names, and the unfinished work of an artefact that was finished after all.
    """
    for left in folder.glob(f"{paths.TEMPORARY}*"):
        if locks.abandoned(left):
            for kept in left.glob(f"*/{paths.MANIFEST}"):
                if not (folder / kept.parent.name).exists():
                    os.replace(kept.parent, folder / kept.parent.name)
            remove(left)
    for done in folder.glob(f".part*/{paths.DONE}"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            name, fingerprint = json.loads(done.read_bytes())
            body = json.loads((folder / name / paths.MANIFEST).read_bytes())
            if body["fingerprint"] == fingerprint:
                with contextlib.suppress(MmclipError), locked(done.parent, "work"):
                    pass
