"""Our own streaming HTTP client: nothing is believed before it was checked, nothing is lost twice.

Every request here may be repeated. A body grows under a temporary name, is checked for length, sums
and content, and only then enters the cache.
"""

import contextlib
import email.utils
import errno
import functools
import hashlib
import json
import logging
import math
import os
import queue
import random
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from mmclip import __version__, artifacts
from mmclip.config import Json
from mmclip.errors import MmclipError, RemoteError
from mmclip.surveys.client import answers
from mmclip.surveys.client import cache as _cache
from mmclip.surveys.client.answers import Meaning
from mmclip.surveys.client.settings import Service, Settings

LOG = logging.getLogger("mmclip")
RATIO, UNPACKED = 200, 1 << 26  # an answer of 64 MB may be packed so many times smaller
DOCUMENT = 1 << 24  # bytes of an answer that is held in memory, as those of TAP about jobs
BLOCK = 1 << 18  # bytes read at a time
LOCAL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)
PLAINLY = {  # of what is wrong between here and there, not with the service
    "ca certificate bundle": "the file of certificates that $REQUESTS_CA_BUNDLE names is not there",
    "certificate_verify_failed": "its certificate is not trusted: of another name, signed by "
    "nobody known here, or out of date",
    "wrong_version_number": "it does not speak https",
    "proxy": "the proxy named by $HTTP_PROXY or $HTTPS_PROXY did not serve",
    "socks": "the proxy named by $HTTP_PROXY or $HTTPS_PROXY needs pip install pysocks",
}
SUMS = {"md5": "Content-MD5", "sha256": "X-Checksum-SHA256"}
EXPLAINED = 20_000  # bytes of a refusal that are read
TRACED = 2000  # bytes of a body that a trace keeps
SHOWN = ("Content-Type", "Content-Length", "Content-Encoding", "Etag", "Last-Modified", "Location",
         "Accept-Ranges", "Retry-After", "Date", "Server")  # fmt: skip
Check = Callable[[Path], None]
Own = TypeVar("Own")


class BadAnswer(Exception):
    """An answer that is not what was asked; asking again may help."""


class Unreachable(RemoteError):
    """A service that failed at every try."""


