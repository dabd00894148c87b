"""SHA-256 sums: of files, of bytes, and of JSON bodies that carry their own."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmclip.config import Json


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


def canonical(body: Any) -> str:
    """SHA-256 of JSON values, whatever the order of their keys."""
    return sha256_bytes(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


def summed(body: Mapping[str, Any]) -> Json:
    """A body of JSON values with `sum`, the SHA-256 of all the rest of it."""
    plain: Json = json.loads(json.dumps({k: v for k, v in body.items() if k != "sum"}))
    return plain | {"sum": canonical(plain)}


def sum_fits(body: Any) -> bool:
    """True for a JSON object whose `sum` fits it; one written before there were sums has none."""
    return isinstance(body, dict) and body.get("sum") in (None, "", summed(body)["sum"])
