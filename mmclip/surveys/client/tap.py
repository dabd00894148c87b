"""Asynchronous TAP queries that outlive their client.

pyvo writes the request (parameters, uploaded tables); the job's address is kept on disk the moment
the service names it, and the same query goes back to it after a lost connection or a kill.
"""

import contextlib
import hashlib
import json
import time
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.artifacts import write_atomic
from mmclip.errors import RemoteError, UsageError, hidden
from mmclip.surveys.client import answers, cache, votable
from mmclip.surveys.client.answers import HTML, Meaning, Refused
from mmclip.surveys.client.http import Client, Unreachable
from mmclip.surveys.client.settings import Service

WAITING = ("PENDING", "QUEUED", "EXECUTING", "HELD", "SUSPENDED", "UNKNOWN", "RUN")
RESUBMITS, MOVES = 3, 3
LARGEST = 1 << 32  # bytes of a table that is parsed in memory; more is asked for in parts
SERVICE = Service("tap")
JOB = Service("tap", smaller=r"time limit|timed out|execution time|statement timeout")
Answer = tuple[pa.Table, str, str]
Upload = tuple[str, NDArray[np.int64]] | dict[str, NDArray[Any]]  # one column, or several


class TooHard(RemoteError):
    """The service cannot answer the query as a whole; it may answer parts of it."""


class CutShort(TooHard):
    """The service left rows out of its answer; `table` is what it gave."""

    def __init__(self, endpoint: str, table: pa.Table) -> None:
        super().__init__(
            f"{endpoint} cut its answer short at {table.num_rows} rows", "ask for less"
        )
        self.table = table


def run(client: Client, endpoint: str, adql: str, ids: Upload | None = None) -> pa.Table:
    """The whole answer of one query.

    Args:
        client: Cache, patience, and where jobs are kept.
        endpoint: TAP service, without `/async`.
        adql: The query.
        ids: Columns (a name and values, or several) of a table uploaded as `tap_upload.ids`.

    Raises:
        CutShort: If the answer stopped at a row limit.
        TooHard: If the job fails time after time with words that pass, or for its size.
        Refused: If the service does not accept the query.
        Unreachable: If it did not answer within the patience of the settings.
    """
    name = cache.key("TAP", endpoint, [adql, _digest(ids)])
    if not client.fresh and (found := cache.find(client.cache, name)):
        client.count("from_cache")
        return _whole(client, votable.read(found), endpoint)
    if client.offline:
        raise Unreachable(
            f"--offline: the answer of a query of {endpoint} is not in the cache ({name[:12]})",
            "repeat without --offline",
        )
    words = ""
    for attempt in range(RESUBMITS):
        job = _attach(client, endpoint, name, adql, ids)
        try:
            if _wait(client, job):
                break
        except _Failed as failed:
            words = str(failed)
            client.rest(attempt, None)
        _forget(client, name)
        client.count("tap_resubmitted")
    else:
        if words:
            raise TooHard(f"{endpoint} failed {RESUBMITS} times: {words}", "ask for less")
        raise Unreachable(f"{endpoint} lost the job {RESUBMITS} times", "repeat later")
    body, answer = _result(client, job)
    table = _whole(client, answer, endpoint)
    _finish(client, job, name, endpoint, body)
    return table


class _Failed(Exception):
    """A job that ended in an error which may pass."""


