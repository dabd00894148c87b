"""What an answer of a service means: one table of words and statuses for every adapter.

Services say the same thing in many ways: an error of the server that is a refusal, a refusal with
status 200, a page to log in where data should be. `classify` is the only place that reads them; a
service adds its own words (`Service`).
"""

import json
import re
from dataclasses import dataclass
from enum import StrEnum

from mmclip.errors import RemoteError, hidden
from mmclip.surveys.client.settings import Service


class Meaning(StrEnum):
    """What to do about an answer."""

    GOOD = "good"  # take it
    ABSENT = "absent"  # the service does not have it
    AGAIN = "ask again"  # it passes
    SMALLER = "ask for less"  # too much at once
    TOKEN = "needs a token"  # log in
    REFUSED = "refused"  # asking again will not help


@dataclass(frozen=True)
class Verdict:
    """A meaning, and the service's own words for it."""

    meaning: Meaning
    words: str = ""


PASSING = (408, 425, 429, 500, 502, 503, 504)
SMALLER = re.compile(
    r"maximum number of source ids|too many sources|too many (ids|records|rows)|"
    r"request entity too large|exceeds the (maximum|limit)",
    re.IGNORECASE,
)
REFUSED = re.compile(
    r"data.?structure|unsupported format|invalid (id|parameter|retrieval)|no formatter|"
    r"unkfield|unknown field",
    re.IGNORECASE,
)
AGAIN = re.compile(
    r"current transaction is aborted|temporar(y|ily)|unavailable|try again|overload|too busy|"
    r"deadlock|connection (reset|refused|pool)|could not connect|quota exceeded|maintenance|"
    r"canceling statement|terminating connection|out of memory",
    re.IGNORECASE,
)
TOKEN = re.compile(
    r"oauth|user/login|/login|sign[ -]?in|log ?in to|type=.?password|"
    r"(check|invalid|missing|expired|no)\W+(your\W+)?token|token\W+(is|was)?\W*"
    r"(invalid|missing|expired|required|needed)|not authori[sz]ed|unauthori[sz]ed",
    re.IGNORECASE,
)
HTML = re.compile(  # atomic: a page of comments is gone through once
    rb"\s*+(?>(?><!--.*?-->)\s*+)*+<(!doctype\s+html|html|head|body|meta)\b", re.I | re.S
)
SHOWN = 300  # characters of a service's words


def shown(text: str) -> str:
    """A service's words on one line: tags and white space gone, secrets hidden."""
    found = re.search(r"<INFO[^<>]*QUERY_STATUS[^<>]*>([^<]*)<", text)
    plain = found[1] if found else re.sub(r"<[^<>]*>", " ", text)
    return hidden(re.sub(r"\s+", " ", plain).strip()[:SHOWN])


def classify(service: Service, status: int, text: str) -> Verdict:
    """What an answer without data means.

    Args:
        service: Its own words come first.
        status: Of HTTP.
        text: The beginning of the body.
    """
    words = shown(text)
    for meaning, own in (
        (Meaning.ABSENT, service.absent), (Meaning.SMALLER, service.smaller),
        (Meaning.AGAIN, service.again),
    ):  # fmt: skip
        if own and re.search(own, text, re.IGNORECASE):
            return Verdict(meaning, words)
    if status in (204, 404, 410):
        return Verdict(Meaning.ABSENT, words)
    if status in (401, 403, 407):
        return Verdict(Meaning.TOKEN if TOKEN.search(text) else Meaning.REFUSED, words)
    if status == 413 or SMALLER.search(text):
        return Verdict(Meaning.SMALLER, words)
    if REFUSED.search(text):
        return Verdict(Meaning.REFUSED, words)
    if status in PASSING or (status != 400 and AGAIN.search(text)):
        return Verdict(Meaning.AGAIN, words)
    if TOKEN.search(text):
        return Verdict(Meaning.TOKEN, words)
    return Verdict(Meaning.REFUSED, words)


def of_body(service: Service, head: bytes, html: bool = False) -> Verdict:
    """What the beginning of a body with status 200 means: data, a page, or an error as JSON.

    Args:
        service: Its own words come first.
        head: The first bytes.
        html: Whether a page may be the data.
    """
    if not html and HTML.match(head[:2000]):
        text = head.decode("utf-8", "replace")
        meaning = Meaning.TOKEN if TOKEN.search(text) else Meaning.AGAIN
        return Verdict(meaning, f"a page of HTML instead of data: {shown(text)[:100]}".rstrip(": "))
    error = _json_error(head)
    if error is None:
        return Verdict(Meaning.GOOD)
    found = classify(service, 200, error)
    return Verdict(found.meaning, error)


def _json_error(head: bytes) -> str | None:
    """The message of `{"error": ..., "description": ...}`; None if the body is no such thing."""
    if not re.match(rb"\xef?\xbb?\xbf?\s*\{", head) or len(head) > 20_000:
        return None
    try:
        body = json.loads(head)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    if not any(body.get(k) for k in ("error", "errorMessage", "errorCode")):
        return None
    names = ("errorCode", "errorMessage", "error", "description", "message")
    return shown("; ".join(str(body[k]) for k in names if body.get(k)))


class Refused(RemoteError):
    """A service's refusal that asking again will not change."""

    def __init__(self, status: int, text: str, url: str, hint: str = "") -> None:
        super().__init__(
            f"{hidden(url)} refused (HTTP {status}): {shown(text) or 'no reason given'}",
            hint or "docs/surveys has the settings of each service",
        )
        self.status, self.text = status, text


class Absent(Refused):
    """The service does not have what was asked for; `words` are its own, empty for a 404."""

    def __init__(self, status: int, text: str, url: str) -> None:
        super().__init__(status, text, url)
        self.words = "" if status in (404, 410) else shown(text)[:120] or "nothing was returned"


class TooMuch(Refused):
    """The service wants to be asked for less at once."""


class NeedsToken(Refused):
    """The service wants a token, or refuses the one it was given."""

    def __init__(self, status: int, text: str, url: str, service: Service, given: bool) -> None:
        name = f"$MMCLIP_{service.name.upper()}_TOKEN"
        super().__init__(
            status, text, url, f"{name} was not accepted: renew it" if given else f"set {name}"
        )
        said = "a login page or a refusal" + (f": {shown(text)[:120]}" if shown(text) else "")
        wants = "does not accept the token" if given else "needs a token"
        self.message = f"{hidden(url)} {wants} for this ({said})"
        self.args = (self.message,)


def refusal(
    service: Service, verdict: Verdict, status: int, text: str, url: str, given: bool = False
) -> Refused:
    """The error for an answer that asking again will not change."""
    if verdict.meaning is Meaning.ABSENT:
        return Absent(status, text, url)
    if verdict.meaning is Meaning.SMALLER:
        return TooMuch(status, text, url)
    if verdict.meaning is Meaning.TOKEN:
        return NeedsToken(status, text, url, service, given)
    return Refused(status, text, url)
