"""Artefacts as older versions wrote them are read, or refused by one sentence that names why."""

import json
import re
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmclip import __version__, artifacts
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.errors import INTEGRITY

FORMATS = Path(__file__).parent / "formats"
ARCHIVES = sorted(FORMATS.glob("*.tar.xz"))
FIRST = {"adapter": "2-adapter", "encoder": "3-encoder", "map": "4-map", "decoder": "5-decoder",
         "generated": "5-decoder", "index": "8-index"}  # fmt: skip
# What each kind is asked: its artefact is read by this command.
QUESTIONS = {
    "raw": ["preprocess", "--raw", "made", "--name", "again"],
    "data": ["preprocess", "--raw", "made", "--like", "stars", "--name", "alike"],
    "run": ["embed", "--run", "model", "--data", "stars", "--name", "again"],
    "vectors": ["search", "--query-id", "ID", "-k", "3", "--json", "--vectors", "model"],
    "decoder": ["generate", "--from", "metadata", "--to", "xp", "--query-id", "ID", "--decoder",
                "mlp", "--vectors", "model"],
    "adapter": ["adapt", "--from", "adapters/carried", "--data", "stars"],
    "index": ["search", "--query-id", "ID", "--index", "parts", "--vectors", "model"],
    "map": ["map", "--vectors", "model", "--colour", "teff"],  # the map that was fitted before
}  # fmt: skip
QUICK = ["generate", "--from", "metadata", "--to", "xp", "--query-id", "ID", "--decoder", "run",
         "--vectors", "model"]  # fmt: skip


# Made before draws were carried to the law of the observations: what that needs was not measured.
REFUSED = {("5-decoder", "decoder"): "'drawn'", ("6-settings", "decoder"): "'drawn'"}


def held(archive):
    """(kind, name) of every artefact in an archive."""
    with tarfile.open(archive) as body:
        found = [Path(n).parts for n in body.getnames() if n.endswith("/manifest.json")]
    folders = {"runs": "run", "decoders": "decoder", "adapters": "adapter", "encoders": "encoder",
               "maps": "map", "reports": "report", "indexes": "index"}  # fmt: skip
    return [(folders.get(folder, folder), name) for _, folder, name, _ in found]


EVERY = [(a, *what) for a in ARCHIVES for what in held(a)]
NAMES = [f"{a.name.split('.')[0]}-{kind}" for a, kind, _ in EVERY]


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    made = {}

    def space(archive):
        if archive not in made:
            made[archive] = tmp_path_factory.mktemp("format")
            with tarfile.open(archive) as body:
                body.extractall(made[archive], filter="data")
        return Workspace(made[archive] / "mmclip-work")

    return space


def ask(space, question):
    ids = pq.read_table(space.get("vectors", "model").path / "vectors.parquet")["source_id"]
    words = [str(ids[0]) if w == "ID" else w for w in question]
    return run([*words, "--workspace", str(space.root)])


def test_every_kind_is_kept_from_its_first_version_on():
    # A head is of the version in the making: its archive is made with the release.
    for kind in sorted(set(artifacts.KINDS) - {"head"}):
        since = FIRST.get(kind, "1-first")
        archives = {a.name.split(".")[0] for a, k, _ in EVERY if k == kind}
        assert since in archives
        assert ARCHIVES[-1].name.split(".")[0] in archives


