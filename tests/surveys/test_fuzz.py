"""A server that misbehaves in a hundred ways: every fetch ends in bounded time, memory and disk."""

import gzip
import random
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import pytest

from mmclip.errors import MmclipError
from mmclip.surveys.client import answers, tap
from mmclip.surveys.client.http import Client
from tests.services import quick

OK = b"HTTP/1.1 200 OK\r\n"
PIECE = b"x" * 4096


@cache
def bomb():
    """96 MiB in 100 kB."""
    return gzip.compress(bytes(96 << 20))


def drip(connection, head, unit, pause=0.3):
    """A little at a time, for as long as anybody listens (30 s at most)."""
    connection.sendall(head)
    for _ in range(100):
        connection.sendall(unit)
        time.sleep(pause)


def flood(connection, head, unit):
    """As much as is taken, for 30 s at most."""
    connection.sendall(head)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        connection.sendall(unit)


def misbehave(connection, seed):
    """One of a hundred misbehaviours: a dozen kinds, with sizes and places drawn by the seed."""
    rng = random.Random(seed)
    noise = rng.randbytes(rng.randrange(1, 2000))
    kinds = [
        lambda: drip(connection, b"", b"H"),
        lambda: drip(connection, OK, b"X-A: b\r\n"),
        lambda: drip(connection, b"HTTP/1.1 500 No\r\nContent-Length: 9999\r\n\r\n", b"e"),
        lambda: drip(connection, OK + b"Content-Length: 999999\r\n\r\n", b"d"),
        lambda: flood(connection, b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        lambda: flood(connection, OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"T: x\r\n"),
        lambda: flood(connection, OK, b"X: " + PIECE + b"\r\n"),
        lambda: flood(connection, OK + b"\r\n", PIECE * 16),
        lambda: connection.sendall(noise),
        lambda: connection.sendall(OK + b"Content-Length: " + rng.choice(
            [b"-1", b"many", b"1e3", b"\xb2", b"9" * 400, b"5, 7"]) + b"\r\n\r\nhello"),
        lambda: connection.sendall(b"HTTP/1.1 503 Later\r\nRetry-After: " + rng.choice(
            [b"-5", b"\xb2", b"9" * 400, b"Mon, 99 Foo 99999 99:99:99 GMT", b"soon"])
            + b"\r\nContent-Length: 0\r\n\r\n"),
        lambda: connection.sendall(OK + b"Transfer-Encoding: chunked\r\n\r\n" + rng.choice(
            [b"zz\r\n", b"-1\r\n", b"fffffffffffffffff\r\nhi", b"5\r\nhel"])),
        lambda: connection.sendall(OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"
                                   % len(bomb()) + bomb()),
        lambda: connection.sendall(OK + b"Content-Encoding: " + rng.choice(
            [b"gzip", b"deflate", b"br", b"zstd"]) + b"\r\n\r\n" + noise),
        lambda: connection.sendall(OK + b"\r\n" + b"<!-- -->" * rng.randrange(1, 250) + b"x"),
        lambda: connection.sendall(b"HTTP/1.1 302 Go\r\nLocation: " + rng.choice(
            [b"/", b"file:///etc/passwd", b"http://", b"//[", b"gopher://x"])
            + b"\r\nContent-Length: 0\r\n\r\n"),
    ]  # fmt: skip
    kinds[seed % len(kinds)]()


@pytest.fixture
def fuzzing():
    """The address of the server; the path names the seed."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve(connection):
        try:
            request = connection.recv(65536).split()
            misbehave(connection, int(request[1].rsplit(b"/", 1)[-1] or 0))
        except (OSError, ValueError, IndexError):
            pass
        finally:
            connection.close()

    def accept():
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    listening.close()


def test_a_hundred_misbehaviours_end_in_bounded_time_memory_and_disk(fuzzing, tmp_path):
    client_of = quick(tmp_path, tries=1, stall=0.7, largest=64 << 20, floor_window=0.3)

    def fetch(seed):
        client = Client(**client_of, cache=tmp_path / str(seed))
        begun = time.monotonic()
        try:
            client.download("test", f"{fuzzing}/{seed}")
            outcome = "answered"
        except MmclipError as error:
            outcome = type(error).__name__ + "\n" * ("\n" in error.message)
        return seed, outcome, time.monotonic() - begun

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(fetch, range(100)))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert max(seconds for _, _, seconds in found) < 30, max(found, key=lambda f: f[2])
    assert grown < 1500  # MB, of eight at a time
    written = sum(f.stat().st_size for f in tmp_path.rglob("*") if f.is_file())
    assert written < 100 * (65 << 20)
    assert sum(outcome == "Unreachable" for _, outcome, _ in found) > 50


def test_a_page_of_comments_and_a_document_of_tags_are_gone_through_once():
    begun = time.thread_time()  # its own work, whatever else this process and machine do
    assert not answers.HTML.match(b"<!-- -->" * 250)
    assert answers.HTML.match(b" <!-- a --> <!-- <html --> <!DOCTYPE html>")
    answers.shown("<INFO " * 40_000)
    answers.shown("<" * 200_000)
    assert time.thread_time() - begun < 2


def test_a_job_on_another_host_is_refused():
    with pytest.raises(MmclipError, match="another host"):
        tap._located("https://gea.example/tap/async", "https://evil.example/job/1")
    assert (
        tap._located("https://a.example/tap/async", "/tap/async/7")
        == "https://a.example/tap/async/7"
    )


def test_a_body_has_a_deadline_however_fast_it_comes(fuzzing, tmp_path):
    client = Client(**quick(tmp_path, tries=1, stall=30.0, body=1e-9), cache=tmp_path)
    with pytest.raises(MmclipError, match="a body that took more than 1e-09 s"):
        client.download("test", f"{fuzzing}/7")


def test_a_document_of_tap_is_not_read_up_to_memory(fuzzing, tmp_path, monkeypatch):
    monkeypatch.setattr("mmclip.surveys.client.http.DOCUMENT", 1 << 20)
    client = Client(**quick(tmp_path, stall=30.0, tap_patience=0.0), cache=tmp_path)
    with pytest.raises(MmclipError, match="it did not answer: ContentDecodingError"):
        tap._patiently(client, "a", lambda: tap._get(client, f"{fuzzing}/7"), "it")


def test_a_table_too_large_to_be_parsed_is_asked_for_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr("mmclip.surveys.client.tap.LARGEST", 9)
    (tmp_path / "body").write_text("<VOTABLE/>")
    client = Client(**quick(tmp_path), cache=tmp_path)
    monkeypatch.setattr(client, "download", lambda *a, check, **k: check(tmp_path / "body"))
    with pytest.raises(tap.TooHard, match="an answer of 10 bytes"):
        tap._result(client, "http://127.0.0.1/job")
