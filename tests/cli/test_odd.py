"""Odd input at the command line: names, settings and streams that nobody plans for."""

import ctypes
import errno
import io
import os
import signal
import sys
import time
import types
import warnings

import numpy as np
import pytest

from mmclip import cli, config
from mmclip.cli import run
from mmclip.errors import USAGE, UsageError
from mmclip.plots import MapPanel, map_panels_figure, png_bytes
from mmclip.readers import files
from mmclip.tasks.map import MapConfig

LONG = "a" * 300
DEEP = ".".join(["a"] * 5000)


def told(capsys):
    """What stands on stderr, which is one sentence and at most a hint."""
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert len(text.strip().splitlines()) <= 2, text
    return text


@pytest.mark.parametrize(
    "words",
    [
        ["info", LONG],
        ["verify", LONG],
        ["search", "--vectors", LONG, "--query-id", "5"],
        ["search", "--query-file", LONG],
        ["train", "--config", LONG],
        ["train", "--data", LONG],
        ["preprocess", "--labels", LONG],
        ["preprocess", "--name", LONG],
        ["import", LONG, "--as", "spectra"],
    ],
    ids=lambda words: " ".join(words)[:20],
)
def test_a_name_of_300_characters_gets_one_sentence(words, tmp_path, capsys):
    (tmp_path / "raw").mkdir()
    code = run([*words, "--workspace", str(tmp_path)])
    assert code in (1, USAGE)
    assert len(told(capsys)) < 800


@pytest.mark.parametrize("length", [31, 160, 250])
def test_a_file_with_a_long_name_is_written_whole(length, tmp_path):
    from mmclip.artifacts import whole

    place = tmp_path / ("n" * (length - 4) + ".csv")
    with whole(place) as part:
        assert part.suffix == ".csv"
        part.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == [place.name]


@pytest.mark.parametrize(
    "text",
    [
        "seed = " + "9" * 5000,
        "seed = " + "9" * 400,
        "min_dist = " + "9" * 400,
        "seed = " + "[" * 100_000,
        "seed = " + "[" * 100 + "]" * 100,
        DEEP + " = 1",
        "[" + DEEP + "]",
        "seed = '''" + "x" * 100_000 + "'''",
    ],
    ids=lambda text: text[:12] + str(len(text)),
)
def test_toml_of_huge_numbers_and_nesting_is_refused(text, tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        config.resolve(MapConfig, "map", file, {})
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    "word", ["seed=" + "9" * 5000, "seed=" + "9" * 400, "seed=" + "[" * 5000, DEEP + "=1"],
    ids=lambda w: w[:8] + str(len(w)),
)  # fmt: skip
def test_a_setting_of_huge_numbers_and_nesting_is_refused(word):
    with pytest.raises(UsageError) as caught:
        config.resolve(MapConfig, "map", None, config.assignments([word]))
    assert len(caught.value.message) < 400


def names(*values):
    return np.array(values, object)


KINDS = {
    "control": names("\x1b[31mred\x07", "a\u202eb", "", "RRAB\x00"),
    "formula": names("$x_{", "_hidden", "{}", "%s"),
    "languages": names("星", "\U0001f320", "é", ""),
    "long": names(LONG, LONG + "b", "", "c"),
    "unknown": names("", "", "", ""),
    "one": names("RRAB", "RRAB", "RRAB", "RRAB"),
    "many": names(*map(str, range(300))),
    "numbers": np.array([1.0, np.nan, np.inf, 1e300]),
    "nothing": np.full(4, np.nan),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("column", ["class\x1b[2J"])
def test_a_map_of_any_column_is_drawn_and_warns_of_nothing(kind, column):
    values = KINDS[kind]
    places = np.random.default_rng(0).normal(size=(len(values), 2)).astype("f4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = map_panels_figure([MapPanel(places, values, column, column, "train")])
        assert png_bytes(figure, 40)[:4] == b"\x89PNG"


def test_ctrl_c_that_compiled_code_swallows_is_given_again(monkeypatch):
    monkeypatch.setattr(sys, "unraisablehook", cli._not_ignored)

    @ctypes.CFUNCTYPE(None)
    def called_from_c():
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        called_from_c()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(30)
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_errors_that_nobody_can_raise_are_shown_as_ever():
    seen = []
    cli._not_ignored(types.SimpleNamespace(exc_type=ValueError), seen.append)
    assert [s.exc_type for s in seen] == [ValueError]


@pytest.mark.parametrize("name", ["stdin", "stdout", "stderr"])
def test_a_closed_standard_stream_is_nowhere(name, monkeypatch):
    monkeypatch.setattr(sys, name, None)
    opened = []
    monkeypatch.setattr(os, "open", lambda *given: opened.append(given))
    cli._open_streams()
    stream = getattr(sys, name)
    assert isinstance(stream, io.TextIOBase)
    assert stream.name == os.devnull
    stream.close()
    assert opened == []  # the numbers themselves are in use in this process


def test_commands_answer_into_closed_streams(monkeypatch, tmp_path):
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    cli._open_streams()
    try:
        assert run(["info", "--workspace", str(tmp_path)]) == 0
        assert run(["info", "nothing", "--workspace", str(tmp_path)]) == USAGE
        assert run(["search", "--ids", "-", "--workspace", str(tmp_path)]) == USAGE
    finally:
        for name in ("stdin", "stdout", "stderr"):
            getattr(sys, name).close()


def test_a_disk_that_fails_while_a_file_is_read_is_no_fault_of_the_file(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("source_id,teff\n5937083312263887616,5000\n")
    words = ["import", str(tmp_path / "a.csv"), "--as", "metadata", "--columns", "teff=teff",
             "--name", "a", "-w", str(tmp_path)]  # fmt: skip
    whole = files.Path.open

    def failing(path, *given, **named):
        if path.name == "a.csv":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return whole(path, *given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(files.Path, "open", failing)
        assert run(words) == 1
    assert not (tmp_path / "raw" / "a").exists()
    assert run(words) == 0
