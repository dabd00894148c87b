"""`mmclip slurm`: sbatch scripts."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option


def command(
    stage: Annotated[str, Argument(help="A command of mmclip: preprocess, train, embed ...")],
    arguments: Annotated[
        list[str] | None, Argument(help="Its own arguments, after -- : -- --modalities xp,rvs")
    ] = None,
    shards: Annotated[int, Option(min=1, help="Tasks of an array.")] = 1,
    nodes: Annotated[int, Option(min=1, help="train: nodes.")] = 1,
    gpus: Annotated[int, Option(min=0, help="GPUs a node.")] = 0,
    cpus: Annotated[int, Option(min=1, help="Cores a task.")] = 4,
    memory: Annotated[str, Option(help="Memory a task.")] = "24G",
    time: Annotated[str, Option(help="Wall-clock limit.")] = "04:00:00",
    partition: Annotated[str, Option(help="Of your site.")] = "",
    account: Annotated[str, Option(help="Of your allocation.")] = "",
    setup: Annotated[str, Option(help="Shell line first: 'source .venv/bin/activate'.")] = "",
    output: Annotated[
        Path | None, Option("-o", "--output", help="Write the script here. [default: print it]")
    ] = None,
) -> None:
    """Print a ready sbatch script for a stage: an array of shards, or torchrun for train."""
    from mmclip.artifacts import whole
    from mmclip.cli.output import say
    from mmclip.tasks import slurm

    job = slurm.Job(
        stage, tuple(arguments or ()), shards, nodes, gpus, cpus, memory, time, partition,
        account, setup,
    )  # fmt: skip
    text = slurm.script(job)
    if output is None:
        print(text, end="")
        if shards > 1:
            say("with -o job.sh also the job that joins the shards is written")
        return
    files = {output: text}
    last = f"sbatch {output}"
    if shards > 1:
        joining = output.with_name(f"{output.stem}-merge{output.suffix}")
        files[joining] = slurm.merging(job)
        last = slurm.submitting(str(output), str(joining))
    for path, body in files.items():
        with whole(path) as part:
            part.write_text(body, encoding="utf-8")
    say(f"next: {last}")