def _digest(ids: Upload | None) -> str:
    if ids is None:
        return ""
    held = _columns(ids)
    parts = [n.encode() + np.ascontiguousarray(v).tobytes() for n, v in held.items()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _columns(ids: Upload) -> dict[str, NDArray[Any]]:
    return ids if isinstance(ids, dict) else {ids[0]: np.asarray(ids[1], np.int64)}


def _file(client: Client, name: str) -> Path | None:
    if client.jobs is None:
        return None
    client.jobs.mkdir(parents=True, exist_ok=True)
    return client.jobs / f"{name[:32]}.json"


def _forget(client: Client, name: str) -> None:
    file = _file(client, name)
    if file is not None:
        file.unlink(missing_ok=True)


def _attach(client: Client, endpoint: str, name: str, adql: str, ids: Upload | None) -> str:
    """The address of the job of this query: the one kept from before, or a new one."""
    file = _file(client, name)
    if file is not None and file.is_file():
        with contextlib.suppress(ValueError, KeyError):
            job = str(json.loads(file.read_bytes())["url"])
            client.count("tap_reattached")
            return job
    job = _submit(client, endpoint, adql, ids)
    client.count("tap_jobs")
    client.learned.setdefault("jobs", []).append(job)
    if file is not None:
        about = {"url": job, "endpoint": endpoint, "query": adql}
        write_atomic(file, json.dumps(about).encode())
    return job


def _submit(client: Client, endpoint: str, adql: str, ids: Upload | None) -> str:
    from pyvo.dal import TAPQuery

    def send() -> Any:
        uploads = None
        if ids is not None:
            from astropy.table import Table

            uploads = {"ids": Table(_columns(ids))}
        keep = _Once(client)
        TAPQuery(endpoint, adql, mode="async", uploads=uploads, session=keep).submit()
        return keep.answer

    answer = _patiently(client, endpoint, send, f"Gaia's TAP service {endpoint}")
    where = answer.headers.get("Location")
    if answer.status_code not in (200, 201, 301, 302, 303, 307, 308) or not where:
        raise _refusal(answer, endpoint)
    return _located(f"{endpoint}/async", where)


def _located(asked: str, where: str) -> str:
    """The address that a redirect names; a secure service stays secure on its own host."""
    found = urljoin(asked, where)
    one, two = urlsplit(asked), urlsplit(found)
    if one.hostname != two.hostname or two.scheme not in ("http", "https"):
        raise RemoteError(
            f"{hidden(asked)} sends its job to another host, {hidden(found)}: it is not followed",
            "check the address of the service",
        )
    if one.scheme == "https" and two.scheme == "http" and one.hostname == two.hostname:
        return urlunsplit(("https", one.netloc, *two[2:]))
    return found


def _refusal(answer: Any, url: str) -> Refused:
    text = answer.text[:20000]
    verdict = answers.classify(SERVICE, answer.status_code, text)
    return answers.refusal(SERVICE, verdict, answer.status_code, answers.shown(text), url)


class _Once:
    """A session for pyvo that stops at the first answer, so that a job's address is not lost."""

    def __init__(self, client: Client) -> None:
        self.client, self.answer = client, None

    def post(self, url: str, **given: Any) -> Any:
        patience = (self.client.settings.connect, self.client.settings.stall)
        given = {k: v for k, v in given.items() if k != "stream"}
        self.answer = self.client.session().post(
            url, **given, allow_redirects=False, timeout=patience
        )
        return self.answer


def _patiently(client: Client, url: str, send: Any, who: str) -> Any:
    """An answer that is not a passing failure, asked for until the patience is over."""
    import requests

    begun, attempt, met = time.monotonic(), 0, url in client.met
    while True:
        wait = None
        try:
            answer = send()
            client.met.add(url)
            client.note("TAP", url, answer.status_code, dict(answer.headers), answer.content)
            failed = _passing(answer)
            if not failed:
                return answer
            text = answer.headers.get("Retry-After", "")
            wait = float(text) if text.isdigit() else None
        except (requests.RequestException, OSError) as error:
            failed = type(error).__name__
        spent = time.monotonic() - begun
        never = attempt >= 1 and not (met or url in client.met)
        if never or spent > client.settings.tap_patience:
            raise Unreachable(
                f"{who} did not answer: {failed}",
                "check the connection and repeat: it resumes; offline: mmclip fetch --survey demo",
            )
        client.count("tap_retried")
        client.rest(min(attempt, 5), wait)
        attempt += 1


def _passing(answer: Any) -> str:
    """Why an answer is worth asking for again; empty if it is not.

    A page of HTML is no answer of a TAP service, whatever its status. A 500 that says in a VOTable
    what is wrong with the query does not pass, unless its words do.
    """
    text = answer.text[:20000]
    status, words = answer.status_code, answers.shown(text)[:100]
    if HTML.match(answer.content[:2000]) and status in (200, 201):
        return f"a page of HTML: {words}"
    told = 'value="ERROR"' in text
    verdict = answers.classify(SERVICE, 200 if told else status, text)
    if status < 400 or verdict.meaning is not Meaning.AGAIN:
        return ""
    return f"HTTP {status}: {words}"


def _wait(client: Client, job: str) -> bool:
    """Wait for a job; False if the service no longer knows it.

    Raises:
        TooHard: If the job was stopped, or failed for its size.
        _Failed: If the job ended in an error that may pass.
        Refused: If it ended in any other.
    """
    begun, pause, attempt = time.monotonic(), client.settings.tap_poll, 0
    client.met.add(job)
    while time.monotonic() - begun < client.settings.tap_job_limit:
        answer = _patiently(client, job, lambda: _get(client, f"{job}/phase"), f"the job {job}")
        if answer.status_code in (404, 410):
            return False
        phase = answer.text.strip().upper()
        if phase == "COMPLETED":
            return True
        if phase in ("ERROR", "ABORTED"):
            text = _get(client, f"{job}/error").text if phase == "ERROR" else "aborted"
            _forget_job(client, job)
            verdict = answers.classify(JOB, 200, text)
            if verdict.meaning is Meaning.SMALLER or phase == "ABORTED":
                raise TooHard(f"the job {job} failed: {verdict.words}", "ask for less")
            if verdict.meaning is Meaning.AGAIN:
                raise _Failed(verdict.words)
            raise answers.refusal(JOB, verdict, 200, answers.shown(text), job)
        if phase == "PENDING":
            attempt += 1
            _patiently(client, job, lambda: _start(client, job), f"the job {job}")
        elif phase not in WAITING:
            raise Unreachable(f"the job {job} has the phase '{phase[:40]}'", "repeat later")
        time.sleep(pause)
        pause = min(pause * 1.5, 30.0)
    raise Unreachable(f"the job {job} still runs", "give the same command again: it re-attaches")


def _forget_job(client: Client, job: str) -> None:
    for file in client.jobs.glob("*.json") if client.jobs else ():
        with contextlib.suppress(ValueError, KeyError):
            if json.loads(file.read_bytes())["url"] == job:
                file.unlink(missing_ok=True)


def _get(client: Client, url: str) -> Any:
    patience = (client.settings.connect, client.settings.stall)
    return client.session().get(url, timeout=patience)


def _start(client: Client, job: str) -> Any:
    """Start a job. A 301 means that nothing was started: the same is posted where it points."""
    patience, url = (client.settings.connect, client.settings.stall), f"{job}/phase"
    for _ in range(MOVES):
        answer = client.session().post(
            url, data={"PHASE": "RUN"}, timeout=patience, allow_redirects=False
        )
        where = answer.headers.get("Location")
        if answer.status_code not in (301, 302, 307, 308) or not where:
            break
        moved = _located(url, where)
        if not moved.rstrip("/").endswith("/phase") or moved == url:
            break
        url = moved
    return answer


def _result(client: Client, job: str) -> tuple[Path, Answer]:
    parsed: list[Answer] = []
    url = f"{job}/results/result"

    def check(path: Path) -> None:
        if path.stat().st_size > LARGEST:
            raise TooHard(f"an answer of {path.stat().st_size} bytes", "ask for less")
        parsed.append(votable.read(path))

    body = client.download("tap", url, check=check, fresh=True)
    return body, parsed[-1]


def _finish(client: Client, job: str, name: str, endpoint: str, body: Path) -> None:
    """Index the answer under its query, and tidy up at the service."""
    from datetime import UTC, datetime

    now = datetime.now(UTC).isoformat(timespec="seconds")
    job_key = cache.key("GET", f"{job}/results/result", None)
    size = body.stat().st_size
    entry = cache.Entry(name, "tap", endpoint, body.name, size, now)
    cache.index(client.cache, entry)
    (client.cache / "index" / f"{job_key}.json").unlink(missing_ok=True)
    with contextlib.suppress(Exception):
        patience = (client.settings.connect, client.settings.connect)
        client.session().delete(job, timeout=patience, allow_redirects=False)
    _forget(client, name)


def _whole(client: Client, answer: Answer, endpoint: str) -> pa.Table:
    table, status, text = answer
    if status == "ERROR":
        raise Refused(200, text, endpoint)
    if status == "OVERFLOW" or table.num_rows == client.settings.tap_row_limit:
        raise CutShort(endpoint, table)
    return table


def source_ids(table: pa.Table, what: str = "source_id") -> NDArray[np.int64]:
    """The int64 id column of an answer, whatever the case of its name.

    Raises:
        UsageError: If the answer has none, or has it as anything but whole numbers.
    """
    if what not in table.column_names or not pa.types.is_integer(table[what].type):
        raise UsageError(
            f"the query returns no whole-number column {what} ({', '.join(table.column_names)})",
            "let it SELECT source_id",
        )
    return np.asarray(table[what].drop_null().to_numpy(), np.int64)
