"""The printed job is what Slurm and the shell take; nonsense is refused before it queues."""

import shutil
import subprocess

import pytest

from mmclip import artifacts
from mmclip.cli import run
from mmclip.errors import UsageError
from mmclip.tasks.slurm import Job, merging, script, submitting


def directives(text):
    lines = [x.removeprefix("#SBATCH --") for x in text.splitlines() if x.startswith("#SBATCH")]
    return dict(([*x.split("=", 1), ""])[:2] for x in lines)


@pytest.mark.parametrize(
    "job",
    [
        Job("embed", ("--run", "rvs-xp"), shards=16),
        Job("preprocess", ("--name", "it's mine"), shards=4),
        Job("generate", ("--all", "--from", "xp"), shards=4, setup="module load python"),
        Job("train", ("--name", "it's mine"), nodes=2, gpus=4),
        Job("train", ("--name", "one")),
        Job("embed", partition="gpu", account="ab-1", setup="source .venv/bin/activate", gpus=1),
    ],
)
def test_the_script_is_valid_shell(job):
    for text in [script(job)] + ([merging(job)] if job.shards > 1 else []):
        checked = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True)
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
        Job("generate", ("--query-id", "1"), shards=2),
        Job("embed", ("--shard=1/2",), shards=2),
        Job("embed", ("--force",), shards=2),
        Job("embed", time="soon"),
        Job("embed", memory="much"),
        Job("embed", partition="gpu\n#SBATCH --mail-user=x"),
    ],
)
def test_nonsense_is_refused(job):
    with pytest.raises(UsageError):
        script(job)


def test_the_merge_waits_for_the_array_and_takes_the_same_arguments():
    job = Job("embed", ("--name", "$(touch x) it's"), shards=3, gpus=1, setup="source env")
    text = merging(job)
    asked = directives(text)
    assert "array" not in asked
    assert "gpus-per-node" not in asked
    fake = text.replace("source env", "")
    assert run_script(fake) == ["mmclip", "embed", "--name", "$(touch x) it's", "--merge", "3"]
    done = subprocess.run(
        ["bash", "-c", 'sbatch() { if [ "$1" = --parsable ]; then echo 41; else echo "$@"; fi; }\n'
         + submitting("my job.sh", "b.sh")], text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout == "--dependency=afterok:41 b.sh\n"


def test_preprocess_takes_the_cores_of_its_task_not_of_the_node():
    started = run_script(script(Job("preprocess", shards=2, cpus=3)), SLURM_ARRAY_TASK_ID="1")
    assert started == ["mmclip", "preprocess", "--workers", "3", "--shard", "1/2"]
    own = Job("preprocess", ("--workers=1",))
    assert run_script(script(own)) == ["mmclip", "preprocess", "--workers=1"]


def test_the_command_prints_it(capsys, tmp_path):
    assert run(["slurm", "embed", "--shards", "2", "--", "--name", "x"]) == 0
    shown = capsys.readouterr()
    assert shown.out.startswith("#!/bin/bash")
    assert "-o job.sh" in shown.err
    assert run(["slurm", "embed", "-o", str(tmp_path / "job.sh")]) == 0
    assert (tmp_path / "job.sh").read_text().startswith("#!/bin/bash")
    assert list(tmp_path.iterdir()) == [tmp_path / "job.sh"]


@pytest.mark.parametrize(
    ("stage", "folder", "arguments"),
    [
        ("preprocess", "data", ["--modalities", "xp", "--workers", "1"]),
        ("embed", "vectors", []),
        ("generate", "generated", ["--all", "--from", "xp", "--to", "metadata", "--decoder=run"]),
    ],
)
def test_the_lines_of_the_array_typed_by_hand_make_the_artefact(
    stage, folder, arguments, trained, tmp_path, capsys
):
    own = [*arguments, "--workspace", str(trained)]
    assert run([stage, *own, "--name", f"{stage}-plain"]) == 0
    job = tmp_path / "job.sh"
    name = f"{stage}-array"
    slurm = ["slurm", stage, "--shards", "2", "-o", str(job), "--", *own, "--name", name]
    assert run(slurm) == 0
    assert f"$(sbatch --parsable {job})" in capsys.readouterr().err
    for task in ("1", "2"):
        line = run_script(job.read_text(), SLURM_ARRAY_TASK_ID=task)
        assert run(line[1:]) == 0
    assert run(run_script((tmp_path / "job-merge.sh").read_text())[1:]) == 0
    plain, made = (artifacts.read(trained / folder / n) for n in (f"{stage}-plain", name))
    assert made.manifest.files == plain.manifest.files
    assert made.manifest.fingerprint == plain.manifest.fingerprint
    for artifact in (plain, made):  # the workspace is shared: what is newest there stays so
        shutil.rmtree(artifact.path)
