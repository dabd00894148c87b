"""Progress of a training: a live bar on a terminal, one line in five epochs in a log."""

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from mmclip.training.loop import Progress, Report

EPOCHS = 5  # between two lines of a log


def progress() -> "AbstractContextManager[Report]":
    """What a training is to report to, on standard error."""
    from rich.console import Console

    console = Console(stderr=True)
    return _Bar(console) if console.is_terminal else nullcontext(log)


class _Bar:
    """A progress bar of all steps with loss, recall@1, samples/s and the time left."""

    def __init__(self, console: "Console") -> None:
        from rich.progress import BarColumn, Progress, TextColumn

        self.bar = Progress(
            TextColumn("{task.description:8}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[numbers]}"), console=console,
        )  # fmt: skip
        self.task = self.bar.add_task("train", total=None, numbers="")
        self.shown: dict[str, str] = {}

    def __enter__(self) -> "Report":
        self.bar.start()
        return self.show

    def __exit__(self, *error: object) -> None:
        self.bar.stop()

    def show(self, now: "Progress") -> None:
        """Put the numbers of a report beside the bar."""
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


def log(now: "Progress") -> None:
    """One line in `EPOCHS` epochs, and after the last."""
    from mmclip.cli import output

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
