"""The stand-in archive and the real TAP server, when they are there."""

import dataclasses
import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest


def services(*parts: str) -> Path:
    """A path under the shared services; skips the test when it is absent."""
    beside = Path(__file__).parents[2] / "shared" / "services"
    path = Path(os.environ.get("MMCLIP_SHARED_SERVICES", beside)).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"test services absent: {path} (set MMCLIP_SHARED_SERVICES)")
    return path


def archive(data: Path, upstream: str | None = None):
    """The stand-in archive in a thread, with its invented sample in `data`; (server, URL)."""
    folder = services("archive_sim")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    if not (data / "rvs.parquet").exists():
        subprocess.run([sys.executable, str(folder / "make_sample.py"), str(data)], check=True)
    server = importlib.import_module("server").make(str(data), 0, upstream)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


SURVEYS = {  # how a test writes a setting of a survey -> its class; the rest of the word its name
    "gaia": "gaia.settings", "gaia4": "gaia.settings", "asassn": "asassn.settings",
    "skypatrol": "asassn.settings",
    "lamost": "lamost", "desi": "desi", "galaxies": "desi_galaxies",
    "provabgs": "provabgs", "legacy": "legacy", "apogee": "apogee", "vizier": "vizier",
}  # fmt: skip


def quick(tmp_path, url="http://127.0.0.1:9", **more):
    """Settings for services of our own: no politeness, little patience.

    Settings of a survey begin with its name (`lamost_url`); the result goes into `Client(**...)`.
    """
    from mmclip.surveys.client.settings import Settings

    given = {
        "pace": 0.0, "backoff": 0.02, "backoff_most": 0.1, "stall": 10.0, "connect": 2.0,
        "floor": 20000.0, "floor_window": 0.3, "tap_poll": 0.02, "tap_patience": 10.0, "tries": 4,
        "gaia_tap": f"{url}/tap-server/tap", "gaia_data": f"{url}/data-server", "gaia_chunk": 15,
        "gaia_chunk_smallest": 5,
    } | more  # fmt: skip
    own = {f.name for f in dataclasses.fields(Settings)}
    of: dict = {}
    for key, value in given.items():
        if key not in own:
            family, _, name = key.partition("_")
            module = importlib.import_module(f"mmclip.surveys.{SURVEYS[family]}")
            kind = module.Dr4Settings if family == "gaia4" else module.Settings
            of.setdefault(kind, {})[key if family == "skypatrol" else name] = value
    return {
        "settings": Settings(**{k: v for k, v in given.items() if k in own}),
        "own": tuple(kind(**values) for kind, values in of.items()),
    }


def own(kind, **given):
    """One survey's settings out of `quick`."""
    return next(one for one in quick(None, **given)["own"] if type(one) is kind)
