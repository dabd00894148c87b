"""A stage as a Slurm job: arrays for stages whose shards are independent, torchrun for training."""

import re
import shlex
from dataclasses import dataclass, replace

from mmclip.errors import UsageError

SHARDED = ("preprocess", "embed", "generate")
STAGES = (*SHARDED, "train", "fetch", "knn", "outliers", "map", "search")
TIME = re.compile(r"(\d+-)?\d{1,2}(:\d{2}){1,2}")
MEMORY = re.compile(r"\d+[KMGT]?")


@dataclass(frozen=True)
class Job:
    """What is asked of the scheduler.

    Attributes:
        stage: A command of mmclip.
        arguments: Of that command, as typed.
        shards: Tasks of the array; 1 for a plain job.
        nodes, gpus: Of a training; GPUs a node.
        cpus: Cores a task.
        memory: A task's, as Slurm writes it: 24G.
        time: Wall-clock limit: 04:00:00 or 2-00:00:00.
        partition, account: Empty for the site's own.
        setup: A shell line before the command: `source .venv/bin/activate`.
    """

    stage: str
    arguments: tuple[str, ...] = ()
    shards: int = 1
    nodes: int = 1
    gpus: int = 0
    cpus: int = 4
    memory: str = "24G"
    time: str = "04:00:00"
    partition: str = ""
    account: str = ""
    setup: str = ""


def script(job: Job) -> str:
    """The sbatch script of a job; each shard stops and starts again by itself.

    Raises:
        UsageError: On a stage, time, memory or number that cannot be meant.
    """
    check(job)
    array = job.shards > 1
    lines = [f"#SBATCH --array=1-{job.shards}"] if array else []
    log = "mmclip-%x-%A_%a.log" if array else "mmclip-%x-%j.log"
    return _script(job, f"mmclip-{job.stage}", [*lines, f"#SBATCH --output={log}"], _command(job))


def merging(job: Job) -> str:
    """The sbatch script that joins the shards once every task of the array has ended well.

    Raises:
        UsageError: As in `script`, and if there are no shards.
    """
    check(job)
    if job.shards < 2:
        raise UsageError("there is nothing to join", "--shards N")
    name = f"mmclip-{job.stage}-merge"
    return _script(
        replace(job, gpus=0),
        name,
        ["#SBATCH --output=mmclip-%x-%j.log"],
        [f"srun {_words(job)} --merge {job.shards}"],
    )


def submitting(array: str, merge: str) -> str:
    """The line that submits both files, the second held back until the first has ended well."""
    return (
        f"sbatch --dependency=afterok:$(sbatch --parsable {shlex.quote(array)}) "
        f"{shlex.quote(merge)}"
    )


def _script(job: Job, name: str, own: list[str], command: list[str]) -> str:
    lines = ["#!/bin/bash", f"#SBATCH --job-name={name}", f"#SBATCH --nodes={job.nodes}"]
    lines += [f"#SBATCH --ntasks-per-node=1\n#SBATCH --cpus-per-task={job.cpus}"]
    lines += [f"#SBATCH --mem={job.memory}", f"#SBATCH --time={job.time}"]
    if job.partition:
        lines.append(f"#SBATCH --partition={job.partition}")
    if job.account:
        lines.append(f"#SBATCH --account={job.account}")
    if job.gpus:
        lines.append(f"#SBATCH --gpus-per-node={job.gpus}")
    # A requeued task types the same command again, and that resumes.
    lines += [*own, "#SBATCH --requeue", "", "set -euo pipefail"]
    if job.setup:
        lines.append(job.setup)
    return "\n".join([*lines, "", *command, ""])


def _words(job: Job) -> str:
    """The command as typed; preprocess takes the cores of its task, not those of the node."""
    words = ["mmclip", job.stage, *job.arguments]
    if job.stage == "preprocess" and not _given(job, "--workers"):
        words += ["--workers", str(job.cpus)]
    return shlex.join(words)


def _given(job: Job, option: str) -> bool:
    return any(a == option or a.startswith(f"{option}=") for a in job.arguments)


def _command(job: Job) -> list[str]:
    if job.stage == "train" and job.nodes * max(job.gpus, 1) > 1:
        inner = shlex.join(["-m", "mmclip", "train", *job.arguments])
        return [
            'head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
            f"srun torchrun --nnodes={job.nodes} --nproc-per-node={max(job.gpus, 1)} \\",
            '    --rdzv-id="$SLURM_JOB_ID" --rdzv-backend=c10d --rdzv-endpoint="$head:29500" \\',
            f"    {inner}",
        ]
    if job.shards > 1:
        return [f'srun {_words(job)} --shard "$SLURM_ARRAY_TASK_ID/{job.shards}"']
    return [f"srun {_words(job)}"]


def check(job: Job) -> None:
    """Refuse what Slurm would refuse hours later.

    Raises:
        UsageError: Naming the value.
    """
    if job.stage not in STAGES:
        raise UsageError(f"'{job.stage}' is no stage for a job", f"one of: {', '.join(STAGES)}")
    if job.shards > 1 and job.stage not in SHARDED:
        raise UsageError(
            f"{job.stage} is not made of independent shards",
            f"--shards is for {', '.join(SHARDED)}",
        )
    if job.shards > 1:
        taken = [o for o in ("--shard", "--merge", "--force") if _given(job, o)]
        if taken:
            raise UsageError(
                f"{' and '.join(taken)} cannot be given to every task of an array", "leave it out"
            )
        if job.stage == "generate" and not _given(job, "--all"):
            raise UsageError("generate has shards only with --all", "-- --all --from A --to B")
    if min(job.shards, job.nodes, job.cpus) < 1 or job.gpus < 0:
        raise UsageError("--shards, --nodes and --cpus are 1 or more", "mmclip slurm --help")
    if job.nodes > 1 and job.stage != "train":
        raise UsageError(f"{job.stage} runs on one node a task", "--shards N divides it")
    if not TIME.fullmatch(job.time):
        raise UsageError(f"--time '{job.time}' is not a Slurm time", "--time 04:00:00")
    if not MEMORY.fullmatch(job.memory):
        raise UsageError(f"--memory '{job.memory}' is not a Slurm size", "--memory 24G")
    for name, value in (("partition", job.partition), ("account", job.account)):
        if value and not re.fullmatch(r"[\w.,+-]+", value):
            raise UsageError(f"--{name} '{value}' is not a name", f"--{name} NAME")
