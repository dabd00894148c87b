"""A command that says nothing for three seconds shows that it works; a pipe hears nothing."""

import io

from mmclip.cli.pulse import WIPE, Pulse


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_silence_of_three_seconds_is_broken_and_the_line_wiped():
    now = [100.0]
    stream = Terminal()
    pulse = Pulse("map", stream, lambda: now[0])
    now[0] += 2.9
    pulse.beat()
    assert stream.getvalue() == ""
    now[0] += 0.2
    pulse.beat()
    assert stream.getvalue() == f"{WIPE}  map: at work for 3 s"
    pulse.wipe()
    assert stream.getvalue().endswith(WIPE)
    now[0] += 2.0
    pulse.beat()
    assert stream.getvalue().endswith(WIPE)  # something was just said
    now[0] += 60.0
    pulse.beat()
    assert stream.getvalue().endswith("at work for 65 s")


def test_a_bar_or_a_pipe_is_left_alone():
    now = [0.0]
    for stream, held in ((io.StringIO(), 0), (Terminal(), 1)):
        pulse = Pulse("map", stream, lambda: now[0])
        pulse.held = held
        now[0] += 10.0
        pulse.beat()
        assert stream.getvalue() == ""