@pytest.mark.parametrize(("archive", "kind", "name"), EVERY, ids=NAMES)
def test_an_old_artefact_is_whole_and_described(unpacked, archive, kind, name, capsys):
    space = unpacked(archive)
    artifact = space.get(kind, name)
    assert artifact.manifest.kind == kind
    assert run(["verify", str(artifact.path)]) == 0
    assert run(["info", str(artifact.path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["fingerprint"] == artifact.manifest.fingerprint
    assert run(["info", str(artifact.path), "--lineage", "-w", str(space.root)]) == 0


@pytest.mark.parametrize(
    ("archive", "kind"),
    [(a, k) for a, k, _ in EVERY if k in QUESTIONS],
    ids=[n for n, (_, k, _) in zip(NAMES, EVERY, strict=True) if k in QUESTIONS],
)
def test_an_old_artefact_answers_or_is_refused_by_name(
    unpacked, archive, kind, monkeypatch, tmp_path, capsys
):
    monkeypatch.chdir(tmp_path)
    maps = len(unpacked(archive).all("map"))
    lacks = REFUSED.get((archive.name.split(".")[0], kind))
    assert ask(unpacked(archive), QUESTIONS[kind]) == (INTEGRITY if lacks else 0)
    if lacks:
        said = capsys.readouterr().err
        assert f"written by mmclip 0.1.0, is not as mmclip {__version__} reads it" in said
        assert lacks in said
        assert "make it again with: mmclip train-decoder" in said
    assert len(unpacked(archive).all("map")) == maps


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda a: a.name.split(".")[0])
def test_the_quick_decoder_of_an_old_run_generates(unpacked, archive):
    assert ask(unpacked(archive), QUICK) == 0


@pytest.mark.parametrize("archive", ARCHIVES, ids=lambda a: a.name.split(".")[0])
def test_an_old_run_gives_the_vectors_that_it_gave(unpacked, archive):
    import numpy as np

    from mmclip.clip.run import open_run
    from mmclip.datasets.build import open_dataset
    from mmclip.tasks.embed import vectors_of
    from mmclip.vectors.store import Store

    space = unpacked(archive)
    then = Store(space.get("vectors", "model"))
    now = vectors_of(open_dataset(space.get("data", "stars")), open_run(space.get("run", "model")))
    for view in then.modalities:
        np.testing.assert_allclose(now[view], then.vectors(view), atol=1e-5)


@pytest.mark.parametrize(
    "archive", [a for a, k, _ in EVERY if k == "encoder"], ids=lambda a: a.name.split(".")[0]
)
def test_an_old_encoder_opens(unpacked, archive):
    from mmclip.tasks.pretrain import open_encoder

    encoder, settings = open_encoder(unpacked(archive).get("encoder", "self"))
    assert settings.modality == "xp"
    assert sum(p.numel() for p in encoder.parameters()) > 0


@pytest.mark.parametrize(
    "archive", [a for a, k, _ in EVERY if k == "generated"], ids=lambda a: a.name.split(".")[0]
)
def test_old_generated_spectra_are_plain_parquet(unpacked, archive):
    artifact = unpacked(archive).get("generated", "mlp")
    tables = [pq.read_table(artifact.path / n) for n in artifact.manifest.files]
    assert sum(t.num_rows for t in tables) == artifact.manifest.rows["objects"]
    assert {"source_id", "generated", "sigma"} <= set(tables[0].column_names)


def edit(path, **changes):
    file = path / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("kind", artifacts.KINDS)
@pytest.mark.parametrize("version", [0, 2, 99, "2"])
def test_another_format_version_is_refused_by_name(tmp_path, capsys, kind, version):
    folder = tmp_path / "a"
    with artifacts.building(folder) as made:
        (made / "x").write_text("x")
        artifacts.seal(made, kind, config={}, parents=[], rows={}, surveys=[], provenance={},
                       seed=None)  # fmt: skip
    edit(folder, format_version=version, mmclip_version="9.1")
    for command in (["info", folder], ["verify", folder], ["reproduce", folder]):
        assert run([str(w) for w in command]) == INTEGRITY
        shown = capsys.readouterr()
        assert f"format version {version}; this mmclip reads 1" in shown.err
        assert "9.1" in shown.err
        assert "Traceback" not in shown.err


@pytest.mark.parametrize("kind", sorted(QUESTIONS))
def test_a_question_to_a_newer_artefact_is_refused_by_name(unpacked, tmp_path, capsys, kind):
    import shutil

    shutil.copytree(unpacked(ARCHIVES[-1]).root, tmp_path / "w")
    space = Workspace(tmp_path / "w")
    ids = pq.read_table(space.get("vectors", "model").path / "vectors.parquet")["source_id"]
    question = [str(ids[0]) if w == "ID" else w for w in QUESTIONS[kind]]
    for artifact in space.all(kind):
        edit(artifact.path, format_version=2, mmclip_version="9.1")
    assert run([*question, "--workspace", str(space.root)]) == INTEGRITY
    assert re.search(
        r"^mmclip: \S+ has format version 2; this mmclip", capsys.readouterr().err, re.M
    )


def test_a_newer_manifest_that_lacks_what_this_one_needs_is_refused_by_name(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text('{"format_version": 3, "mmclip_version": "9.1"}')
    assert run(["info", str(tmp_path)]) == INTEGRITY
    assert "format version 3" in capsys.readouterr().err


def test_a_manifest_with_an_unknown_field_is_refused_by_name(unpacked, tmp_path, capsys):
    import shutil

    shutil.copytree(unpacked(ARCHIVES[0]).get("raw").path, tmp_path / "raw")
    edit(tmp_path / "raw", licence="CC", mmclip_version="9.1")
    assert run(["info", str(tmp_path / "raw")]) == INTEGRITY
    said = capsys.readouterr().err
    assert f"written by mmclip 9.1: this mmclip, {__version__}, does not know 'licence'" in said
