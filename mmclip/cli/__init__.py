"""The command line: an ordered table of commands and the one place where errors are printed."""

import importlib
import keyword
import sys

import typer

from mmclip.errors import FAILED, INTERRUPTED, MmclipError

COMMANDS = (
    "demo", "fetch", "import", "export", "crossmatch", "cache", "cite", "preprocess", "train",
    "pretrain", "train-decoder", "tune", "embed", "index", "search", "knn", "outliers", "classify",
    "cluster", "generate", "adapt", "map", "evaluate", "bench", "slurm", "info", "verify", "doctor",
)  # fmt: skip


def application() -> typer.Typer:
    """The Typer application; every command is one file of this package."""
    app = typer.Typer(
        name="mmclip",
        help="One embedding space for every view of a star: fetch, train, search, infer, generate.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
    )
    for name in COMMANDS:
        file = f"{name}_" if keyword.iskeyword(name) else name.replace("-", "_")
        module = importlib.import_module(f"mmclip.cli.{file}")
        app.command(name)(module.command)
    app.callback()(_main)
    return app


def _version(value: bool) -> None:
    if value:
        from mmclip import __version__

        typer.echo(f"mmclip {__version__}")
        raise typer.Exit()


def _main(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """One embedding space for every view of a star: fetch, train, search, infer, generate."""


def run(arguments: list[str]) -> int:
    """Run one command line; returns the exit code."""
    try:
        application()(arguments, prog_name="mmclip")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else FAILED
    except KeyboardInterrupt:
        print("mmclip: interrupted; the same command resumes", file=sys.stderr)
        return INTERRUPTED
    except MmclipError as error:
        print(f"mmclip: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  try: {error.hint}", file=sys.stderr)
        return error.exit_code
    return 0


def main() -> None:
    """The entry point `mmclip`."""
    sys.exit(run(sys.argv[1:]))