@dataclass
class Client:
    """The one way to a service: cache, patience, politeness, and a record of what happened.

    Attributes:
        settings: See `Settings`.
        own: Settings of surveys, each of the class that its survey names.
        cache: Root of the cache.
        offline: Only the cache is asked; no socket is opened.
        fresh: The cache is not asked, only filled.
        jobs: Where URLs of running TAP jobs are kept, or None.
        learned: What was found out at run time (goes into the manifest).
        say: Prints a line of progress.
        tokens: Host -> header `Authorization` that is sent to it and to nobody else.
        trace: What was asked and the beginnings of answers, where a list was given.
    """

    settings: Settings = field(default_factory=Settings)
    own: tuple[object, ...] = ()
    cache: Path = field(default_factory=_cache.default_root)
    offline: bool = False
    fresh: bool = False
    jobs: Path | None = None
    learned: Json = field(default_factory=dict)
    say: Callable[[str], None] = lambda text: None
    tokens: dict[str, str] = field(default_factory=dict)
    trace: list[Json] | None = None
    met: set[str] = field(default_factory=set)
    _last: dict[str, float] = field(default_factory=dict)
    _session: Any = None

    def _authorise(self, request: Any) -> Any:
        """Add the token of a host; nothing is taken from ~/.netrc."""
        header = self.tokens.get(urlsplit(request.url).netloc)
        if header:
            request.headers["Authorization"] = header
        return request

    def of(self, kind: type[Own]) -> Own:
        """The settings of a survey, by their class: the user's, or the defaults."""
        return next((one for one in self.own if type(one) is kind), None) or kind()

    def configuration(self) -> Json:
        """Every setting as plain values: the client's, and those given for surveys."""
        given = {f"{type(one).__module__}": asdict(one) for one in self.own}  # type: ignore[call-overload]
        return asdict(self.settings) | given

    def session(self) -> Any:
        """The requests session: our User-Agent, nothing from ~/.netrc."""
        import requests

        if self._session is None:
            self._session = requests.Session()
            most = self.settings.connect + 2 * self.settings.stall
            whole = functools.partial(_whole, self._session.request)
            self._session.request = functools.partial(_within, most, whole)
            contact = f" (+{self.settings.contact})" if self.settings.contact else ""
            self._session.headers["User-Agent"] = f"mmclip/{__version__}{contact}"
            self._session.headers["Accept-Encoding"] = "identity"
            self._session.auth = self._authorise
        return self._session

    def pace(self, service: Service) -> None:
        """Wait until the next polite moment for a service."""
        spacing = service.spacing * self.settings.pace
        wait = self._last.get(service.name, -1e9) + spacing - time.monotonic()
        if wait > 0:
            time.sleep(wait)
        self._last[service.name] = time.monotonic()

    def rest(self, attempt: int, wanted: float | None) -> None:
        """Sleep before the next try: what the service asked for, else full-jitter back-off."""
        most = min(self.settings.backoff * 2**attempt, self.settings.backoff_most)
        asked = 0.0 if wanted is None else min(wanted, 10 * self.settings.backoff_most)
        time.sleep(max(asked, random.uniform(0, most)))

    def count(self, what: str, by: int = 1) -> None:
        """Add to a counter that goes into the manifest."""
        counts = self.learned.setdefault("http", {})
        counts[what] = counts.get(what, 0) + by

    def download(
        self,
        service: Service | str,
        url: str,
        *,
        form: dict[str, str] | None = None,
        posted: Any = None,
        secret: dict[str, str] | None = None,
        check: Check | None = None,
        html: bool = False,
        fresh: bool = False,
    ) -> Path:
        """The checked body that answers a request, from the cache or the service.

        Args:
            service: For politeness and `mmclip cache ls`; a name alone is asked without pause.
            url: Without credentials.
            form: Sent as a form by POST.
            posted: Sent as JSON by POST.
            secret: Query parameters that are sent, never stored or shown.
            check: Raises `BadAnswer` if the body is not what was asked.
            html: Whether a page of HTML may be the answer.
            fresh: Ask the service even if the cache knows.

        Raises:
            Refused: If the service says no for good.
            Unreachable: If every try failed, or with `offline` and nothing cached.
        """
        body = form if form is not None else posted
        name = _cache.key("GET" if body is None else "POST", url, body)
        if not (fresh or self.fresh):
            found = _cache.find(self.cache, name)
            if found is not None:
                self.count("from_cache")
                return found
        if self.offline:
            raise Unreachable(
                f"--offline: the answer of {_cache.redact(url)} is not in the cache ({name[:12]})",
                "repeat without --offline",
            )
        whose = Service(service) if isinstance(service, str) else service
        request = _Request(whose, url, form, posted, secret, html)
        with _cache.locked(self.cache, name) as part:
            if not (fresh or self.fresh) and (found := _cache.find(self.cache, name)):
                return found  # another process was first
            return self._insist(request, name, part, check)

    def head(self, service: Service | str, url: str) -> tuple[int, dict[str, str]]:
        """Status and headers of an address, by HEAD; nothing is downloaded or cached.

        Raises:
            Unreachable: If there is no answer, or with `offline`.
        """
        import requests

        if self.offline:
            raise Unreachable(f"--offline: {_cache.redact(url)} is not asked", "")
        self.pace(Service(service) if isinstance(service, str) else service)
        patience = (self.settings.connect, self.settings.stall)
        try:
            answer = self.session().head(url, allow_redirects=True, timeout=patience)
        except (requests.RequestException, OSError) as error:
            raise Unreachable(f"{_cache.redact(url)}: {_plainly(error)}", "") from error
        self.note("HEAD", url, answer.status_code, dict(answer.headers), b"")
        return answer.status_code, dict(answer.headers)

    def note(
        self, method: str, url: str, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        """Keep what was answered, if a trace is wanted; no cookies, no credentials."""
        LOG.debug("%s %s: %d", method, _cache.redact(url), status)
        if self.trace is None:
            return
        kept = {k: v for k, v in headers.items() if k.title() in SHOWN}
        self.trace.append(
            {"method": method, "url": _cache.redact(url), "status": status, "headers": kept,
             "body": body[:TRACED].decode("utf-8", "backslashreplace")}
        )  # fmt: skip

    def _insist(self, request: "_Request", name: str, part: Path, check: Check | None) -> Path:
        host = urlsplit(request.url).netloc
        failed = ""
        for attempt in range(self.settings.tries):
            self.pace(request.service)
            wait: float | None = None
            try:
                about = self._stream(request, part)
                if check is not None:
                    check(part)
                return self._keep(request, name, part, about)
            except _Later as later:
                failed, wait = str(later), later.wait
            except BadAnswer as bad:
                failed = str(bad)
                _forget(part)
            except MmclipError:
                _forget(part)
                raise
            except Exception as error:
                if isinstance(error, OSError) and error.errno in LOCAL:
                    raise
                if not _of_the_network(error):
                    raise
                failed = _plainly(error)
                if host not in self.met and attempt >= 1 and _no_connection(error):
                    break  # a host that never answered is not waited for
            self.count(f"retried: {failed[:60]}")
            if attempt + 1 < self.settings.tries:
                self.rest(attempt, wait)
        raise Unreachable(
            f"{_cache.redact(request.url)} did not answer well: {failed}",
            "check the connection and give the same command again: it resumes",
        )

    def _stream(self, request: "_Request", part: Path) -> dict[str, str]:
        begun = _begun(part) if request.body is None else None
        headers = {"Range": f"bytes={begun.size}-", "If-Range": begun.validator} if begun else {}
        with self._ask(request, headers) as answer:
            self.met.add(urlsplit(request.url).netloc)
            if answer.status_code == 416:
                _forget(part)
                raise _Later("the service could not go on where it stopped", 0.0)
            if answer.status_code in (200, 206):
                return self._receive(request, answer, part, begun)
            text, status = _text(answer, self.settings.stall), answer.status_code
            self.note(request.method, request.url, status, dict(answer.headers), text.encode())
            verdict = answers.classify(request.service, status, text)
            if verdict.meaning is Meaning.AGAIN:
                wait = _retry_after(answer.headers.get("Retry-After"))
                raise _Later(f"HTTP {status}: {verdict.words[:80]}", wait)
            raise answers.refusal(
                request.service, verdict, status, text, request.url, bool(request.secret)
            )

    def _ask(self, request: "_Request", headers: dict[str, str]) -> Any:
        url = request.url
        if request.secret:
            url += ("&" if "?" in url else "?") + urlencode(request.secret)
        return self.session().request(
            "GET" if request.body is None else "POST",
            url,
            data=request.form,
            json=request.posted,
            headers=headers,
            stream=True,
            timeout=(self.settings.connect, self.settings.stall),
        )

    def _receive(
        self, request: "_Request", answer: Any, part: Path, begun: "_Begun | None"
    ) -> dict[str, str]:
        headers = answer.headers
        now = headers.get("ETag", "")
        resumed = answer.status_code == 206
        if resumed:
            span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
            if begun is None or span is None or not begun.fits(int(span[1]), span[2], headers):
                raise BadAnswer("the service went on with something else")
        else:
            sums = {k: headers[h] for k, h in SUMS.items() if headers.get(h)}
            tag = {
                "etag": now if not now.startswith("W/") else "", "sums": sums,
                "modified": headers.get("Last-Modified", ""),
                "length": headers.get("Content-Length", ""),
            }  # fmt: skip
            artifacts.write_atomic(_tag(part), json.dumps(tag).encode())
        # A packed file is labelled as packed by some servers: it is the file that was asked for.
        packed = urlsplit(request.url).path.endswith((".gz", ".tgz"))
        encoded = headers.get("Content-Encoding", "identity") not in ("", "identity") and not packed
        with part.open("ab" if resumed else "wb") as file:
            self._copy(request, answer, file, resumed, not packed)
        length = headers.get("Content-Length")
        got = part.stat().st_size - (begun.size if resumed and begun else 0)
        if length is not None and not (length.isascii() and length.strip().isdigit()):
            raise _Later(f"a Content-Length that is no number: {length[:40]!r}", None)
        if length is not None and not encoded and got != int(length):
            raise _Later(f"short answer: {got} of {length} bytes", None)
        _check_sums(part)
        return {"etag": now}

    def _copy(
        self, request: "_Request", answer: Any, file: Any, resumed: bool, decode: bool
    ) -> None:
        settings, size, window = self.settings, 0, time.monotonic()
        end = window + settings.body
        mark, first = 0, not resumed
        with _reader(answer.raw, 2 * settings.stall) as read:
            while block := read(BLOCK, decode):
                if first:
                    headers = dict(answer.headers)
                    self.note(request.method, request.url, answer.status_code, headers, block)
                    self._judge(request, answer, block)
                first = False
                file.write(block)
                size += len(block)
                if size > settings.largest:
                    raise Unreachable(f"an answer of more than {settings.largest} bytes", "")
                if decode and size > UNPACKED and size > RATIO * max(answer.raw.tell(), 1):
                    raise Unreachable(
                        f"an answer that unpacks to more than {RATIO} times its size", ""
                    )
                if time.monotonic() > end:
                    raise _Later(f"a body that took more than {settings.body:g} s", None)
                elapsed = time.monotonic() - window
                if elapsed > settings.floor_window:
                    if (size - mark) / elapsed < settings.floor:
                        raise _Later(f"a trickle of {(size - mark) / elapsed:.0f} bytes/s", None)
                    window, mark = time.monotonic(), size

    def _judge(self, request: "_Request", answer: Any, head: bytes) -> None:
        """Raise if a body that came with status 200 is no data."""
        verdict = answers.of_body(request.service, head, request.html)
        if verdict.meaning is Meaning.AGAIN:
            raise BadAnswer(verdict.words)
        if verdict.meaning is not Meaning.GOOD:
            raise answers.refusal(
                request.service, verdict, answer.status_code, verdict.words, request.url,
                bool(request.secret),
            )  # fmt: skip

    def _keep(self, request: "_Request", name: str, part: Path, about: dict[str, str]) -> Path:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        entry = _cache.Entry(
            name,
            request.service.name,
            _cache.redact(request.url),
            artifacts.sha256(part),
            part.stat().st_size,
            now,
            about["etag"],
        )
        self.count("requests")
        self.count("bytes", entry.bytes)
        _tag(part).unlink(missing_ok=True)
        return _cache.store(self.cache, part, entry)


@dataclass(frozen=True)
class _Request:
    service: Service
    url: str
    form: dict[str, str] | None
    posted: Any
    secret: dict[str, str] | None
    html: bool

    @property
    def method(self) -> str:
        return "GET" if self.body is None else "POST"

    @property
    def body(self) -> Any:
        return self.form if self.form is not None else self.posted


class _Later(Exception):
    def __init__(self, text: str, wait: float | None) -> None:
        super().__init__(text)
        self.wait = wait


def _within(seconds: float, ask: Callable[..., Any], *given: Any, **named: Any) -> Any:
    """What a call gives, if that takes no longer; a timeout of sockets begins anew at each byte.

    Raises:
        requests.ReadTimeout: If it takes longer. The call is left to its own end.
    """
    import requests

    box: queue.SimpleQueue[tuple[Any, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        try:
            box.put((ask(*given, **named), None))
        except BaseException as error:
            box.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        answer, error = box.get(timeout=seconds)
    except queue.Empty:
        raise requests.ReadTimeout(f"timed out: no whole answer in {seconds:g} s") from None
    if error is not None:
        raise error
    return answer


def _whole(ask: Callable[..., Any], *given: Any, stream: bool = False, **named: Any) -> Any:
    """An answer; one that is not taken as a stream is read here, up to `DOCUMENT` bytes.

    Raises:
        requests.exceptions.ContentDecodingError: If it is longer.
    """
    import requests

    answer = ask(*given, stream=True, **named)
    if not stream:
        with contextlib.closing(answer):
            held = bytearray()
            for block in answer.iter_content(BLOCK):
                held += block
                if len(held) > DOCUMENT:
                    raise requests.exceptions.ContentDecodingError(f"more than {DOCUMENT} bytes")
        answer._content = bytes(held)
    return answer


def _tag(part: Path) -> Path:
    return part.with_suffix(".etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _tag(part).unlink(missing_ok=True)


@dataclass(frozen=True)
class _Begun:
    """A download that stopped: bytes that are here, and what they are a part of."""

    size: int
    etag: str
    modified: str
    length: str

    @property
    def validator(self) -> str:
        return self.etag or self.modified

    def fits(self, start: int, total: str, headers: Any) -> bool:
        """Whether the rest that a service sends belongs to what is here."""
        tags = (("ETag", self.etag), ("Last-Modified", self.modified))
        same = all(not headers.get(h) or headers[h] == v for h, v in tags if v)
        return start == self.size and same and total in ("*", self.length or total)


def _begun(part: Path) -> _Begun | None:
    """What is here of a download; None if it cannot be gone on with.

    Without a strong ETag a date of change and a length must be known.
    """
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        told = json.loads(_tag(part).read_bytes())
        begun = _Begun(
            part.stat().st_size, told["etag"], told.get("modified", ""), told.get("length", "")
        )
        if begun.size and (begun.etag or (begun.modified and begun.length)):
            return begun
    _forget(part)
    return None


@contextlib.contextmanager
def _reader(raw: Any, seconds: float) -> Iterator[Callable[[int, bool], bytes]]:
    """A function that reads the next bytes of a body, at most so many, unpacked or as they come.

    Lines after the last chunk are read by one call, however many come: one that takes longer than
    this ends by closing the connection, and raises requests.ReadTimeout.
    """
    import requests

    begun, late, over = [math.inf], threading.Event(), threading.Event()

    def watch() -> None:
        while not over.wait(seconds / 2):
            if time.monotonic() - begun[0] > seconds:
                late.set()
                with contextlib.suppress(Exception):  # it has ended by itself
                    raw.shutdown()
                return

    def read(most: int, decode: bool) -> bytes:
        begun[0] = time.monotonic()
        block: bytes = raw.read1(most, decode_content=decode)
        begun[0] = math.inf
        if late.is_set():
            raise requests.ReadTimeout(f"timed out: no part of a body in {seconds:g} s")
        return block

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield read
    finally:
        over.set()


def _text(answer: Any, seconds: float) -> str:
    """The beginning of a body that explains a refusal, as far as it comes in this time."""
    body, end = bytearray(), time.monotonic() + seconds
    with contextlib.suppress(Exception), _reader(answer.raw, 2 * seconds) as read:
        while len(body) < EXPLAINED and time.monotonic() < end:
            block = read(EXPLAINED - len(body), True)
            if not block:
                break
            body += block
    return body[:EXPLAINED].decode("utf-8", "replace")


def _retry_after(text: str | None) -> float | None:
    if not text:
        return None
    if text.isascii() and text.strip().isdigit():
        return float(text)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _check_sums(part: Path) -> None:
    """Compare a whole body with the sums that came with its beginning, where any came."""
    for kind, wanted in json.loads(_tag(part).read_bytes())["sums"].items():
        with part.open("rb") as file:
            digest = hashlib.file_digest(file, kind)
        if wanted.strip() not in (digest.hexdigest(), b64encode(digest.digest()).decode()):
            raise BadAnswer(f"the body does not have the {kind} sum that came with it")


def _of_the_network(error: Exception) -> bool:
    import requests
    import urllib3

    kinds = (requests.RequestException, urllib3.exceptions.HTTPError, OSError)
    return isinstance(error, kinds)


def _no_connection(error: Exception) -> bool:
    text = repr(error).lower()
    words = ("refused", "resolve", "name or service", "certificate", "proxy", "invalidschema")
    return any(word in text for word in words)


def _plainly(error: Exception) -> str:
    """The kind of a network error; its text may hold a URL with a secret."""
    text = repr(error).lower()
    for word, meaning in PLAINLY.items():
        if word in text:
            return meaning
    for word in ("refused", "timed out", "reset", "broken", "incomplete", "unreachable"):
        if word in text:
            return f"{type(error).__name__} ({word})"
    return type(error).__name__


def credential(service: str) -> str | None:
    """A token from `$MMCLIP_<SERVICE>_TOKEN` or the keyring (service `mmclip`); else None."""
    token = os.environ.get(f"MMCLIP_{service.upper()}_TOKEN")
    if token:
        return token
    with contextlib.suppress(Exception):
        import keyring

        return keyring.get_password("mmclip", service)
    return None
