"""Options that commands share."""

from pathlib import Path
from typing import Annotated

from typer import Option

Where = Annotated[
    Path | None,
    Option(
        "--workspace", "-w", help="Directory of the artefacts. [default: mmclip-work]",
        envvar="MMCLIP_WORKSPACE",
    ),
]  # fmt: skip
Name = Annotated[str | None, Option(help="Name of what is made.")]
Force = Annotated[bool, Option("--force", help="Replace an artefact of that name.")]
Json = Annotated[bool, Option("--json", help="One JSON object a line.")]
Output = Annotated[
    Path | None, Option("-o", "--output", help="Also write .csv .parquet .fits .vot .ecsv .json")
]
Config = Annotated[Path | None, Option("--config", help="TOML file with settings of this stage.")]
Device = Annotated[str | None, Option(help="auto, cpu or cuda.")]
Seed = Annotated[int | None, Option(min=0, max=2**32 - 1, help="Seed of every random choice.")]
Data = Annotated[str | None, Option("--data", help="Data artefact. [default: the newest]")]
Vectors = Annotated[str | None, Option("--vectors", help="Vectors artefact. [default: the newest]")]
