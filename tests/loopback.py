"""A loopback server for tests: files, handlers, and a TAP service that knows a few stars.

The TAP part speaks UWS as the standard has it (303 to the job, PHASE, results/result). It does not
understand ADQL: it reads which columns are selected and which ids are wanted, and answers from
invented rows. `../shared/services/tap` runs the queries for real.
"""

import io
import re
import threading
import time
import urllib.parse
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from astropy.table import Table

COLUMN = re.compile(r"(?:[\w.]+\.)?(\w+)(?:\s+AS\s+(\w+))?$", re.IGNORECASE)


def votable(rows, names, status="OK"):
    """Rows (dicts) as a VOTable with a query status; an unknown value is a null."""
    columns = {}
    for name in names:
        values = [r.get(name) for r in rows]
        hidden = [v is None for v in values]
        known = next((v for v in values if v is not None), 0.0)
        fill = "" if isinstance(known, str) else type(known)(0)
        data = [fill if v is None else v for v in values]
        kind = np.int64 if isinstance(known, int) and not isinstance(known, bool) else None
        columns[name] = np.ma.MaskedArray(np.array(data, kind), mask=hidden)
    out = io.BytesIO()
    Table(columns, names=names).write(out, format="votable")
    mark = f'<INFO name="QUERY_STATUS" value="{status}"/>'.encode()
    return re.sub(rb"(<RESOURCE[^>]*>)", rb"\1" + mark, out.getvalue(), count=1)


class Stars:
    """Invented stars that a query may ask for: rows by source_id, and DR2 neighbours."""

    def __init__(self, rows, neighbours=()):
        self.rows = {r["source_id"]: r for r in rows}
        self.neighbours = list(neighbours)
        self.most = 10**9

    def answer(self, query, uploaded):
        names = [
            next(n for n in COLUMN.search(c.strip()).groups()[::-1] if n)
            for c in re.sub(r"SELECT(\s+TOP\s+\d+)?\s", "", query.split("FROM")[0]).split(",")
        ]
        if "_neighbourhood" in query:
            side = re.search(r"ON n\.(\w+) = u\.", query)[1]
            rows = [n for n in self.neighbours if n[side] in uploaded]
        elif uploaded is not None:
            rows = [self.rows[i] for i in sorted(uploaded) if i in self.rows]
        else:
            rows = sorted(self.rows.values(), key=lambda r: r["source_id"])
            for low, high in re.findall(r"source_id BETWEEN (\d+) AND (\d+)", query):
                rows = [r for r in rows if int(low) <= r["source_id"] <= int(high)]
            top = re.search(r"TOP (\d+)", query)
            rows = rows[: int(top[1])] if top else rows
        cut = len(rows) > self.most
        return votable(rows[: self.most], names, "OVERFLOW" if cut else "OK")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *a):
        pass

    def handle_one(self):
        server = self.server
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b""
        split = urllib.parse.urlsplit(self.path)
        server.log.append((self.command, self.path, body, dict(self.headers)))
        for pattern, handler in server.routes:
            match = re.fullmatch(pattern, split.path)
            if match:
                answer = handler(self, body) if callable(handler) else handler
                break
        else:
            answer = self.tap(split.path, body) or (404, {}, b"nothing here\n")
        if answer == "drop":
            self.close_connection = True
            self.connection.close()
            return
        if isinstance(answer, bytes):
            answer = (200, {}, answer)
        status, headers, out = answer
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(out)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(out)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = handle_one

    def fields(self, body):
        kind = self.headers.get("Content-Type") or ""
        if "multipart" not in kind:
            return dict(urllib.parse.parse_qsl(body.decode())), None
        parts = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
        found, table = {}, None
        for part in parts.get_payload():
            name = re.search('name="([^"]+)"', part["Content-Disposition"])[1]
            if "filename=" in part["Content-Disposition"]:
                read = Table.read(io.BytesIO(part.get_payload(decode=True)), format="votable")
                table = {int(i) for i in read[read.colnames[0]]}
            else:
                found[name] = part.get_payload(decode=True).decode()
        return found, table

    def tap(self, path, body):
        match = re.fullmatch(r"(?:/tap-server)?/tap/async(?:/(\w+))?(/.*)?", path)
        server = self.server
        if match is None or server.stars is None:
            return None
        job, rest = match[1], match[2] or ""
        if job is None:
            given, table = self.fields(body)
            query = {k.upper(): v for k, v in given.items()}["QUERY"]
            job = f"j{len(server.jobs) + 1}"
            server.jobs[job] = {"query": query, "ids": table, "phase": "PENDING", "polls": 0}
            where = f"http://{self.headers['Host']}{path}/{job}"
            return 303, {"Location": where}, b""
        if job not in server.jobs:
            return 404, {}, b"no such job\n"
        held = server.jobs[job]
        if self.command == "DELETE":
            del server.jobs[job]
            return 303, {"Location": "/"}, b""
        if rest == "/phase" and self.command == "POST":
            held["phase"] = "EXECUTING"
            return 303, {"Location": f"/tap/async/{job}"}, b""
        if rest == "/phase":
            held["polls"] += 1
            if held["phase"] == "EXECUTING" and held["polls"] > server.polls:
                held["phase"] = "COMPLETED"
            return held["phase"].encode()
        if rest == "/results/result":
            return server.stars.answer(held["query"], held["ids"])
        return 200, {}, b"ok\n"


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, stars=None, routes=(), polls=0):
        super().__init__(("127.0.0.1", 0), Handler)
        self.stars, self.routes, self.polls = stars, list(routes), polls
        self.jobs, self.log = {}, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request, address):
        pass

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *a):
        self.shutdown()
        self.server_close()

    def queries(self):
        """Every query that was posted."""
        asked = []
        for method, path, body, _ in self.log:
            if method == "POST" and path.endswith("/async"):
                asked.append(body.decode("utf-8", "replace"))
        return asked


