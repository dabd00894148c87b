"""What this user wrote, known by a key: prepared files in a workspace from elsewhere are not read.

A cache beside an artefact is named by no manifest, so its sum alone says nothing of who made it.
Each has a signature: an HMAC-SHA-256 under 32 bytes that its user alone can read, `key-UID` in the
cache directory. Where no key can be kept a process has one of its own, and believes itself alone.
"""

import contextlib
import functools
import hmac
import os
import secrets
from pathlib import Path

from mmclip.artifacts.sums import sha256_bytes


def cache_root() -> Path:
    """`$MMCLIP_CACHE`, else `mmclip` under `$XDG_CACHE_HOME`, else `~/.cache/mmclip`."""
    if own := os.environ.get("MMCLIP_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "mmclip"


def owner() -> str:
    """Eight digits that tell one user's files from another's."""
    return sha256_bytes(_key(cache_root()))[:8]


def signature(text: str) -> str:
    """64 digits that only this user can give for a text."""
    return hmac.new(_key(cache_root()), text.encode(), "sha256").hexdigest()


def signed_by_us(text: str, given: str) -> bool:
    """True if a signature is this user's, of this text."""
    return hmac.compare_digest(signature(text).encode(), given.encode())


@functools.cache
def _key(root: Path) -> bytes:
    file = root / f"key-{os.getuid()}"
    with contextlib.suppress(OSError):
        root.mkdir(parents=True, exist_ok=True)
        if not file.exists():
            _new(file)
        about = file.stat()
        if about.st_uid == os.getuid() and about.st_size == 32:
            return file.read_bytes()
    return secrets.token_bytes(32)


def _new(file: Path) -> None:
    """Write a key, whole or not at all; of two processes' the first stays."""
    whole = file.with_name(f".key-{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(handle, secrets.token_bytes(32))
        with contextlib.suppress(FileExistsError):
            os.link(whole, file)
    finally:
        os.close(handle)
        whole.unlink()
