"""The map: fitted once and kept; the page: looked at by a real browser."""

import json
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.path import Path as Polygon

from mmclip import plots
from mmclip.artifacts import building
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.objects import Portrait, folded
from mmclip.report import map_page, sky
from mmclip.report import write as write_page
from mmclip.tasks import map as mapping
from mmclip.vectors.store import Store
from tests.cli.test_cli import ask

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
         "--virtual-time-budget=3000", "--window-size=1000,700")  # fmt: skip


@pytest.fixture(scope="module")
def space(trained):
    return Workspace(trained)


@pytest.fixture(scope="module")
def kept(space):
    store = Store(space.get("vectors"))
    config = mapping.MapConfig(neighbours=15, seed=1)
    train = mapping.fitted_rows(store, config)
    places = mapping.fit(store, config)
    final = space.place("map", "kept")
    with building(final) as folder:
        mapping.write(folder, store, places, train, config)
    return store, space.get("map", "kept"), places


def test_map_writes_a_picture(trained, capsys, tmp_path):
    shutil.copytree(trained, tmp_path / "w")
    code, _, _ = ask(capsys, "map", "--plot", tmp_path / "map.png", "-w", tmp_path / "w")
    assert code == 0
    assert (tmp_path / "map.png").stat().st_size > 5000


def test_a_large_map_says_what_it_costs_and_how_far_it_is(monkeypatch):
    class Halves:
        def transform(self, vectors):
            return vectors[:, :2] / 2

    monkeypatch.setattr(mapping, "BLOCK", 7)
    monkeypatch.setattr(mapping, "FITTED", 1e-3)
    monkeypatch.setattr(mapping, "PLACED", 1e-4)
    vectors, told = np.arange(60, dtype=np.float32).reshape(20, 3), []
    placed = mapping._transform(Halves(), vectors, told.append)
    assert np.array_equal(placed, vectors[:, :2] / 2)
    assert told == [f"{n} of 20 stars placed" for n in (7, 14, 20)]
    assert mapping.cost(120_000, 1_200_000) == (
        "fitting 120,000 stars: about 2 core minutes; placing 1,200,000: about 2"
    )


def test_a_kept_map_places_new_stars_where_the_fitted_one_did(kept):
    store, artifact, places = kept
    fresh = store.split != "train"
    again = mapping.place(artifact, store, store.average()[fresh])
    np.testing.assert_allclose(again, places[fresh], atol=1e-3)
    np.testing.assert_array_equal(mapping.positions_of(artifact, store), places)


def test_a_class_left_out_is_not_fitted_but_placed(space, capsys):
    code, _, err = ask(
        capsys, "map", "--leave-out", "ROT", "--plot", space.root / "m.png", "--name", "without",
        "--neighbours", 15, "-w", space.root,
    )  # fmt: skip
    assert code == 0, err
    _, table = mapping.read(space.get("map", "without"))
    import pyarrow.parquet as pq

    objects = pq.read_table(space.root / "data" / "made" / "objects.parquet")
    kind = dict(zip(objects["source_id"].to_pylist(), objects["class"].to_pylist(), strict=True))
    of_class = np.array([kind[s] == "ROT" for s in table["source_id"].to_pylist()])
    assert of_class.any()
    assert not np.array(table["fitted"])[of_class].any()
    assert np.isfinite(np.array(table["x"])).all()
    # The same command again fits nothing.
    _, _, err = ask(
        capsys, "map", "--leave-out", "ROT", "--plot", space.root / "m.png", "--neighbours", 15,
        "-w", space.root,
    )  # fmt: skip
    assert "fitted before" in err