def stars(count=40, seed=7):
    """Invented rows of gaia_source with every third RVS, and ids beyond 2^53."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        source_id = 3_000_000_000_000_000_001 + i * 34_359_738_368
        g = float(rng.uniform(8, 16))
        rows.append(
            {
                "source_id": source_id, "ra": float(45 + 2 * rng.random()),
                "dec": float(0.5 + 2 * rng.random()), "parallax": float(rng.uniform(0.2, 9)),
                "parallax_error": 0.02, "pmra": float(rng.normal(0, 12)),
                "pmdec": float(rng.normal(0, 12)), "ruwe": 1.02, "ref_epoch": 2016.0,
                "phot_g_mean_mag": g, "bp_rp": 0.8, "j_m": g - 1.1, "h_m": g - 1.4,
                "ks_m": g - 1.5, "tmass_ph_qual": "AAA", "teff_gspphot": 5000.0 + 10 * i,
                "has_xp_continuous": "t", "has_xp_sampled": "t",
                "has_rvs": "t" if i % 2 == 0 else "f", "random_index": i,
            }
        )  # fmt: skip
    return rows


def tables(**schemas):
    """A VOSI list of tables: schema -> table -> column -> kind of its values."""
    ns = 'xmlns:v="http://www.ivoa.net/xml/VOSITables/v1.0"'
    body = ""
    for schema, held in schemas.items():
        listed = ""
        for table, columns in held.items():
            each = "".join(
                f"<column><name>{n}</name><dataType>{k}</dataType></column>"
                for n, k in columns.items()
            )
            listed += f"<table><name>{schema}.{table}</name>{each}</table>"
        body += f"<schema><name>{schema}</name>{listed}</schema>"
    return f'<?xml version="1.0"?><v:tableset {ns}>{body}</v:tableset>'.encode()


def wait_until(true, seconds=10.0):
    """Wait until a condition holds."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
