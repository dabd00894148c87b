"""The streaming client: every way in which a service can fail, and what must never happen."""

import email.utils
import gzip
import hashlib
import io
import os
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from mmclip.errors import IntegrityError
from mmclip.surveys.client import cache, checks, votable
from mmclip.surveys.client.answers import Refused
from mmclip.surveys.client.http import BadAnswer, Client, Unreachable, credential
from mmclip.surveys.client.settings import Service
from tests.loopback import Server
from tests.services import quick

BODY = bytes(range(256)) * 2000
ETAG = {"ETag": '"one"', "Accept-Ranges": "bytes"}


@pytest.fixture
def client(tmp_path):
    return Client(**quick(tmp_path), cache=tmp_path / "cache")


class Flaky:
    """Gives the listed answers in turn, then the last one for ever."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def __call__(self, request, body):
        self.asked.append(dict(request.headers))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer(request, body) if callable(answer) else answer


def fetch(client, *answers, **given):
    """(path, handler) of one download from a server that gives these answers."""
    handler = Flaky(*answers)
    with Server(routes=[("/file", handler)]) as server:
        return client.download("test", f"{server.url}/file", **given), handler


def short(request, body):
    """Announces everything, sends half, closes."""
    request.send_response(200)
    for key, value in ETAG.items():
        request.send_header(key, value)
    request.send_header("Content-Length", str(len(BODY)))
    request.end_headers()
    request.wfile.write(BODY[: len(BODY) // 2])
    request.wfile.flush()
    return "drop"


def ranged(etag='"one"', body=BODY):
    """A server that goes on where it is asked to, if the ETag still fits."""

    def handler(request, posted):
        span = request.headers.get("Range", "")
        if span and request.headers.get("If-Range") == etag:
            start = int(span.removeprefix("bytes=").rstrip("-"))
            head = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}", "ETag": etag}
            return 206, head, body[start:]
        return 200, {"ETag": etag, "Accept-Ranges": "bytes"}, body

    return handler


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_asked_again(client, status):
    path, handler = fetch(client, (status, {}, b"later"), (status, {}, b"later"), BODY)
    assert path.read_bytes() == BODY
    assert len(handler.asked) == 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(client, form):
    begun = time.time()
    date = email.utils.formatdate(begun + 2, usegmt=True)
    fetch(client, (429, {"Retry-After": "1" if form == "seconds" else date}, b""), BODY)
    assert time.time() - begun > 0.9


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "no such file"), (403, "no"), (500, "Maximum number of Source Ids reached (max: 5000)"),
     (500, "Invalid Data Structure parameter: RAW; valid ones are: A, B")],
)  # fmt: skip
def test_a_refusal_is_asked_once_and_says_why(client, status, text):
    handler = Flaky((status, {}, text.encode()))
    with Server(routes=[("/file", handler)]) as server, pytest.raises(Refused) as caught:
        client.download("test", f"{server.url}/file")
    assert len(handler.asked) == 1
    assert caught.value.status == status
    assert text[:20] in caught.value.message


def test_a_short_answer_is_gone_on_with_where_it_stopped(client):
    path, handler = fetch(client, short, ranged())
    assert path.read_bytes() == BODY
    assert handler.asked[1]["Range"] == f"bytes={len(BODY) // 2}-"
    assert handler.asked[1]["If-Range"] == '"one"'


def test_a_file_that_changed_meanwhile_is_taken_from_its_beginning(client):
    other = BODY[::-1]
    path, _ = fetch(client, short, ranged('"two"', other))
    assert path.read_bytes() == other


def test_a_server_that_goes_on_with_another_file_is_not_believed(client):
    other = BODY[::-1]

    def wrong(request, body):
        start = len(BODY) // 2
        head = {"Content-Range": f"bytes {start}-{len(BODY) - 1}/{len(BODY)}", "ETag": '"two"'}
        return 206, head, other[start:]

    path, _ = fetch(client, short, wrong, ranged('"two"', other))
    assert path.read_bytes() == other


def test_half_a_file_without_an_etag_is_not_kept(client):
    def untagged(request, body):
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        request.wfile.write(BODY[:1000])
        return "drop"

    path, handler = fetch(client, untagged, BODY)
    assert path.read_bytes() == BODY
    assert "Range" not in handler.asked[1]


def test_a_page_of_html_is_no_data(client):
    page = b"\n <!-- hello -->\n<HTML><body>Scheduled maintenance</body></HTML>"
    path, _ = fetch(client, page, BODY)
    assert path.read_bytes() == BODY


@pytest.mark.parametrize(
    "headers",
    [{"Content-MD5": hashlib.md5(BODY).hexdigest()},
     {"X-Checksum-SHA256": hashlib.sha256(BODY).hexdigest()}],
)  # fmt: skip
def test_a_flipped_byte_is_found_by_the_sum_that_came_along(client, headers):
    flipped = BODY[:999] + bytes([BODY[999] ^ 1]) + BODY[1000:]
    path, _ = fetch(client, (200, headers, flipped), (200, headers, BODY))
    assert path.read_bytes() == BODY


def test_a_silent_server_is_left_after_the_stall(tmp_path):
    client = Client(**quick(tmp_path, stall=1.0), cache=tmp_path / "cache")

    def silent(request, body):
        time.sleep(3)
        return BODY

    begun = time.monotonic()
    path, _ = fetch(client, silent, BODY)
    assert path.read_bytes() == BODY
    assert time.monotonic() - begun < 2.9


def test_a_trickle_is_given_up(client):
    def trickle(request, body):
        request.send_response(200)
        request.send_header("Content-Length", str(len(BODY)))
        request.end_headers()
        for i in range(0, 4000, 100):
            request.wfile.write(BODY[i : i + 100])
            request.wfile.flush()
            time.sleep(0.1)
        return "drop"

    begun = time.monotonic()
    path, _ = fetch(client, trickle, BODY)
    assert path.read_bytes() == BODY
    assert time.monotonic() - begun < 3


def test_what_failed_every_time_names_the_service_and_keeps_nothing(client, tmp_path):
    with pytest.raises(Unreachable, match="a page of HTML"):
        fetch(client, b"<html>sorry</html>")
    assert list(cache.entries(tmp_path / "cache")) == []
    assert not [p for p in (tmp_path / "cache" / "parts").iterdir() if p.suffix == ".part"]


def test_an_answer_is_asked_for_once_and_read_offline(client):
    handler = Flaky(BODY)
    with Server(routes=[("/file", handler)]) as server:
        url = f"{server.url}/file"
        first = client.download("test", url)
        assert client.download("test", url) == first
    client.offline = True
    assert client.download("test", url).read_bytes() == BODY
    assert len(handler.asked) == 1
    with pytest.raises(Unreachable, match="--offline"):
        client.download("test", url + "?other")


def test_a_damaged_cache_file_is_never_read(client, tmp_path):
    handler = Flaky(BODY)
    with Server(routes=[("/file", handler)]) as server:
        path = client.download("test", f"{server.url}/file")
        assert cache.faults(tmp_path / "cache") == []
        path.write_bytes(b"poison")
        assert "content changed" in cache.faults(tmp_path / "cache")[0]
        assert client.download("test", f"{server.url}/file").read_bytes() == BODY
    assert len(handler.asked) == 2


def test_a_secret_is_sent_and_neither_kept_nor_shown(client, tmp_path, monkeypatch):
    monkeypatch.setenv("MMCLIP_LAMOST_TOKEN", "s3cret")
    assert credential("lamost") == "s3cret"
    seen = []

    def handler(request, body):
        seen.append(request.path)
        return 403, {}, b"no"

    with Server(routes=[("/file", handler)]) as server, pytest.raises(Refused) as caught:
        client.download("lamost", f"{server.url}/file?a=1", secret={"token": "s3cret"})
    assert "token=s3cret" in seen[0]
    assert "s3cret" not in caught.value.message
    kept = b"".join(p.read_bytes() for p in (tmp_path / "cache").rglob("*") if p.is_file())
    assert b"s3cret" not in kept
    assert "pw" not in cache.redact("https://me:pw@host/x?token=pw&a=1")


def test_requests_keep_their_distance(tmp_path):
    client = Client(**quick(tmp_path, pace=0.2), cache=tmp_path)
    begun = time.monotonic()
    for _ in range(3):
        client.pace(Service("lamost", 1.0))
    assert time.monotonic() - begun >= 0.4


def zipped(*members, **given):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, **given) as file:
        for name, body in members:
            file.writestr(name, body)
    return out.getvalue()


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "a/../../b.csv", "C:\\x.csv", "..\\x", "C:/x.csv"]
)
def test_a_zip_that_leads_out_is_refused(tmp_path, name):
    path = tmp_path / "x.zip"
    path.write_bytes(zipped((name, b"hello")))
    with pytest.raises(IntegrityError, match="leads out"):
        checks.archive(path)


def test_bombs_are_refused_before_they_unpack(tmp_path):
    # Deflate packs zeros at most 1032 times (RFC 1951); a bomb announces more than it can hold.
    path = tmp_path / "bomb"
    body = bytearray(zipped(("RVS_RAW.csv", b"0" * 100_000)))
    central = body.rindex(b"PK\x01\x02")
    body[central + 24 : central + 28] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(body)
    begun = time.monotonic()
    with pytest.raises(IntegrityError, match="refused"):
        checks.archive(path)
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 20))
    path.write_bytes(out.getvalue())
    checks.gzipped(path)  # 64 MB of zeros: large, not absurd
    old, checks.UNPACKED = checks.UNPACKED, 1 << 20
    try:
        with pytest.raises(IntegrityError, match="unpack"):
            checks.gzipped(path)
    finally:
        checks.UNPACKED = old
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text"])
def test_a_damaged_zip_is_asked_for_again(tmp_path, damage):
    whole = zipped(("XP_CONTINUOUS_RAW.csv", os.urandom(5000)))
    half = len(whole) // 2
    body = {
        "cut": whole[:half],
        "flip": whole[:half] + bytes([whole[half] ^ 255]) + whole[half + 1 :],
        "empty": b"",
        "text": b"Error 500: null",
    }[damage]
    path = tmp_path / "x.zip"
    path.write_bytes(body)
    with pytest.raises(BadAnswer):
        checks.archive(path)


LAUGHS = b"""<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;&lol;">]>
<VOTABLE><RESOURCE><TABLE><FIELD name="a" datatype="char" arraysize="*"/>
<DATA><TABLEDATA><TR><TD>&lol2;</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""


