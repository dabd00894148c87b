"""A package outside mmclip adds one of each plug-in, and goes from fetch to export.

Once its plug-ins are announced as entry points, once they are named by dotted module names. Nothing
of mmclip is edited and nothing of the package knows how it is found.
"""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from mmclip import artifacts, plugins
from mmclip.errors import NotFound, UsageError
from mmclip.modalities import registry
from tests.cli.test_cli import ask
from tests.loopback import Server

STARS, PIXELS = 120, 24

MODALITY = '''
"""Echelle orders: 24 counts, over their mean."""

from dataclasses import dataclass
from functools import partial

import numpy as np

from mmclip.modalities import Column, Modality, Prepared


@dataclass(frozen=True)
class Settings:
    floor: float = 0.0


def prepare(columns, settings):
    counts = np.asarray(columns["counts"], np.float64)
    mean = np.nanmean(np.where(counts > settings.floor, counts, np.nan), axis=1)
    reasons = np.where(mean > 0, "", "no counts").astype(object)
    with np.errstate(invalid="ignore", divide="ignore"):
        return Prepared((counts / mean[:, None]).astype(np.float32), None, reasons)


def configure(settings):
    return Modality(
        name="echelle",
        title="Echelle order",
        columns=(
            Column("counts", "electron", "of each pixel", 24, aliases=("adu",)),
            Column("airmass", "", "of the exposure", 1, True, number="float64"),
        ),
        labels=lambda: [f"pixel {k}" for k in range(24)],
        unit="counts / mean",
        prepare=partial(prepare, settings=settings),
        encoder="NAMED.pool",
        kind="spectrum",
        decoder="NAMED.line",
        axis=lambda: np.linspace(500.0, 510.0, 24),
        axis_unit="nm",
        settings=settings,
        configure=configure,
    )


MODALITY = configure(Settings())
'''

SURVEY = '''
"""A list of stars and a file of counts for each, from a server that the settings name."""

import json
from dataclasses import dataclass

import pyarrow as pa

from PACKAGE.echelle import MODALITY
from mmclip.modalities.tables import raw_table
from mmclip.surveys import Piece, Selection, Step, Survey


@dataclass(frozen=True)
class Settings:
    address: str = "http://127.0.0.1:9"
    at_once: int = 60


def answer(client, path):
    url = f"{client.of(Settings).address}/{path}"
    return json.loads(client.download("toysky", url).read_bytes())


def select(request, client):
    stars = answer(client, "stars")
    return Selection(pa.table(stars).sort_by("source_id"), ("GET stars",))


def steps(request, client, selected):
    size = client.of(Settings).at_once
    return [
        Step(f"stars-{start:04d}", lambda start=start: piece(client, selected.slice(start, size)))
        for start in range(0, selected.num_rows, size)
    ]


def piece(client, stars):
    ids = stars["source_id"].to_pylist()
    counts = answer(client, f"counts/{ids[0]}/{len(ids)}")
    magnitudes = [c for c in stars.column_names if c.endswith("_m") or c.endswith("_mag")]
    tables = {
        "objects": stars.select(["source_id", "ra", "dec", "teff"]),
        "metadata": stars.select(["source_id", *magnitudes]),
        "echelle": raw_table(MODALITY, ids, {"counts": counts}),
    }
    return Piece(tables)


SURVEY = Survey(
    name="toysky", title="Made stars", release="1", citations=("2026Toy...1....1X",),
    select=select, steps=steps, settings=Settings,
)
'''

ENCODER = '''
"""Pairs of pixels, averaged."""

from dataclasses import dataclass

from torch import nn

from mmclip.encoders import Encoder, seen, settings


@dataclass(frozen=True)
class Options:
    hidden: int = 16


class Pool(nn.Module):
    def __init__(self, size, config):
        super().__init__()
        hidden = settings(Options, "pool", config).hidden
        self.net = nn.Sequential(
            nn.Linear(size[0] // 2, hidden), nn.GELU(), nn.Linear(hidden, config.width)
        )

    def forward(self, values, mask):
        return self.net(seen(values, mask).unflatten(1, (-1, 2)).mean(-1))


ENCODER = Encoder("pool", Pool, options=Options, axes=(1,))
'''

DECODER = '''
"""A straight map from vectors to the view."""

import math

import torch
from torch import nn

from mmclip.decoders import Decoder


class Line(nn.Module):
    def __init__(self, dimension, size):
        super().__init__()
        self.net = nn.Linear(dimension, math.prod(size))

    def forward(self, vectors):
        mean = self.net(vectors)
        return mean, torch.zeros_like(mean)


DECODER = Decoder("line", Line, probabilistic=False)
'''

