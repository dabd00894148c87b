"""What an adapter assumes about its service, compared with one tiny answer of it.

A survey's `probe` gives one `Finding` an assumption; `mmclip doctor --services` shows them.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from mmclip.artifacts import write_atomic
from mmclip.errors import MmclipError

if TYPE_CHECKING:
    from mmclip.surveys import Survey
    from mmclip.surveys.client.http import Client


class Verdict(StrEnum):
    """How an assumption fares."""

    HOLDS = "holds"
    DIFFERS = "differs"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Answer:
    """What a request told: whether the assumption holds, in words, and what setting mends it."""

    holds: bool
    detail: str
    key: str = ""
    value: str = ""


@dataclass(frozen=True)
class Finding:
    """One assumption of a survey; `key = value` under `[survey]` is what to set, where known."""

    survey: str
    assumption: str
    verdict: str
    detail: str
    key: str = ""
    value: str = ""


def find(survey: str, assumption: str, act: Callable[[], Answer]) -> Finding:
    """Compare one assumption; a service that does not answer leaves it unknown."""
    try:
        told = act()
    except MmclipError as error:
        return Finding(survey, assumption, Verdict.UNKNOWN, error.message[:200])
    verdict = Verdict.HOLDS if told.holds else Verdict.DIFFERS
    return Finding(survey, assumption, verdict, told.detail, told.key, told.value)


def reachable(client: "Client", survey: str, what: str, service: str, url: str) -> Finding:
    """Whether a file is where it is assumed, asked by HEAD."""

    def act() -> Answer:
        status, headers = client.head(service, url)
        size = headers.get("Content-Length", "")
        told = f"HTTP {status}" + (f", {int(size):,} bytes" if size.isdigit() else "")
        return Answer(200 <= status < 400, told, "" if status < 400 else "catalogue", "")

    return find(survey, f"{what} is at {url}", act)


def run(client: "Client", surveys: Iterable["Survey"]) -> list[Finding]:
    """Every assumption of every survey that can be asked, one service after another."""
    return [f for it in surveys if it.probe is not None for f in it.probe(client)]


def settings(findings: Iterable[Finding]) -> str:
    """What was learned as a settings file: a table a survey."""
    held: dict[str, dict[str, str]] = {}
    for one in findings:
        if one.verdict == Verdict.DIFFERS and one.key and one.value:
            held.setdefault(one.survey, {})[one.key] = one.value
    lines = []
    for survey, keys in held.items():
        lines += [f"[{survey}]", *(f"{k} = {json.dumps(v)}" for k, v in keys.items()), ""]
    return "\n".join(lines)


def record(path: Path, client: "Client", findings: Iterable[Finding]) -> None:
    """Write what was asked and answered, without secrets, as a file to attach to a report."""
    body = {"findings": [asdict(f) for f in findings], "answers": client.trace}
    write_atomic(path, json.dumps(body, indent=1).encode())
