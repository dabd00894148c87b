"""The command line: an ordered table of commands and the one place where errors are printed."""

import errno
import functools
import importlib
import keyword
import os
import signal
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from mmclip.cli import log, pulse
from mmclip.errors import FAILED, INTERRUPTED, MmclipError, UsageError, visible

GROUPS = {
    "Get data": ("demo", "fetch", "import", "crossmatch", "cache"),
    "Prepare and learn": (
        "preprocess", "train", "pretrain", "train-decoder", "tune", "embed", "index",
    ),
    "Ask": (
        "predict", "search", "knn", "outliers", "classify", "cluster", "generate", "adapt", "map",
    ),
    "Share": ("export", "publish", "push", "pull", "models", "cite"),
    "Trust and scale": (
        "info", "verify", "reproduce", "evaluate", "config", "bench", "slurm", "doctor",
    ),
}  # fmt: skip
COMMANDS = tuple(name for names in GROUPS.values() for name in names)
AGAIN = 0.05  # s after which an interrupt that was lost is given again
TITLE = "One embedding space for every view of a star: fetch, train, search, infer, generate."


class Grouped(TyperGroup):
    """The commands in `--help` under the headings of `GROUPS`, each with its whole sentence."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the headings and commands."""
        for heading, names in GROUPS.items():
            made = [(n, c) for n in names if (c := self.get_command(ctx, n)) is not None]
            with formatter.section(heading):
                formatter.write_dl([(n, (c.help or "").partition("\n\n")[0]) for n, c in made])


class _Lazily(dict[str, Any]):
    """Commands by name; each is built, and its file imported, when it is asked for."""

    def __getitem__(self, name: str) -> TyperCommand:
        return _command(name)

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            return default
        return self[name]


@functools.cache
def _command(name: str) -> TyperCommand:
    file = f"{name}_" if keyword.iskeyword(name) else name.replace("-", "_")
    one = typer.Typer(add_completion=False, rich_markup_mode=None)
    function = importlib.import_module(f"mmclip.cli.{file}").command
    # Typer evaluates every annotation; the types of answers would import NumPy for `--help`.
    function.__annotations__.pop("return", None)
    one.command(name)(function)
    made = typer.main.get_command(one)
    assert isinstance(made, TyperCommand)
    return made


@functools.cache
def application() -> TyperGroup:
    """All commands; each is one file of this package."""
    app = typer.Typer(
        name="mmclip",
        help=TITLE,
        cls=Grouped,
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
    )
    app.callback()(_main)
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    group.commands = _Lazily((name, None) for name in COMMANDS)
    return group


def _version(value: bool) -> None:
    if value:
        from mmclip import __version__

        typer.echo(f"mmclip {__version__}")
        raise typer.Exit()


def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
    quiet: bool = typer.Option(
        False, "--quiet", "-q", help="Answers, notes and errors alone; may stand anywhere."
    ),
    verbose: bool = typer.Option(
        False, "--verbose", "-v", help="Say what is opened and asked; may stand anywhere."
    ),
) -> None:
    """One embedding space for every view of a star: fetch, train, search, infer, generate."""


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    arguments, said = log.manners(arguments)
    level, shown = log.level.set(said), log.loud() if said == log.VERBOSE else None
    try:
        if said == log.QUIET:
            return _run(arguments)
        with pulse.running(arguments[0] if arguments else "mmclip"):
            return _run(arguments)
    finally:
        log.level.reset(level)
        if shown is not None:
            log.LOG.removeHandler(shown)


def _run(arguments: list[str]) -> int:
    try:
        _check_repeated(arguments)
        application()(_with_example(arguments), prog_name="mmclip")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else FAILED
        return _interrupted() if code == INTERRUPTED else code  # Typer catches Ctrl-C first
    except KeyboardInterrupt:
        return _interrupted()
    except MmclipError as error:
        return _print_error(error)
    except Exception as error:
        fault = _disk_error(error)
        if fault is None:
            raise
        return _print_error(fault)
    return 0


# Of these a second value would silently replace the first; of others the last one counts, as ever.
ONCE = ("labels",)


def _check_repeated(arguments: list[str]) -> None:
    """Refuse an option that is given two values where one alone would be taken.

    Raises:
        UsageError: Naming it.
    """
    command = application().commands.get((arguments or [""])[0])
    single = {
        word: param.name
        for param in (command.params if command else ())
        if param.param_type_name == "option"
        and not getattr(param, "multiple", False)
        and not getattr(param, "is_flag", False)
        for word in param.opts
    }
    given: dict[str, str] = {}
    words = iter(arguments[1:])
    for word in words:
        if word == "--":
            break
        option, equals, value = word.partition("=")
        if option in single and single[option] in ONCE:
            value = value if equals else next(words, "")
            if given.setdefault(single[option], value) != value:
                raise UsageError(
                    f"{option} is given twice, {given[single[option]]} and {value}", "give one"
                )


def _with_example(arguments: list[str]) -> list[str]:
    """`search --query-id` without an id asks for the example star."""
    whole = list(arguments)
    if whole[:1] != ["search"]:
        return whole
    for at in range(len(whole), 0, -1):
        if whole[at - 1] == "--query-id":
            follows = whole[at] if at < len(whole) else "--"
            if follows.startswith("-") and follows != "-" and not follows[1:2].isdigit():
                whole.insert(at, "example")
    return whole


def _disk_error(error: BaseException | None) -> MmclipError | None:
    """The error of a full or failing disk, behind what a library made of it; None for others.

    And that of a name which no disk takes.
    """
    from mmclip.artifacts import DISK, unwritable

    while error is not None:
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            name = Path(str(error.filename)).name
            return UsageError(f"'{name[:40]}...' is too long a name: {len(name)} characters")
        if isinstance(error, OSError) and error.errno in DISK:
            return unwritable(Path(error.filename or "a file"), error)
        error = error.__cause__ or error.__context__
    return None


def _interrupted() -> int:
    print("mmclip: interrupted; the same command resumes", file=sys.stderr)
    return INTERRUPTED


def _print_error(error: MmclipError) -> int:
    log.LOG.error("%s (%s)", error.message, error.hint)
    pulse.wipe()
    print(f"mmclip: {visible(error.message)}", file=sys.stderr)
    if error.hint:
        print(f"  try: {visible(error.hint)}", file=sys.stderr)
    return error.exit_code


def _open_streams() -> None:
    """Where the caller closed standard streams, nothing is read and written.

    Else the next file that is opened would have the number of one, and what a library prints would
    go into it.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115


def _not_ignored(told: Any, otherwise: Any = sys.unraisablehook) -> None:
    """Ctrl-C within compiled code that calls Python (numba's, of UMAP) is given again after it.

    Such code cannot raise what it is told, and would go on.
    """
    if not issubclass(told.exc_type, KeyboardInterrupt):
        otherwise(told)
        return
    again = threading.Timer(AGAIN, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def main() -> None:
    """The entry point `mmclip`; SIGTERM (of a batch system) is answered as Ctrl-C is."""
    _open_streams()
    sys.unraisablehook = _not_ignored
    plain = warnings.formatwarning
    warnings.formatwarning = lambda *told, **named: visible(plain(*told, **named))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    begun, file = time.monotonic(), log.start(sys.argv[1:])
    code = FAILED
    try:
        code = run(sys.argv[1:])
    finally:
        log.LOG.info("exit code %d after %.1f s", code, time.monotonic() - begun)
        file.close()
    sys.exit(code)