READER = '''
"""Logs of the spectrograph: `TOYLOG`, then a line an exposure: name, airmass, counts."""

import numpy as np
import pyarrow as pa

from mmclip.readers import Reader, views
from mmclip.modalities import registry


def read(source, modality, options):
    lines = [line.split() for line in source.decode().splitlines()[1:]]
    names = [line[0] for line in lines]
    return views.observations(
        modality,
        {"counts": [np.array(line[2:], float) for line in lines]},
        source_id=pa.nulls(len(lines), pa.int64()),
        object_name=pa.array(names),
        reasons=[""] * len(lines),
        labels={"airmass": pa.array([float(line[1]) for line in lines])},
        survey="toylog",
    )


READER = Reader("log", lambda source, units: source.startswith(b"TOYLOG"), read, ("echelle",))
'''

FILES = {
    "echelle": MODALITY, "sky": SURVEY, "pool": ENCODER, "line": DECODER, "log": READER,
}  # fmt: skip
GROUPS = {
    "modalities": ("echelle", "echelle"), "surveys": ("toysky", "sky"),
    "encoders": ("pool", "pool"), "decoders": ("line", "line"), "readers": ("log", "log"),
}  # fmt: skip


def package(folder, name, announced):
    """Write the package; announced by a made distribution beside it, or not."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text('"""A lab\'s own plug-ins."""\n')
    for module, text in FILES.items():
        named = text.replace('"NAMED.', '"' if announced else f'"{name}.')
        (folder / name / f"{module}.py").write_text(named.replace("PACKAGE", name).lstrip())
    if announced:
        info = folder / f"{name}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = [
            f"[mmclip.{group}]\n{point} = {name}.{module}\n"
            for group, (point, module) in GROUPS.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))


def sky(count=STARS):
    """Stars whose counts slope with their temperature, as a server answers for them."""
    rng = np.random.default_rng(5)
    ids = np.sort(rng.choice(2**50, count, replace=False).astype(np.int64) * 6000 + 7)
    teff = rng.uniform(3500, 8000, count)
    slope = (teff - 5750) / 4500
    counts = 1000 * (1 + slope[:, None] * np.linspace(-0.5, 0.5, PIXELS))
    counts = rng.poisson(counts)
    g = rng.uniform(9, 14, count)
    stars = {
        "source_id": ids.tolist(), "ra": rng.uniform(0, 360, count).tolist(),
        "dec": rng.uniform(-60, 60, count).tolist(), "teff": teff.tolist(),
        "phot_g_mean_mag": g.tolist(), "j_m": (g - 1.5 + slope).tolist(),
        "h_m": (g - 1.6 + 1.2 * slope).tolist(), "ks_m": (g - 1.7 + 1.3 * slope).tolist(),
    }  # fmt: skip

    def slice_of(handler, body):
        first, number = handler.path.split("/")[2:]
        start = stars["source_id"].index(int(first))
        return json.dumps(counts[start : start + int(number)].tolist()).encode()

    routes = [("/stars", json.dumps(stars).encode()), (r"/counts/\d+/\d+", slice_of)]
    return stars, counts, routes


