"""What a training says of the time that it will take."""

from types import SimpleNamespace

import pytest

from mmclip.cli.progress import Expected, span


def reports(seconds_a_step, steps, shown=12):
    """What is said after each of the first steps of a training."""
    clock = iter(seconds_a_step * i for i in range(10**6))
    at = [0.0]

    def now():
        return at[0]

    expected = Expected(["--epochs 10", "a GPU"], now)
    said = []
    for step in range(1, shown + 1):
        at[0] = next(clock)
        said.append(expected.said(SimpleNamespace(step=step, steps=steps)))
    return [text for text in said if text]


def test_a_long_training_is_foretold_once_with_what_is_quicker():
    # The 6th report is 5 steps of 2 s after the first: (3606 - 6) x 2 s are two hours.
    assert reports(2.0, 3606) == [
        "this training will take about 2 h (from 5 steps); quicker: --epochs 10; a GPU"
    ]


def test_a_short_training_is_not_foretold():
    assert reports(2.0, 300) == []


def test_fast_steps_are_measured_for_some_seconds():
    assert reports(0.1, 36060, shown=40) == []
    (said,) = reports(0.1, 36051, shown=60)  # 36,000 steps of 0.1 s after the 51st
    assert "about 1 h (from 50 steps)" in said


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(20, "1 min"), (1500, "25 min"), (12000, "3 h 20 min"), (187200, "2 d 4 h")],
)
def test_a_span_of_time_in_words(seconds, words):
    assert span(seconds) == words
