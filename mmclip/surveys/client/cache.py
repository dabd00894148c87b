"""A verified, content-addressed store of what services answered.

`objects/ab/abcd...` holds a body under its SHA-256; `index/KEY.json` says which request it
answered; `parts/` holds downloads under way. A body is believed only after its sum was found right.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mmclip import artifacts
from mmclip.artifacts import locks, owner, write_atomic
from mmclip.errors import hidden, nameless


@dataclass(frozen=True)
class Entry:
    """One stored answer; the URL is without credentials."""

    key: str
    service: str
    url: str
    sha256: str
    bytes: int
    fetched: str
    etag: str = ""


def default_root() -> Path:
    """Where downloads are kept; see `mmclip.artifacts.owner.cache_root`."""
    return owner.cache_root()


def redact(url: str) -> str:
    """A URL without user, password, and values of parameters that name a secret."""
    return hidden(url)


def key(method: str, url: str, body: Any) -> str:
    """The name of a request: a SHA-256 over method, URL without user and password, and body.

    Every parameter counts, whatever its name: `?key={id}` may well be the star that is asked for.
    What is secret is handed over apart, see `Client.download`.
    """
    text = json.dumps([method, nameless(url), body], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def place(root: Path, sha256: str) -> Path:
    """Where a body of this sum lies."""
    return root / "objects" / sha256[:2] / sha256


def find(root: Path, name: str) -> Path | None:
    """The verified body that answers a request; a damaged one is dropped."""
    entry = _read(root / "index" / f"{name}.json")
    if entry is None:
        return None
    body = place(root, entry.sha256)
    if body.is_file() and artifacts.sha256(body) == entry.sha256:
        return body
    body.unlink(missing_ok=True)
    (root / "index" / f"{name}.json").unlink(missing_ok=True)
    return None


def store(root: Path, part: Path, entry: Entry) -> Path:
    """Move a checked download to its place and index it; its URL is kept without secrets."""
    body = place(root, entry.sha256)
    body.parent.mkdir(parents=True, exist_ok=True)
    (root / "index").mkdir(parents=True, exist_ok=True)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, body)
    index(root, entry)
    return body


def index(root: Path, entry: Entry) -> None:
    """Note which request a stored body answers; its URL is kept without secrets."""
    about = asdict(entry) | {"url": redact(entry.url)}
    write_atomic(root / "index" / f"{entry.key}.json", json.dumps(artifacts.summed(about)).encode())


def drop(root: Path, name: str) -> None:
    """Forget one answer; its body goes when no other request has the same."""
    index = root / "index" / f"{name}.json"
    entry = _read(index)
    index.unlink(missing_ok=True)
    if entry is not None and all(e.sha256 != entry.sha256 for e in entries(root)):
        place(root, entry.sha256).unlink(missing_ok=True)


def _read(index: Path) -> Entry | None:
    """The entry in a file, or None if it is not what was written there."""
    try:
        body = json.loads(index.read_bytes())
        entry = Entry(**{k: v for k, v in body.items() if k != "sum"})
    except (FileNotFoundError, ValueError, TypeError, AttributeError, RecursionError):
        return None
    # The sum becomes a path: nothing but a sum may stand there.
    sums = isinstance(entry.sha256, str) and re.fullmatch("[0-9a-f]{64}", entry.sha256)
    if not sums or entry.key != index.stem or not artifacts.sum_fits(body):
        return None
    return entry


def entries(root: Path) -> Iterator[Entry]:
    """Every stored answer, in order of its key."""
    for index in sorted((root / "index").glob("*.json")):
        entry = _read(index)
        if entry is not None:
            yield entry


def faults(root: Path) -> list[str]:
    """Every stored answer whose body is gone or changed, and every body that nothing names."""
    found, named = [], set()
    for entry in entries(root):
        named.add(entry.sha256)
        body = place(root, entry.sha256)
        if not body.is_file():
            found.append(f"{entry.key[:12]} {entry.url}: its body is gone")
        elif artifacts.sha256(body) != entry.sha256:
            found.append(f"{entry.key[:12]} {entry.url}: content changed (SHA-256 differs)")
    loose = (b for b in (root / "objects").glob("*/*") if b.name not in named)
    return found + [f"{b.name[:12]}: no request names it" for b in loose]


def clear(root: Path, service: str | None = None) -> tuple[int, int]:
    """Remove answers, of one service or all with whatever is left over; (how many, bytes)."""
    number = size = 0
    kept = {e.sha256 for e in entries(root) if service and e.service != service}
    for entry in list(entries(root)):
        if service and entry.service != service:
            continue
        (root / "index" / f"{entry.key}.json").unlink(missing_ok=True)
        if entry.sha256 not in kept:
            place(root, entry.sha256).unlink(missing_ok=True)
        number, size = number + 1, size + entry.bytes
    if service is None:
        for folder in ("objects", "parts"):
            for left in (root / folder).rglob("*"):
                if left.is_file():
                    left.unlink(missing_ok=True)
    return number, size


@contextlib.contextmanager
def locked(root: Path, name: str) -> Iterator[Path]:
    """The file under which a download grows, held by one process at a time."""
    folder = root / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.lock").open("w") as file, locks.lock(file, wait=True):
        yield folder / f"{name}.part"