@pytest.mark.parametrize("announced", [True, False], ids=["entry point", "dotted name"])
def test_a_package_of_plugins_goes_from_fetch_to_export(announced, tmp_path, monkeypatch, capsys):
    name = "toylab_announced" if announced else "toylab_dotted"
    package(tmp_path / "site", name, announced)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "cache"))
    root = tmp_path / "work"
    prefix = "" if announced else f"{name}."
    survey = "toysky" if announced else f"{name}.sky"
    view, reader = f"{prefix}echelle", f"{prefix}log"

    def do(*command):
        code, out, err = ask(capsys, *command, "-w", root)
        assert code == 0, err
        return out

    stars, counts, routes = sky()
    with Server(routes=routes) as server:
        (tmp_path / "run.toml").write_text(f'["{survey}"]\naddress = "{server.url}"\n')
        do("fetch", "--survey", survey, "--config", tmp_path / "run.toml")
        asked = [path for _, path, *_ in server.log]
    assert [p.split("/")[1] for p in asked] == ["stars", "counts", "counts"]
    raw = pq.read_table(root / "raw" / "toysky" / "echelle")
    assert raw["counts"].to_pylist() == counts.tolist()
    assert raw.schema.field("counts").metadata[b"unit"] == b"electron"

    log = "TOYLOG\n" + "".join(
        f"night-{k} 1.{k} {' '.join(map(str, counts[k]))}\n" for k in range(5)
    )
    (tmp_path / "night.log").write_text(log)
    read = () if announced else ("--reader", reader)
    do("import", tmp_path / "night.log", "--as", view, *read, "--name", "night")
    night = pq.read_table(root / "raw" / "night" / "echelle.parquet")
    assert sorted(night["airmass"].to_pylist()) == [1.0, 1.1, 1.2, 1.3, 1.4]
    # Without --modalities the import says which module its view needs.
    do("preprocess", "--raw", "night", "--name", "alone")

    do("preprocess", "--raw", "toysky", "--raw", "night", "--modalities", f"{view},metadata",
       "--set", "echelle.floor=1.0", "--name", "both")  # fmt: skip
    data = artifacts.read(root / "data" / "both")
    assert data.manifest.rows["echelle"] == STARS + 5
    assert data.manifest.config["settings"]["echelle"] == {"floor": 1.0}
    do("train", "--data", "both", "--epochs", 2, "--batch", 64, "--set", "dimension=8",
       "--set", "width=16", "--set", "views.echelle.hidden=12", "--set", "generator_epochs=1",
       "--name", "run")  # fmt: skip
    do("embed", "--run", "run", "--name", "vectors")
    first = stars["source_id"][0]
    found = do("search", "--query-id", first, "--from", "echelle", "-k", 3, "--json")
    assert len(found.splitlines()) == 3
    # The same counts, brought in a file in the raw columns of the view, are the same star.
    pq.write_table(raw.slice(0, 1).select(["counts"]), tmp_path / "new.parquet")
    near = do("search", "--query-file", tmp_path / "new.parquet", "--from", "echelle", "-k", 1,
              "--json")  # fmt: skip
    assert json.loads(near)["cosine"] == pytest.approx(1.0, abs=1e-4)
    scores = do("knn", "--target", "teff", "--modality", "echelle", "--json").splitlines()
    assert json.loads(scores[0])["R2"] > 0.5  # the counts slope with the temperature

    # Neither encoder nor decoder was named: both are those of the modality.
    do("train-decoder", "--from", "metadata", "--to", "echelle", "--epochs", 2, "--name", "line")
    decoder = artifacts.read(root / "decoders" / "line")
    assert decoder.manifest.config["decoder"] == f"{prefix}line"
    do("generate", "--from", "metadata", "--to", "echelle", "--query-id", first,
       "-o", tmp_path / "made.parquet")  # fmt: skip
    made = pq.read_table(tmp_path / "made.parquet")
    assert np.shape(made["generated"].to_pylist()) == (1, PIXELS)
    assert "mmclip.wavelength_nm" in {k.decode() for k in made.schema.metadata}

    do("export", "--data", "both", "-o", tmp_path / "datasets")
    do("export", "--format", "mmu", "--raw", "night", "--view", "echelle", "-o", tmp_path / "mmu")
    # What was exported is read back by mmclip's own reader of columns, to the last digit.
    do("import", tmp_path / "mmu", "--as", view, "--name", "again")
    again = pq.read_table(root / "raw" / "again" / "echelle.parquet")
    assert sorted(again["counts"].to_pylist()) == sorted(night["counts"].to_pylist())
    assert sorted(again["airmass"].to_pylist()) == sorted(night["airmass"].to_pylist())


def test_two_modalities_of_one_name_are_not_prepared_together(tmp_path, monkeypatch, capsys):
    for name in ("toylab_first", "toylab_second"):
        package(tmp_path / "site", name, False)
    monkeypatch.syspath_prepend(tmp_path / "site")
    (tmp_path / "night.log").write_text("TOYLOG\na 1.0 " + "1 " * PIXELS + "\n")
    view = "toylab_first.echelle"
    code, _, err = ask(capsys, "import", tmp_path / "night.log", "--as", view, "--reader",
                       "toylab_first.log", "-w", tmp_path)  # fmt: skip
    assert code == 0, err
    code, _, err = ask(capsys, "preprocess", "--modalities", f"{view},toylab_second.echelle",
                       "-w", tmp_path)  # fmt: skip
    assert code == 2
    assert "two of the modalities are called echelle" in err


def test_import_names_the_views_it_knows_and_what_a_modality_is_made_from():
    with pytest.raises(UsageError, match="is no view; did you mean 'spectra'"):
        registry.imported("spectr")
    with pytest.raises(UsageError, match="made from the raw view spectra"):
        registry.imported("lrs")
    with pytest.raises(NotFound, match="cannot be imported"):
        registry.imported("nolab.echelle")
    assert registry.imported("light-curve").name == "photometry"


@pytest.mark.parametrize("name", plugins.names("readers"))
def test_a_reader_says_what_it_gives(name):
    it = plugins.load("readers", name, "READER")
    assert it.name == name
    assert set(it.views) <= set(registry.importable())