def test_entities_in_a_votable_are_refused(tmp_path):
    path = tmp_path / "x.xml"
    path.write_bytes(LAUGHS)
    with pytest.raises(IntegrityError, match="entities"):
        votable.read(path)
    path.write_bytes(LAUGHS.replace(b"<!DOCTYPE", b"<!--" + b"x" * (1 << 20) + b"-->\n<!DOCTYPE"))
    with pytest.raises(IntegrityError, match="entities"):
        votable.read(path)
    path.write_bytes(LAUGHS.decode().encode("utf-16"))
    with pytest.raises(BadAnswer, match="not a VOTable"):
        votable.read(path)


@pytest.mark.parametrize("key", ["../x", "a/b", "", "a b", "x\n", "x%2F", "?q", "..", "a..b"])
def test_a_path_like_id_is_refused(key):
    with pytest.raises(IntegrityError, match="cannot be the id"):
        checks.safe_key(key)


def test_a_csv_that_stops_in_the_middle_is_asked_for_again(tmp_path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"hjd,mag\n1,2\n3,4\n")
    checks.csv(path)
    for body in (b"hjd,mag\n1,2\n3,", b"hjd,mag\n1,2\n3\n"):
        path.write_bytes(body)
        with pytest.raises(BadAnswer):
            checks.csv(path)


