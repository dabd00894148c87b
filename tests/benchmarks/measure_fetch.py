"""How much memory and time a large fetch takes, against the stand-in archive on this machine.

    python -m tests.benchmarks.measure_fetch 10000 30000 100000
    python -m tests.benchmarks.measure_fetch --dr4 100000

With `--dr4` the service is of our own and like Gaia DR4: 48 BP and 44 RP coefficients with their
covariances, RVS spectra of 1201 samples, epoch photometry, graded flags.
Stars are invented on the fly (the stand-in would not hold them in memory). Client and server are
two processes; the figures are the client's.
"""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from pathlib import Path

CLIENT = """
import resource, sys, time
sys.path.insert(0, {root!r})
from pathlib import Path
from mmclip.datasets import ingest
from mmclip.surveys import Request, gaia_dr3, gaia_dr4
from mmclip.surveys.client.http import Client
from mmclip.surveys.client.settings import Settings
from mmclip.surveys.gaia.settings import Dr4Settings, Settings as Gaia
four = {four!r}
own = (Dr4Settings(tap={url!r} + "/tap", data={url!r}) if four else
       Gaia(tap={url!r} + "/tap-server/tap", data={url!r} + "/data-server"))
client = Client(settings=Settings(pace=0.0, tap_poll=0.02), own=(own,), cache=Path({cache!r}))
ids = tuple(3_000_000_000_000_000_001 + i * 34_359_738_368 for i in range({count}))
import pyarrow, astropy.table, astropy.io.votable, requests
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
begun = time.time()
request = Request(ids=ids, products=("xp", "rvs", "photometry") if four else ("xp",))
survey = (gaia_dr4 if four else gaia_dr3).SURVEY
made = ingest.collect(survey, request, Path({final!r}), False, client)
seconds = time.time() - begun
used = resource.getrusage(resource.RUSAGE_SELF)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
rows = made.manifest.rows
size = sum(f["bytes"] for f in made.manifest.files.values())
print({count}, rows["objects"], rows["xp_coefficients"], rows["missing"], f"{{seconds:.1f}} s,",
      f"{{used.ru_utime + used.ru_stime:.1f}} s of CPU,",
      f"{{before / 1024:.0f}} MiB before, {{peak / 1024:.0f}} MiB at the peak,",
      f"{{size / 1e6:.0f}} MB written")
"""


class Invented(dict):
    """Rows of a product by source_id, made from a few sample rows."""

    def __init__(self, rows):
        super().__init__()
        self.samples = list(rows.values())

    def __contains__(self, source_id):
        return True

    def __getitem__(self, source_id):
        return self.samples[source_id % len(self.samples)] | {"source_id": source_id}

    def get(self, source_id, default=None):
        return self[source_id]


class InventedStars:
    """The row of any star."""

    def __init__(self, row):
        self.row = row

    def __contains__(self, source_id):
        return True

    def __getitem__(self, source_id):
        return self.row | {"source_id": source_id}


def serve(folder):
    from tests.loopback import Server, Stars, stars
    from tests.services import archive

    tap = Server(Stars(stars()))
    tap.stars.rows = InventedStars(stars()[0])
    threading.Thread(target=tap.serve_forever, daemon=True).start()
    server, url = archive(Path(folder), tap.url)
    server.store.dl["XP_CONTINUOUS"] = Invented(server.store.dl["XP_CONTINUOUS"])
    print(url, flush=True)
    threading.Event().wait()


def serve_like_dr4():
    """TAP and DataLink as DR4 is said to be; answers to every chunk are packed once."""
    import numpy as np
    from astropy.io import fits
    from astropy.table import Table

    from tests.loopback import Server, Stars, stars
    from tests.surveys import test_gaia_releases as like

    row = stars(2)[1] | {"has_mean_spectrum_xp": 3, "has_mean_spectrum_rvs": 1,
                         "has_epoch_photometry": "t", "teff_xp": 5000.0,
                         "teff_rvs": 5100.0}  # fmt: skip
    held = {}

    def data(request, body):
        given = request.fields(body)[0]
        kind, ids = given["RETRIEVAL_TYPE"], [int(i) for i in given["ID"].split(",")]
        if (kind, len(ids)) not in held:
            out = io.BytesIO()
            Table(like.KINDS[kind]("dr4", ids)).write(out, format="fits")
            with fits.open(io.BytesIO(out.getvalue())) as units:
                start, rows = units[1].fileinfo()["datLoc"], units[1].data.dtype
            held[kind, len(ids)] = bytearray(out.getvalue()), start, rows
        body, start, rows = held[kind, len(ids)]
        np.frombuffer(body, rows, len(ids), start)["source_id"][:] = ids
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr(f"{kind}_RAW.fits", bytes(body))
        return packed.getvalue()

    server = Server(Stars([]), [("/data", data), ("/tap/tables", like.TABLES)])
    server.stars.rows = InventedStars(row)
    print(server.url, flush=True)
    server.serve_forever()


def measure(count, url, root, four=False):
    script = CLIENT.format(
        root=str(Path(__file__).parents[2]), url=url, cache=f"{root}/cache", count=count,
        final=f"{root}/raw/gaia", four=four,
    )  # fmt: skip
    subprocess.run([sys.executable, "-c", script], check=True)


def main(counts, four=False):
    with tempfile.TemporaryDirectory() as data:
        environment = dict(os.environ)
        server = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.measure_fetch",
             *(["--serve-dr4"] if four else ["--serve", data])],
            stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        url = server.stdout.readline().strip()
        try:
            for count in counts:
                with tempfile.TemporaryDirectory() as root:
                    measure(count, url, root, four)
        finally:
            server.kill()


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(sys.argv[2])
    elif sys.argv[1] == "--serve-dr4":
        serve_like_dr4()
    else:
        print(json.dumps({"started": time.strftime("%Y-%m-%d")}))
        main([int(n) for n in sys.argv[1:] if n != "--dr4"], "--dr4" in sys.argv)
