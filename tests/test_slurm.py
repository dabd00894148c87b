"""The printed job is what Slurm and the shell take; nonsense is refused before it queues."""

import subprocess

import pytest

from mmclip.cli import run
from mmclip.errors import UsageError
from mmclip.tasks.slurm import Job, merging, script


def directives(text):
    lines = [x.removeprefix("#SBATCH --") for x in text.splitlines() if x.startswith("#SBATCH")]
    return dict(([*x.split("=", 1), ""])[:2] for x in lines)


@pytest.mark.parametrize(
    "job",
    [
        Job("embed", ("--run", "rvs-xp"), shards=16),
        Job("train", ("--name", "it's mine"), nodes=2, gpus=4),
        Job("train", ("--name", "one")),
        Job("embed", partition="gpu", account="ab-1", setup="source .venv/bin/activate", gpus=1),
    ],
)
def test_the_script_is_valid_shell(job):
    checked = subprocess.run(["bash", "-n"], input=script(job), text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def run_script(text, **env):
    """What the shell would start, with srun, torchrun and scontrol standing in as echo."""
    fake = 'srun() { printf "%s\\n" "$@"; }; scontrol() { echo node1; echo node2; }\n'
    done = subprocess.run(
        ["bash", "-c", fake + text], text=True, capture_output=True, check=True,
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_NODELIST": "n", "SLURM_JOB_ID": "7", **env},
    )  # fmt: skip
    return done.stdout.splitlines()


def test_each_task_of_an_array_asks_for_its_own_shard():
    text = script(Job("embed", ("--name", "a b"), shards=3))
    assert directives(text)["array"] == "1-3"
    started = run_script(text, SLURM_ARRAY_TASK_ID="2")
    assert started == ["mmclip", "embed", "--name", "a b", "--shard", "2/3"]


def test_training_on_two_nodes_meets_at_the_first():
    started = run_script(script(Job("train", ("--name", "x"), nodes=2, gpus=4)))
    assert started[:3] == ["torchrun", "--nnodes=2", "--nproc-per-node=4"]
    assert "--rdzv-endpoint=node1:29500" in started
    assert started[-5:] == ["-m", "mmclip", "train", "--name", "x"]


def test_an_argument_cannot_become_a_command():
    started = run_script(script(Job("embed", ("--name", "$(touch /tmp/x); rm -rf ~"))))
    assert started == ["mmclip", "embed", "--name", "$(touch /tmp/x); rm -rf ~"]


@pytest.mark.parametrize(
    "job",
    [
        Job("trian"),
        Job("train", shards=4),
        Job("embed", nodes=2),
        Job("embed", time="soon"),
        Job("embed", memory="much"),
        Job("embed", partition="gpu\n#SBATCH --mail-user=x"),
    ],
)
def test_nonsense_is_refused(job):
    with pytest.raises(UsageError):
        script(job)


def test_the_command_prints_it(capsys, tmp_path):
    assert run(["slurm", "embed", "--shards", "2", "--", "--name", "x"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("#!/bin/bash")
    assert "--merge 2" in shown.err
    assert "--merge 2" in merging(Job("embed", ("--name", "x"), shards=2))
    assert run(["slurm", "embed", "-o", str(tmp_path / "job.sh")]) == 0
    assert (tmp_path / "job.sh").read_text().startswith("#!/bin/bash")
