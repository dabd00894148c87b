"""--quiet, -v, the log of the workspace, where settings come from, completion."""

import json
import logging
from pathlib import Path

import pytest

from mmclip import artifacts
from mmclip.cli import log, output, run
from tests.cli.test_cli import ask


@pytest.fixture
def logged():
    """A log that is closed afterwards."""
    made = log.start(["search", "--query-id", "5", "https://me:secret@host/?token=abc"])
    yield made
    made.close()
    log.LOG.removeHandler(made)
    log.LOG.setLevel(logging.NOTSET)
    log.LOG.propagate = True


def test_quiet_leaves_errors_and_the_last_word_counts(tmp_path, capsys):
    empty = ["info", "-w", str(tmp_path)]
    assert "is empty" in ask(capsys, *empty)[2]
    assert ask(capsys, "-v", *empty, "--quiet")[2] == ""
    assert ask(capsys, "info", "nosuch", "--quiet", "-w", tmp_path)[2].startswith("mmclip: ")


def test_quiet_leaves_notes(capsys):
    level = log.level.set(log.QUIET)
    for text in ("note: rvs is MODELLED data", "warning: circular", "epoch 3"):
        output.say(text)
    log.level.reset(level)
    assert capsys.readouterr().err.splitlines() == [
        "note: rvs is MODELLED data",
        "warning: circular",
    ]


def test_verbose_names_what_is_made(tmp_path, capsys):
    with artifacts.building(tmp_path / "raw" / "made") as folder:
        artifacts.seal(folder, "raw", config={}, parents=[], rows={}, surveys=[], provenance={},
                       seed=None)  # fmt: skip
    words = ("info", str(tmp_path / "raw" / "made"))
    assert "fingerprint" in ask(capsys, *words, "--verbose")[2]
    assert "fingerprint" not in ask(capsys, *words)[2]


def test_words_after_two_dashes_are_no_manners():
    assert log.manners(["a", "--", "-v"]) == (["a", "--", "-v"], log.NORMAL)


def test_the_log_waits_for_the_workspace_and_holds_no_secret(logged, tmp_path):
    root = tmp_path / "w"
    log.into(root)
    log.LOG.info("first")
    root.mkdir()
    log.LOG.error("second\nline")
    lines = (root / log.NAME).read_text().splitlines()
    assert len(lines) == 3
    assert "search --query-id 5" in lines[0]
    assert "secret" not in lines[0]
    assert "abc" not in lines[0]
    assert lines[1].endswith("INFO first")
    assert lines[2].endswith("ERROR second | line")


def test_the_log_turns_over_at_its_size(logged, tmp_path, monkeypatch):
    monkeypatch.setattr(log, "MOST", 300)
    log.into(tmp_path)
    for i in range(40):
        log.LOG.info("statement %d", i)
    kept = sorted(tmp_path.iterdir())
    assert [p.name for p in kept] == [log.NAME, f"{log.NAME}.1", f"{log.NAME}.2"]
    assert all(p.stat().st_size <= 300 for p in kept)
    assert "statement 39" in kept[0].read_text()


@pytest.mark.parametrize("fault", ["full", "closed"])
def test_a_log_that_cannot_be_written_is_no_fault(logged, tmp_path, capsys, fault):
    if fault == "full":
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        (tmp_path / log.NAME).symlink_to("/dev/full")
    else:
        (tmp_path / log.NAME).mkdir()  # nobody, not even root, writes lines into a folder
    log.into(tmp_path)
    log.LOG.info("lost")
    assert capsys.readouterr() == ("", "")


def origins(capsys, *words):
    assert run(["config", "show", "train", "--origin", "--json", *words]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    return {r["setting"]: (r["value"], r["origin"]) for r in rows}


def test_each_setting_says_where_it_comes_from(tmp_path, capsys, monkeypatch):
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nbatch = 77\nepochs = 5\n")
    monkeypatch.setenv("MMCLIP_HELD_MB", "64")
    found = origins(capsys, "--config", str(file), "--set", "epochs=9", "--preset", "astrom3")
    assert found["epochs"] == ("9", "option")
    assert found["batch"] == ("77", f"file {file}")
    assert found["dimension"] == ("512", "preset astrom3")
    assert found["depth"] == ("2", "default")
    assert found["MMCLIP_HELD_MB"] == ("64", "environment")


def test_settings_are_printed_as_the_file_that_config_reads(tmp_path, capsys):
    assert run(["config", "show", "train", "--set", "epochs=9"]) == 0
    file = tmp_path / "again.toml"
    file.write_text(capsys.readouterr().out)
    assert origins(capsys, "--config", str(file))["epochs"] == ("9", f"file {file}")
    code, _, err = ask(capsys, "config", "show", "nosuch")
    assert (code, "preprocess" in err) == (2, True)


@pytest.mark.parametrize(("typed", "found"), [
    ("mmclip sea", ["search"]), ("mmclip search --quer", ["--query-id", "--query-file"]),
])  # fmt: skip
def test_the_shell_completes_commands_and_options(typed, found, capsys, monkeypatch):
    monkeypatch.setenv("_MMCLIP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", typed)
    monkeypatch.setenv("COMP_CWORD", str(typed.count(" ")))
    assert run([]) == 0
    assert capsys.readouterr().out.split() == found