@pytest.mark.parametrize("name", ["key", "author", "auth", "token", "keyword", "id"])
def test_every_star_has_an_answer_of_its_own_whatever_the_parameter_is_called(client, name):
    def star(request, body):
        return request.path.rpartition("=")[2].encode()

    with Server(routes=[("/file", star)]) as server:
        got = [client.download("test", f"{server.url}/file?{name}={n}") for n in ("11", "12", "11")]
    assert [p.read_bytes() for p in got] == [b"11", b"12", b"11"]
    assert client.learned["http"]["requests"] == 2  # the third is the first again


def test_a_password_in_a_url_is_written_nowhere(client, tmp_path):
    from mmclip import artifacts

    with Server(routes=[("/file", b"hello")]) as server:
        url = server.url.replace("://", "://me:s3cret@") + "/file?api_key=s3cret"
        client.download("test", url)
    entry = cache.Entry("0" * 64, "tap", url, "1" * 64, 5, "now")
    cache.index(client.cache, entry)
    folder = tmp_path / "made"
    folder.mkdir()
    given = {"fetch": {"tap": url, "more": [url]}}
    made = artifacts.seal(folder, "raw", config=given, parents=[], rows={}, surveys=[],
                          provenance={}, seed=1, notes={"service": {"jobs": [url]}})  # fmt: skip
    assert artifacts.read(folder).manifest == made.manifest
    assert "api_key=***" in str(made.manifest.config)
    for file in (f for f in tmp_path.rglob("*") if f.is_file()):
        assert b"s3cret" not in file.read_bytes(), file


