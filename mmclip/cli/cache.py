"""`mmclip cache`: the stored answers of services."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from mmclip.cli.options import Json


def command(
    action: Annotated[str, Argument(help="ls, verify or clear.")] = "ls",
    service: Annotated[
        str | None, Option(help="clear, ls: only answers of this service (tap, datalink, ...).")
    ] = None,
    cache: Annotated[
        Path | None,
        Option(help="Its directory. [default: ~/.cache/mmclip]", envvar="MMCLIP_CACHE"),
    ] = None,
    as_json: Json = False,
) -> None:
    """List, verify or clear the answers of services that are kept on disk."""
    from dataclasses import asdict

    from mmclip.cli.output import say, show
    from mmclip.errors import IntegrityError, UsageError, nearest
    from mmclip.results import from_rows
    from mmclip.surveys.client import cache as _cache

    root = cache or _cache.default_root()
    if action == "ls":
        entries = [e for e in _cache.entries(root) if service in (None, e.service)]
        rows = [{k: v for k, v in asdict(e).items() if k != "etag"} for e in entries]
        for row in rows:
            row["key"], row["sha256"] = row["key"][:12], row["sha256"][:12]
        if rows or as_json:
            show(from_rows(rows, f"cache {root}"), as_json, None)
        say(f"{root}: {len(rows)} answers, {sum(r['bytes'] for r in rows):,} bytes")
    elif action == "verify":
        faults = _cache.faults(root)
        if faults:
            raise IntegrityError(
                f"{len(faults)} faults in {root}: " + "; ".join(faults[:5]),
                "they are fetched again when needed; mmclip cache clear removes all",
            )
        say(f"{root}: every answer is as it was received")
    elif action == "clear":
        number, size = _cache.clear(root, service)
        say(f"{root}: removed {number} answers, {size:,} bytes")
    else:
        raise UsageError(
            f"'{action}' is nothing the cache can do; {nearest(action, ['ls', 'verify', 'clear'])}",
            "mmclip cache ls",
        )
