"""The model that travels with mmclip: what it is, what it weighs, and that it answers at once."""

import hashlib
import re
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmclip import artifacts
from mmclip.artifacts import bundled
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.errors import IntegrityError, NotFound
from mmclip.report import demo
from tests.conftest import fetch_made, made_stars


def weights():
    return sorted(bundled.FOLDER.glob("*/*.safetensors"))


def test_the_weights_are_below_five_megabytes_and_those_of_the_card():
    assert sum(p.stat().st_size for p in weights()) < 5_000_000
    card = bundled.CARD.read_text()
    told = dict(re.findall(r"\| `(.*?)` \| [\d,]+ \| `([0-9a-f]{64})` \|", card))
    assert told == {
        p.relative_to(bundled.FOLDER).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in weights()
    }
    for word in ("Licence", "Made by", "Learned from", "Not for", "examples/demo_model.py"):
        assert word in card


@pytest.mark.parametrize("kind", bundled.KINDS)
def test_every_file_is_what_its_manifest_says(kind):
    artifact = artifacts.verify(artifacts.read(bundled.FOLDER / kind))
    assert artifact.manifest.kind == kind
    assert artifact.manifest.surveys[0]["name"] == "demo"


def test_no_one_takes_it_for_the_newest(tmp_path):
    space = Workspace(tmp_path)
    found = space.get("head", "bundled")
    assert found.path == tmp_path / "heads" / "bundled"
    own = tmp_path / "heads" / "own"
    shutil.copytree(found.path, own)
    assert space.get("head", "bundled").path == found.path
    assert space.get("head").path == own


def test_a_changed_file_is_refused_and_nothing_is_left(tmp_path, monkeypatch):
    shutil.copytree(bundled.FOLDER / "head", tmp_path / "package" / "head")
    monkeypatch.setattr(bundled, "FOLDER", tmp_path / "package")
    file = tmp_path / "package" / "head" / "head.safetensors"
    body = bytearray(file.read_bytes())
    body[-1] ^= 1
    file.write_bytes(body)
    with pytest.raises(IntegrityError):
        Workspace(tmp_path).get("head", "bundled")
    assert list((tmp_path / "heads").iterdir()) == []
    with pytest.raises(NotFound, match="no bundled run"):
        Workspace(tmp_path).get("run", "bundled")


def test_made_stars_are_answered_or_flagged_without_any_training(tmp_path):
    fetch_made(tmp_path, made_stars(60))
    w = ["-w", str(tmp_path)]
    assert run(["preprocess", "--name", "d", *w]) == 0
    file = tmp_path / "labels.parquet"
    assert run(["predict", "--head", "bundled", "--data", "d", "-o", str(file), *w]) == 0
    found = pq.read_table(file)
    assert found.num_rows == 60
    value = found["teff"].to_numpy()
    answered = np.isfinite(value)
    # Planck curves are no spectra of stars: what is not answered says so.
    flags = np.array(found["flags"].to_pylist())
    assert all("abstained" in f for f in flags[~answered])
    assert (found["teff_lower95"].to_numpy() <= value)[answered].all()
    assert run(["embed", "--run", "bundled", "--data", "d", *w]) == 0
    assert run(["search", "--query-id", "-k", "2", *w]) == 0


def test_the_card_says_how_good_every_method_was_on_all_test_stars():
    rows = {row["method"]: row for row in demo.card_rows()}
    assert rows["one network"]["R2 of logg"] > rows["plain network, 40 components"]["R2 of logg"]
    assert all(
        set(row) == {"method", *(f"R2 of {n}" for n in demo.TARGETS)} for row in rows.values()
    )