def test_two_fetches_fill_one_cache_at_once(tmp_path):
    """Each has every answer, whole; the cache names each once, whoever asked first."""
    size = 40

    def served(request, posted):
        time.sleep(0.002)
        number = int(request.path.rpartition("/")[2])
        return 200, {"ETag": f'"{number}"'}, bytes([number]) * 5000

    def every(order):
        client = Client(**quick(tmp_path), cache=tmp_path / "cache")
        return {n: client.download("test", f"{server.url}/file/{n}").read_bytes() for n in order}

    with Server(routes=[(r"/file/\d+", served)]) as server, ThreadPoolExecutor(3) as pool:
        orders = [range(size), range(size), range(size - 1, -1, -1)]
        found = list(pool.map(every, orders))
    assert all(made == {n: bytes([n]) * 5000 for n in range(size)} for made in found)
    assert len(list(cache.entries(tmp_path / "cache"))) == size
    assert cache.faults(tmp_path / "cache") == []


@pytest.mark.parametrize(
    ("url", "proxy", "said"),
    [
        ("http://stars.invalid/a", "http://me:geheim@127.0.0.1:9", r"proxy named by \$HTTP_PROXY"),
        ("http://stars.invalid/a", "ftp:///x", r"proxy named by \$HTTP_PROXY"),
        ("https://stars.invalid/a", "http://me:geheim@{here}", r"proxy named by \$HTTP_PROXY"),
        ("https://{here}/a", "", "does not speak https"),
    ],
)
def test_what_is_wrong_on_the_way_is_said_and_no_password(
    client, monkeypatch, url, proxy, said, caplog
):
    with Server(routes=[]) as server:
        here = server.url.removeprefix("http://")
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.format(here=here))
        monkeypatch.setenv("no_proxy", "" if proxy else "*")
        with pytest.raises(Unreachable, match=said) as caught:
            client.download("test", url.format(here=here))
    assert "geheim" not in f"{caught.value}{caught.value.hint}{caplog.text}"


def test_a_certificate_that_is_not_trusted_is_named_and_not_asked_for_six_times(
    client, monkeypatch
):
    """The words are those of OpenSSL, as requests hands them on."""
    asked = []

    def refused(*_, **__):
        asked.append(1)
        raise requests.exceptions.SSLError(
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
        )

    monkeypatch.setattr(requests.Session, "request", refused)
    with pytest.raises(Unreachable, match="certificate is not trusted"):
        client.download("test", "https://127.0.0.1:9/a")
    assert len(asked) == 2
