"""`mmclip models`: published weights of others."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from mmclip.cli.options import Json, Output, Where

if TYPE_CHECKING:
    from mmclip.results import Result


def command(
    name: Annotated[str | None, Argument(help="One of them, in full. [default: all]")] = None,
    check: Annotated[
        Path | None, Option(help="A downloaded file of NAME: does it hold what it should?")
    ] = None,
    as_json: Json = False,
    output: Output = None,
    workspace: Where = None,
) -> "Result":
    """List published weights of others: licence, layout, what they expect."""
    import dataclasses

    from mmclip.cli.output import say, show
    from mmclip.clip import catalogue
    from mmclip.errors import UsageError
    from mmclip.results import from_rows

    if check is not None and name is None:
        raise UsageError(
            "--check asks for the name of the model", "mmclip models NAME --check FILE"
        )
    if name is None:
        names = ("name", "licence", "view", "layout", "unit", "grid", "time", "where")
        rows = [{n: getattr(m, n) for n in names} for m in catalogue.models().values()]
        short = [{n: r[n] for n in names[:4]} for r in rows]
        return show(from_rows(rows, "published weights; none is bundled"), as_json, output, short)
    one = catalogue.model(name)
    told = {k: v for k, v in dataclasses.asdict(one).items() if v}
    rows = [{"what": k, "value": str(v)} for k, v in told.items()]
    if check is not None:
        rows.append({"what": "checked", "value": catalogue.check(one, check)})
    elif one.layout != catalogue.ONNX:
        say(f"next: mmclip train --set views.{one.view}.weights=FILE")
    return show(from_rows(rows, one.title), as_json, output)