def test_a_map_is_fitted_on_a_sample_and_all_others_are_placed(space, capsys, monkeypatch):
    monkeypatch.setattr(mapping, "BLOCK", 64)
    picture = ["--plot", space.root / "s.png", "--neighbours", 10, "-w", space.root]
    asked = ["map", "--sample", 80, *picture]
    code, _, err = ask(capsys, *asked, "--name", "sampled")
    assert code == 0, err
    store = Store(space.get("vectors"))
    every = int((store.split == "train").sum())
    assert f"fitting on 80 of {every} training stars" in err
    artifact = space.get("map", "sampled")
    _, table = mapping.read(artifact)
    fitted = np.array(table["fitted"])
    assert fitted.sum() == 80
    assert set(np.array(table["split"])[fitted]) == {"train"}
    places = mapping.positions_of(artifact, store)
    assert np.isfinite(places).all()
    # Placed stars lie among the fitted ones, near those whose vectors are like theirs.
    vectors = store.average()
    here = np.isin(store.source_id, np.array(table["source_id"])[fitted])
    gaps = np.linalg.norm(places[~here][:, None] - places[here], axis=2)
    like = (vectors[~here] @ vectors[here].T).argmax(axis=1)
    near = gaps[np.arange(len(like)), like]
    assert np.median(near) < 0.5 * np.median(gaps)
    _, _, err = ask(capsys, *asked)
    assert "fitted before" in err


def test_a_map_from_before_there_were_samples_is_read_and_found(space, capsys, monkeypatch):
    asked = ["map", "--neighbours", 12, "--plot", space.root / "b.png", "-w", space.root]
    with monkeypatch.context() as before:
        elder = {f.name for f in fields(mapping.MapConfig)} - {"sample"}
        before.setattr(mapping, "asdict", lambda c: {n: getattr(c, n) for n in elder})
        assert ask(capsys, *asked, "--name", "elder")[0] == 0
    artifact = space.get("map", "elder")
    assert "sample" not in artifact.manifest.config
    assert mapping.read(artifact)[0] == mapping.MapConfig(neighbours=12)
    assert "maps/elder was fitted before" in ask(capsys, *asked)[2]


def test_other_vectors_go_onto_the_map_only_if_the_same_run_made_them(space, kept, capsys):
    code, out, err = ask(
        capsys, "map", "--onto", "kept", "--plot", space.root / "o.png", "--json", "-w", space.root
    )
    assert code == 0, err
    assert len(out.splitlines()) == len(kept[0].source_id)
    code, _, err = ask(capsys, "map", "--onto", "none", "-w", space.root)
    assert "no map artefact 'none'" in err


def test_a_column_that_is_not_there_names_the_nearest(space, capsys):
    _, _, err = ask(capsys, "map", "--colour", "tef", "-w", space.root)
    assert "did you mean 'teff'" in err


