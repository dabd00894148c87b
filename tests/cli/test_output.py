"""Tables on a terminal: what fits is shown, what does not is named, nothing is lost."""

import pytest

from mmclip.cli import output

LONG = "kernel ridge (Matern 3/2) on components of xp"
ROWS = [
    {"target": "teff", "view": "xp", "method": name, "source_id": 5937083312263887616 + i}
    | {f"score {c}": 0.123456 + i for c in "abcdefgh"}
    for i, name in enumerate(("k-NN", LONG, "mean"))
]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_a_table_fits_its_terminal(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    output.table(ROWS, "")
    shown = capsys.readouterr()
    drawn = [line for line in shown.out.splitlines() if line[0] in "┏┃┡│└"]
    assert drawn
    assert max(map(len, drawn)) <= columns
    assert "in every row: target teff, view xp" in shown.out
    assert str(ROWS[0]["source_id"]) in shown.out
    for name in ROWS[0]:
        assert name in shown.out + shown.err  # beside one another, or named


def test_a_table_with_room_is_whole(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    output.table(ROWS, "scores")
    shown = capsys.readouterr()
    assert LONG in shown.out
    assert shown.out.startswith("scores")
    assert shown.err == ""


def test_a_table_of_nothing_is_no_fault(capsys):
    output.table([], "nothing")
    assert "nothing" in capsys.readouterr().out
