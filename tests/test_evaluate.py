"""The published figures beside ours: refused where the data differ, compared where they agree."""

import json

import pytest

from mmclip.tasks import evaluate
from mmclip.tasks.published import PAPERS, Conditions
from tests.test_cli import ask

SAME = Conditions({"objects": 10, "train": 8}, (("xp", "xp_coefficients"), ("rvs",)), 3)


def test_every_way_in_which_data_differ_is_named():
    rows = {"objects": 10, "train": 8}
    observed = {"xp": "observed", "rvs": "observed"}
    assert evaluate.differences(SAME, rows, observed, 3) == []
    assert evaluate.differences(SAME, {"objects": 9, "train": 8}, observed, 3) == [
        "9 objects instead of 10"
    ]
    said = " ".join(evaluate.differences(SAME, {}, {"xp": "modelled"}, 2))
    for words in ("0 objects instead of 10", "xp is modelled", "no rvs", "2 classes instead of 3"):
        assert words in said


def test_a_difference_is_given_only_for_the_same_data():
    same = evaluate._row("R2", "xp", 0.9, 0.8, "table 1", [])
    assert same["difference"] == pytest.approx(0.1)
    other = evaluate._row("R2", "xp", 0.9, 0.8, "table 1", ["3 objects instead of 4"])
    assert other["difference"] is None
    assert "refused" in other["comparison"]
    assert "3 objects instead of 4" in other["comparison"]
    assert evaluate._row("R2", "xp", None, 0.8, "", [])["comparison"].startswith("not measured")


def test_the_published_figures_are_those_of_the_papers():
    """Read again from the abstracts and tables, not from this file."""
    schwarz = {r.value for r in PAPERS["schwarz2024"].regressions}
    assert schwarz == {0.9874, 0.8488}
    best = max(a.value for a in PAPERS["astrom3"].accuracies)
    assert best == 94.127
    gain = {
        (a.start): a.value
        for a in PAPERS["astrom3"].accuracies
        if a.fraction == 0.1 and a.views == (("spectra", "spectrum"),)
    }
    assert gain["clip"] - gain["scratch"] == pytest.approx(14.286)
    assert len(PAPERS["astrom3"].accuracies) == 4 * 4 * 2


@pytest.mark.parametrize("suffix", ["md", "html", "json", "csv"])
def test_the_table_is_written_with_its_refusal(trained, capsys, tmp_path, suffix):
    file = tmp_path / f"t.{suffix}"
    code, out, err = ask(capsys, "evaluate", "--json", "-o", file, "-w", trained)
    assert code == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    teff = next(r for r in rows if r["quantity"] == "R2 Teff" and r["from"] == "xp_coefficients")
    assert teff["published"] == 0.9874
    assert teff["ours"] > 0.9  # Planck stars
    assert teff["difference"] is None
    assert "400 objects instead of 886,080" in teff["comparison"]
    assert "0.9874" in file.read_text()
    assert "refused" in file.read_text()


def test_an_unknown_preset_names_the_known_ones(trained, capsys):
    code, _, err = ask(capsys, "evaluate", "--preset", "astrom4", "-w", trained)
    assert code == 2
    assert "astrom3" in err