def made_page(folder, count=500):
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, count))
    ids = np.sort(rng.integers(2**53, 2**62, count))  # beyond what a double holds
    kind = np.array(["EW", "</script><b>&", "", None] * (count // 4), object)
    curve = [np.linspace(0, 1, 50)] * 2
    html = sky.page(
        "Made <map>", ids, x, y,
        [sky.Column("teff", rng.uniform(3000, 8000, count), "K"), sky.Column("class", kind)],
        [sky.Cards("light curve", "time [d]", "magnitude [mag]", [3, 8], curve, curve, True, True)],
        plots.ramp(), "Made.",
    )  # fmt: skip
    write_page(folder / "map.html", html)
    return ids, x, y, (folder / "map.html").as_uri()


def browse(tmp_path, *arguments):
    if not CHROMIUM.exists():
        pytest.skip(f"no browser at {CHROMIUM}")
    return subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip


def test_the_page_asks_nothing_of_the_network_and_escapes_what_it_shows(tmp_path):
    made_page(tmp_path)
    html = (tmp_path / "map.html").read_text()
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", html)
    assert "default-src 'none'" in html
    assert "https://" not in html
    assert html.count("</script>") == 2  # the data cannot end their element
    assert "Made &lt;map&gt;" in html


@pytest.mark.slow
def test_a_lasso_in_the_browser_selects_what_lies_inside_it(tmp_path):
    ids, x, y, page = made_page(tmp_path)
    corners = [(-1.0, -1.0), (1.2, -0.5), (0.3, 1.4), (-0.2, 0.1)]
    text = ",".join(f"{a},{b}" for a, b in corners)
    dom = browse(tmp_path, "--dump-dom", f"{page}#lasso={text}")
    inside = Polygon(corners).contains_points(np.stack([x, y], axis=1))
    listed = re.search(r"<textarea[^>]*>([^<]*)", dom)[1].split()
    assert [int(i) for i in listed] == ids[inside].tolist()
    assert f"{int(inside.sum())} selected" in dom


@pytest.mark.slow
def test_an_id_is_found_with_all_its_digits_and_shows_its_card(tmp_path):
    ids, _, _, page = made_page(tmp_path)
    dom = browse(tmp_path, "--dump-dom", f"{page}#id={ids[3]}&colour=class")
    assert f"source_id {ids[3]}</h2>" in dom
    assert 'aria-label="light curve"' in dom
    assert "&lt;/script&gt;&lt;b&gt;&amp;" in dom  # the class's name, shown as text
    assert "is not on this map" in browse(tmp_path, "--dump-dom", f"{page}#id=12")


COUNTING = """<script>
render();
const seen = {}, drawn = ctx.getImageData(0, 0, sky.width, sky.height).data;
for (let i = 0; i < drawn.length; i += 4) {
  const key = "#" + [0, 1, 2].map((k) => drawn[i + k].toString(16).padStart(2, "0")).join("");
  seen[key] = (seen[key] || 0) + 1;
}
document.body.append(make("pre", JSON.stringify(seen)));
</script>"""


@pytest.mark.slow
def test_the_browser_draws_the_points_in_their_colours(tmp_path):
    """The pixels of the canvas are counted in the page: a screenshot may come before a frame."""
    made_page(tmp_path)
    html = (tmp_path / "map.html").read_text()
    html = re.sub(r"<meta http-equiv=\"Content-Security-Policy\"[^>]*>", "", html)
    (tmp_path / "counted.html").write_text(html.replace("</body>", COUNTING + "</body>"))
    dom = browse(tmp_path, "--dump-dom", (tmp_path / "counted.html").as_uri() + "#colour=class")
    seen = json.loads(re.search(r"<pre>(.*?)</pre>", dom)[1])
    for colour in (sky.CLASSES[0], sky.OTHER):
        assert seen.get(colour.lower(), 0) > 200, colour


def test_the_command_writes_the_page_with_every_star(space, capsys):
    page = space.root / "page.html"
    code, _, err = ask(
        capsys, "map", "--page", page, "--cards", 10, "--colour", "class", "--plot",
        space.root / "p.png", "--neighbours", 15, "--modality", "xp", "-w", space.root,
    )  # fmt: skip
    assert code == 0, err
    body = json.loads(re.search(r'id="data">(.*?)</script>', page.read_text())[1])
    assert sum(body["columns"][0]["counts"]) == 400
    assert body["views"][0]["xlabel"] == "wavelength [nm]"


@pytest.mark.slow
def test_a_range_of_a_column_selects_and_the_saved_table_keeps_every_digit(tmp_path):
    rng = np.random.default_rng(7)
    ids, ra = np.sort(rng.integers(2**53, 2**62, 300)), rng.uniform(0, 360, 300)
    snr = rng.uniform(5, 100, 300)
    columns = [sky.Column("snr", snr), sky.Column("ra", ra, "deg")]
    html = sky.page("m", ids, *rng.normal(size=(2, 300)), columns, [], plots.ramp(), "")
    write_page(tmp_path / "map.html", html)
    address = (tmp_path / "map.html").as_uri()
    dom = browse(tmp_path, "--dump-dom", f"{address}#colour=snr&range=20,60&csv=1")
    lines = re.search(r"<textarea[^>]*>([^<]*)", dom)[1].split()
    assert lines[0] == "source_id,x,y,snr,ra"
    rows = [line.split(",") for line in lines[1:]]
    kept = (snr.astype(np.float32) >= 20) & (snr.astype(np.float32) <= 60)
    assert [int(r[0]) for r in rows] == ids[kept].tolist()
    assert [float(r[4]) for r in rows] == ra[kept].tolist()  # as float64, bit for bit
    assert "snr 20 to 60" in dom


def test_names_of_single_objects_are_shown_but_not_offered_as_a_colour():
    count = 200
    columns = [
        sky.Column("class", np.array(["EW", "EA"] * (count // 2), object)),
        sky.Column("apogee_id", np.array([f"2M{i:06d}" for i in range(count)], object)),
        sky.Column("targetid", np.arange(count) + 39627700000000000),
        sky.Column("visits", np.arange(count) % 7),
    ]
    place = np.arange(count, dtype=float)
    html = sky.page("m", np.arange(count), place, place, columns, [], plots.ramp())
    body = json.loads(re.search(r'id="data">(.*?)</script>', html)[1])
    offered = {c["name"]: c["colour"] for c in body["columns"]}
    assert offered == {"class": True, "apogee_id": False, "targetid": False, "visits": True}
    targets = body["columns"][2]
    assert targets["kind"] == "class"  # text: a double would lose the last digits
    assert f"{39627700000000007}" in targets["names"]


def test_several_columns_and_splits_are_panels_of_one_picture(space, capsys, tmp_path):

    one, four = tmp_path / "one.png", tmp_path / "four.png"
    assert ask(capsys, "map", "--colour", "teff", "--plot", one, "-w", space.root)[0] == 0
    code, _, err = ask(capsys, "map", "--colour", "teff,ra", "--split", "train,test", "--plot",
                       four, "-w", space.root)  # fmt: skip
    assert code == 0, err
    sizes = [imread(p).shape[1::-1] for p in (one, four)]
    assert sizes[1][0] > 2 * sizes[0][0]  # three beside each other, in two rows
    assert sizes[1][1] > 1.4 * sizes[0][1]


def test_a_map_of_all_views_side_by_side_by_another_metric(space, capsys):
    asked = ("map", "--modality", "concatenated", "--metric", "euclidean", "-w", space.root)
    code, _, err = ask(capsys, *asked, "--plot", space.root / "c.png")
    assert code == 0, err
    assert "kept the map" in err
    store = Store(space.get("vectors"))
    found = mapping.average(store, "concatenated")
    views = [store.vectors(n) for n in store.modalities]
    beside = np.concatenate(views, axis=1)
    whole = np.isfinite(beside).all(axis=1)  # a star that lacks a view has no place
    np.testing.assert_array_equal(found[whole], beside[whole])
    assert np.isnan(found[~whole]).all()
    code, _, err = ask(capsys, "map", "--metric", "manhatten", "-w", space.root)
    assert code == 2
    assert "cosine" in err
    assert "euclidean" in err


def test_a_quantity_over_decades_begins_on_a_logarithmic_scale():
    """Periods from hours to years: on a linear scale all but the longest are one colour."""
    place = np.arange(100, dtype=float)
    columns = [sky.Column("period", np.geomspace(0.2, 400, 100), "d"), sky.Column("ra", place),
               sky.Column("snr", np.linspace(5, 100, 100))]  # fmt: skip
    html = sky.page("m", np.arange(100), place, place, columns, [], plots.ramp())
    body = json.loads(re.search(r'id="data">(.*?)</script>', html)[1])
    assert [c["log"] for c in body["columns"]] == [True, False, False]


def test_a_folded_card_shows_one_cycle_with_phase_0_in_the_middle():
    time = np.arange(0, 200, 0.37)
    eclipse = np.abs((time / 3.0 + 0.5) % 1 - 0.5) < 0.05
    curve = Portrait(1, "photometry", "light curve", time, 12 + 0.8 * eclipse, None, "MJD [d]",
                     "magnitude [mag]", True, False)  # fmt: skip
    card = map_page._of_view([map_page._centred(folded(curve, 3.0, True))], {1: 0}, (-0.5, 0.5))
    assert card.title == "photometry, folded"
    x, y = card.x[0], card.y[0]
    assert (np.abs(x[y > 12.4]) < 0.1).all()
    assert x.min() >= -0.5
    assert x.max() < 0.5
