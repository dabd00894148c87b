"""A hint is a command that works in this workspace, or an option of the one that was typed."""

import re

import pytest

from tests.cli.test_cli import ask

CASES = (
    ["search"],
    ["search", "--query-id", "5", "--from", "nosuch"],
    ["search", "--query-id", "-k", "2", "--show", "nosuch"],
    ["knn", "--target", "nosuch"],
    ["knn", "--target", "source_id"],
    ["outliers", "--class", "nosuch"],
    ["info", "--lineage", "nosuch"],
)


@pytest.mark.parametrize("words", CASES, ids=" ".join)
def test_every_hint_is_one_that_can_be_typed(words, trained, capsys):
    code, _, err = ask(capsys, *words, "-w", trained)
    assert code != 0
    hint = re.search(r"try: (.*)", err)[1].strip()
    assert hint
    if hint.startswith("mmclip "):
        again, _, still = ask(capsys, *hint.partition("   (")[0].split()[1:], "-w", trained)
        assert again == 0, f"{hint}: {still}"
    elif hint.startswith("--"):
        assert hint.split()[0].rstrip(",") in ask(capsys, words[0], "--help")[1]
