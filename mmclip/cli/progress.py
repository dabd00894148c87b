"""Progress of a training: a live bar on a terminal, one line in five epochs in a log.

Of a training that will take long it is said once, from its first steps, how long, and what is
quicker.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from mmclip.cli import pulse

if TYPE_CHECKING:
    from rich.console import Console

    from mmclip.training.loop import Progress, Report

EPOCHS = 5  # between two lines of a log
LONG = 600.0  # s, from which on the time of a training is said before its first epoch ends
MEASURED = 5.0  # s, and at least as many steps, on which that time rests


def progress(quicker: Sequence[str] = ()) -> "AbstractContextManager[Report]":
    """What a training is to report to, on standard error.

    Args:
        quicker: Options that make the training shorter, each with what is given up.
    """
    from rich.console import Console

    from mmclip.cli import log as talk

    console = Console(stderr=True)
    expected = Expected(quicker)
    if console.is_terminal and talk.level.get() > talk.QUIET:
        return _Bar(console, expected)
    return nullcontext(lambda now: log(now, expected))


class Expected:
    """The time that a training will take, from its first steps; it is said once.

    Args:
        quicker: See `progress`.
        clock: Gives seconds.
    """

    def __init__(
        self, quicker: Sequence[str] = (), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.quicker, self.clock = quicker, clock
        self.first: tuple[int, float] | None = None
        self.done = False

    def said(self, now: "Progress") -> str:
        """What to say after this report; mostly nothing."""
        if self.first is None:  # the steps before hold what is done once: a compilation, a cache
            self.first = now.step, self.clock()
        steps, seconds = now.step - self.first[0], self.clock() - self.first[1]
        if self.done or min(steps, seconds) < MEASURED:
            return ""
        self.done = True
        left = seconds / steps * (now.steps - now.step)
        if left < LONG:
            return ""
        better = f"; quicker: {'; '.join(self.quicker)}" if self.quicker else ""
        return f"this training will take about {span(left)} (from {steps} steps){better}"


def span(seconds: float) -> str:
    """Seconds in words: `25 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    parts = [(days, "d"), (hours, "h"), (rest if not days else 0, "min")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "1 min"


class _Bar:
    """A progress bar of all steps with loss, recall@1, samples/s and the time left."""

    def __init__(self, console: "Console", expected: Expected) -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[numbers]}"), console=console,
        )  # fmt: skip
        self.task = self.bar.add_task("train", total=None, numbers="")
        self.shown: dict[str, str] = {}
        self.expected = expected

    def __enter__(self) -> "Report":
        self.still = pulse.held()  # the bar is a sign of life
        self.still.__enter__()
        self.bar.start()
        return self.show

    def __exit__(self, *error: object) -> None:
        self.bar.stop()
        self.still.__exit__(None, None, None)

    def show(self, now: "Progress") -> None:
        """Put the numbers of a report beside the bar."""
        if text := self.expected.said(now):
            self.bar.console.print(text, highlight=False, markup=False)
        self.shown["loss"] = f"loss {now.loss:.3f}"
        if now.epoch is not None:
            self.shown["loss"] = f"loss {now.epoch.train_loss:.3f}"
            if now.epoch.loss is not None:
                self.shown["validation"] = f"validation {now.epoch.loss:.3f}"
            if "recall@1" in now.epoch.numbers:
                self.shown["recall@1"] = f"recall@1 {now.epoch.numbers['recall@1']:.3f}"
            self.shown["epoch"] = f"epoch {now.epoch.epoch}"
        numbers = "  ".join([*self.shown.values(), _speed(now)])
        self.bar.update(
            self.task, description=now.stage, completed=now.step, total=now.steps, numbers=numbers
        )


def log(now: "Progress", expected: Expected) -> None:
    """One line in `EPOCHS` epochs, and after the last."""
    from mmclip.cli import output

    if text := expected.said(now):
        output.say(text)
    epoch = now.epoch
    if epoch is None or (epoch.epoch % EPOCHS and now.step < now.steps):
        return
    loss = f"training loss {epoch.train_loss:.4f}"
    if epoch.loss is not None:
        loss = f"validation loss {epoch.loss:.4f}"
    recall = epoch.numbers.get("recall@1")
    shown = "" if recall is None else f"  recall@1 {recall:.3f}"
    output.say(f"  {now.stage:8} epoch {epoch.epoch:4}  {loss}{shown}  {_speed(now)}")


def _speed(now: "Progress") -> str:
    return f"{now.samples_per_second:,.0f} samples/s  {now.seconds_left:.0f} s left"
