"""Shared fixtures: no network, one small trained workspace."""

import shutil
import socket

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from mmclip import compiled
from mmclip.cli import run
from mmclip.datasets import ingest
from mmclip.surveys import Fetched, Survey
from mmclip.surveys.demo import table

compiled.limit_threads()  # whoever imports numba first
# How fast examples are made says how busy the machine is, nothing of the program.
settings.register_profile("any load", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any load")
LOOPBACK = ("127.", "localhost", "::1")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    """Only loopback addresses may be reached."""
    connect = socket.socket.connect

    def guarded(self, address):
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise OSError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


def made_stars(count=400, seed=0):
    """Planck-like spectra and magnitudes of made stars that differ in temperature; a Fetched."""
    rng = np.random.default_rng(seed)
    teff = rng.uniform(3500, 8000, count)
    wavelength = np.arange(336.0, 1021.0, 2.0)
    flux = wavelength**-5 / np.expm1(14.388e6 / (wavelength * teff[:, None]))
    flux = flux / np.median(flux, axis=1, keepdims=True)
    error = 0.01 * flux
    flux = flux + error * rng.normal(size=flux.shape)
    ids = np.sort(rng.choice(2**50, count, replace=False).astype(np.int64) * 6000 + 7)
    colour = 1.5 - (teff - 3500) / 4500
    g = rng.uniform(9, 14, count)
    magnitudes = {
        "phot_g_mean_mag": g,
        "j_m": g - colour,
        "h_m": g - 1.3 * colour,
        "ks_m": g - 1.4 * colour,
    }
    classes = np.where(teff < 5000, "ROT", "DSCT")
    return Fetched(
        {
            "objects": table(
                {"source_id": ids, "ra": rng.uniform(0, 360, count), "dec": np.zeros(count),
                 "teff": teff, "class": classes}
            ),
            "metadata": table({"source_id": ids, **magnitudes}),
            "xp": table(
                {"source_id": ids, "flux": flux.astype("f4"), "flux_error": error.astype("f4")}
            ),
        },
        {"metadata": "observed", "xp": "observed"},
    )  # fmt: skip


def made_survey(fetched):
    """A survey that gives what it is told to give."""
    return Survey("made", "made stars", "1", (), lambda request: fetched)


def fetch_made(root, fetched, name="made"):
    """Write made stars as a raw artefact of a workspace."""
    from mmclip.surveys import Request

    return ingest.collect(made_survey(fetched), Request(), root / "raw" / name, True)


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """What `trained` is a copy of; no test takes it by itself."""
    root = tmp_path_factory.mktemp("work")
    fetch_made(root, made_stars())
    w = ["--workspace", str(root)]
    assert run(["preprocess", *w]) == 0
    assert run(["train", "--epochs", "8", "--batch", "128", *w]) == 0
    assert run(["embed", *w]) == 0
    return root


@pytest.fixture(scope="module")
def trained(trained_once, tmp_path_factory):
    """A workspace that went through every stage on 400 made stars; one for each file of tests."""
    return shutil.copytree(trained_once, tmp_path_factory.mktemp("trained") / "w")


@pytest.fixture(scope="session")
def forks():
    """Commands in processes of their own, forked from one that has imported the libraries."""
    from tests.forks import Forks

    with Forks() as made:
        yield made
