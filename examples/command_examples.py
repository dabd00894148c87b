"""Write the example of each command's page between its markers, from bundled stars.

    python examples/command_examples.py [WORKSPACE [PAGE ...]]

The commands of `EXAMPLES` run one after another in one workspace, 80 columns wide; what they print
goes into docs/commands/NAME.md, so that a page shows what the command says today. Where pages are
named, these alone are made, after the first four commands. Two minutes on two idle cores.
"""

import contextlib
import io
import os
import re
import shlex
import sys
import tempfile
from pathlib import Path

from mmclip.cli import run

PAGES = Path(__file__).resolve().parents[1] / "docs" / "commands"
BEGIN, END = "<!-- example: begin -->", "<!-- example: end -->"
LINES = 30  # of an output; the rest is counted
EXAMPLES = {
    "fetch": ["fetch --survey demo --sample 400"],
    "preprocess": ["preprocess"],
    "train": ["train --epochs 10 --set generator_epochs=5"],
    "embed": ["embed"],
    "search": ["search --query-id -k 3 --from metadata --to xp"],
    "knn": ["knn --target teff --modality xp"],
    "predict": ["predict --target teff,fe_h --method kernel-ridge --bootstrap 20"],
    "outliers": ["outliers --top 5"],
    "cluster": ["cluster -k 2"],
    "train-decoder": ["train-decoder --from metadata --to xp"],
    "generate": ["generate --from metadata --to xp"],
    "index": ["index"],
    "info": ["info"],
    "verify": ["verify"],
    "cite": ["cite"],
    "export": ["export --format datasets -o stars"],
    "slurm": ["slurm embed --shards 4"],
}


def printed(command: str) -> str:
    """What a command prints on a terminal of 80 columns, both streams."""
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard), contextlib.redirect_stderr(heard):
        code = run(shlex.split(command))
    if code:
        raise SystemExit(f"mmclip {command} ended with {code}:\n{heard.getvalue()}")
    lines = [line.rstrip() for line in heard.getvalue().strip().splitlines()]
    more = [f"... {len(lines) - LINES} lines more"] if len(lines) > LINES else []
    return "\n".join([*lines[:LINES], *more])


def written(page: str, shown: str) -> str:
    """A page with this example in the place of the one before."""
    between = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not between.search(page):
        raise SystemExit(f"a page has no {BEGIN} ... {END}")
    return between.sub(lambda _: f"{BEGIN}\n```\n{shown}\n```\n{END}", page, count=1)


def main(workspace: str, *pages: str) -> None:
    """Run every example and write the pages."""
    os.environ |= {"COLUMNS": "80", "MMCLIP_WORKSPACE": "mmclip-work"}
    os.chdir(workspace)
    first = list(EXAMPLES)[:4]
    for name, commands in EXAMPLES.items():
        if pages and name not in (*first, *pages):
            continue
        shown = "\n\n".join(f"$ mmclip {c}\n{printed(c)}" for c in commands)
        if pages and name not in pages:
            continue
        path = PAGES / f"{name}.md"
        path.write_text(written(path.read_text(), shown))
        print(f"wrote {path.name}", file=sys.stderr)


if __name__ == "__main__":
    main(*(sys.argv[1:] or [tempfile.mkdtemp()]))
