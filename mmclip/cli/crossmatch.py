"""`mmclip crossmatch`."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def command(
    left: Annotated[Path, Argument(help="HATS catalogue whose rows seek a neighbour.")],
    right: Annotated[Path, Argument(help="HATS catalogue (with its margin) that is searched.")],
    output: Annotated[Path, Option("-o", "--output", help="Directory of the new HATS catalogue.")],
    radius: Annotated[float, Option(help="Largest separation, arcsec.")] = 1.0,
    on: Annotated[
        str | None, Option(help="Join on this column, as source_id, instead of by position.")
    ] = None,
    no_margin: Annotated[
        bool, Option("--no-margin", help="Lose the pairs across borders of pixels of RIGHT.")
    ] = False,
    dask: Annotated[
        str | None, Option(help="Dask scheduler, tcp://HOST:8786. [default: one started here]")
    ] = None,
    workers: Annotated[int, Option(min=1, help="Processes of the one started here.")] = 2,
) -> None:
    """Match two HATS catalogues too large for memory: lsdb on Dask (extra hats)."""
    from mmclip.cli.output import say
    from mmclip.datasets.crossmatch_lsdb import match

    made = match(left, right, output, radius, on, no_margin, dask, workers)
    say(f"{output}: {made.rows:,} pairs of {made.left:,} rows of {left}")
    if made.again:
        say(f"note: {made.again:,} of them share their row of {right} with another pair")
    say(f"next: mmclip import {output} --as VIEW")
