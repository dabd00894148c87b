"""`mmclip fetch`."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Force, Name, Where


def command(
    survey: Annotated[list[str], Option(help="demo, gaia-dr3, or one of your own; repeatable.")],
    ids: Annotated[Path | None, Option(help="File of source_ids, one a line; - for stdin.")] = None,
    cone: Annotated[str | None, Option(help="RA,DEC,RADIUS in deg.")] = None,
    adql: Annotated[str | None, Option(help="A query that returns source_id.")] = None,
    sample: Annotated[int | None, Option(min=1, help="A random sample of this many.")] = None,
    modelled_rvs: Annotated[
        bool, Option("--modelled-rvs", help="demo: add the MODELLED RVS view.")
    ] = False,
    seed: Annotated[int, Option(help="Seed of the sample.")] = 42,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the queries, fetch nothing.")] = False,
    name: Name = None,
    force: Force = False,
    workspace: Where = None,
) -> None:
    """Fetch views of stars from surveys into Parquet."""
    from mmclip import plugins
    from mmclip.cli import show
    from mmclip.datasets import raw
    from mmclip.errors import UsageError
    from mmclip.surveys import Request

    if name is not None and len(survey) > 1:
        raise UsageError("--name fits one --survey only", "leave --name out")
    request = Request(sample, read_ids(ids), read_cone(cone), adql, modelled_rvs, seed)
    for wanted in survey:
        chosen = plugins.load("surveys", wanted, "SURVEY")
        if dry_run:
            query = plugins.load("surveys", wanted, "query") if wanted == "gaia-dr3" else None
            print(query(request) if query else f"{chosen.title}: read locally, no query")
            continue
        place = show.workspace(workspace).place("raw", name or chosen.name.replace(".", "-"))
        artifact = raw.collect(chosen, request, place, force)
        show.modelled(artifact.manifest.provenance)
        show.say(f"{artifact.path}: {artifact.manifest.rows['objects']} objects")
        raw.complain(artifact)
    if not dry_run:
        show.say("next: mmclip preprocess")


def read_cone(text: str | None) -> tuple[float, float, float] | None:
    """`RA,DEC,RADIUS` in deg as three numbers.

    Raises:
        UsageError: If it is not three finite numbers in range.
    """
    from mmclip.errors import UsageError

    if text is None:
        return None
    try:
        ra, dec, radius = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise UsageError(f"--cone '{text}' is not RA,DEC,RADIUS", "--cone 56.75,24.12,2") from None
    if not (0 <= ra < 360 and -90 <= dec <= 90 and 0 < radius <= 180):
        raise UsageError(f"--cone '{text}' is outside the sky", "RA 0..360, Dec -90..90, deg")
    return ra, dec, radius


def read_ids(path: Path | None) -> tuple[int, ...]:
    """source_ids from a file or standard input, one a line; order kept, repeats dropped."""
    import sys

    from mmclip.errors import NotFound
    from mmclip.surveys import parse_source_id

    if path is None:
        return ()
    if str(path) == "-":
        text = sys.stdin.read()
    elif path.is_file():
        text = path.read_text(errors="replace")
    else:
        raise NotFound(f"there is no file {path}", "--ids FILE, one source_id a line")
    lines = [line.strip() for line in text.splitlines()]
    wanted = [line for line in lines if line and line != "source_id" and line[0] != "#"]
    return tuple(dict.fromkeys(parse_source_id(line) for line in wanted))
