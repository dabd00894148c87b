"""The commands of README and the quickstart: each exists as it is typed, and fits 80 columns.

What asks is run on made stars with the model that comes with mmclip; what trains or fetches is
checked by its words alone (other tests run it).
"""

import re
import shlex
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmclip.cli import COMMANDS, application, run
from tests.conftest import fetch_made, made_stars

TOP = Path(__file__).parents[1]
PAGES = ("README.md", "docs/quickstart.md")
ASKS = ("info", "search", "knn", "outliers", "cite", "verify", "config")
SLOW = ("--plot", "--gallery", "--query-file")  # draw, or need a file


def typed():
    """(page, words) of every command in a block of a page."""
    found = []
    for page in PAGES:
        for line in re.findall(r"^    (.*mmclip .*)$", (TOP / page).read_text(), re.MULTILINE):
            parts = re.split(r"&&|;", line.partition("#")[0])
            found += [(page, shlex.split(p)[1:]) for p in parts if p.strip().startswith("mmclip ")]
    return found


TYPED = typed()
ASKED = [w for _, w in TYPED if w[0] in ASKS and not {*w} & {*SLOW}]


def test_every_command_of_the_pages_exists_with_its_options():
    assert len(TYPED) > 30
    for page, (name, *rest) in TYPED:
        assert name in COMMANDS, f"{page}: mmclip {name}"
        known = {o for p in application().commands[name].params for o in p.opts}
        for word in rest:
            if re.match(r"--?[a-z]", word):
                assert word in known | {"-q", "-v"}, f"{page}: mmclip {name} has no {word}"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Eighty made stars of two classes, embedded by the bundled model."""
    made = tmp_path_factory.mktemp("first")
    fetch_made(made, made_stars(80))
    w = ["-w", str(made)]
    assert run(["preprocess", "--name", "demo-3000", *w]) == 0
    assert run(["embed", "--run", "bundled", "--data", "demo-3000", *w]) == 0
    return made


@pytest.mark.parametrize("words", ASKED, ids=" ".join)
def test_what_a_page_asks_is_answered_within_80_columns(words, root, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(root)
    ids = pq.read_table(root / "vectors" / "demo-3000" / "vectors.parquet")["source_id"]
    fits = {"39219858937997312": str(ids[0].as_py()), "teff,logg": "teff"}
    words = [fits.get(w, w) for w in words]
    if "--class" in words:
        words[words.index("--class") + 1] = "ROT"
    capsys.readouterr()
    assert run([*words, "-w", str(root)]) == 0
    shown = capsys.readouterr()
    drawn = [line for line in shown.out.splitlines() if line[:1] in "┏┃┡│└"]
    assert drawn or shown.out
    assert all(len(line) <= 80 for line in drawn)
    assert "\x1b" not in shown.out + shown.err
