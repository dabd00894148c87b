"""Makes one archive of artefacts of the mmclip found on PYTHONPATH: see README.md beside this file.

git archive COMMIT mmclip | tar -x -C OLD && cd EMPTY && PYTHONPATH=OLD python make.py NAME
"""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np

STARS = 60
WORK = Path("mmclip-work")
# Few numbers and two levels a spectrum, so that an archive has some kB.
STAGES = (
    ["preprocess", "--name", "stars"],
    ["train", "--config", "tiny.toml", "--name", "model"],
    ["embed", "--name", "model"],
    ["train-decoder", "--from", "metadata", "--to", "xp", "--decoder", "mlp", "--epochs", "1",
     "--name", "mlp"],
    ["generate", "--from", "metadata", "--to", "xp", "--all", "--decoder", "mlp", "--name", "mlp"],
    ["adapt", "--from", "data/stars", "--data", "stars", "--target", "teff", "--view", "metadata",
     "--sizes", "0,20", "--seeds", "1", "--method", "zero-shot,lora", "--config", "tiny.toml",
     "--name", "carried"],
    ["pretrain", "--modality", "xp", "--method", "autoencoder", "--encoder", "mlp", "--config",
     "tiny.toml", "--name", "self"],
    ["map", "--colour", "teff", "--name", "flat"],
    ["index", "--add", "--index", "parts", "--part-rows", "40"],
)  # fmt: skip
SETTINGS = """
[train]
width = 8
dimension = 4
epochs = 1
generator_epochs = 1
batch = 16
[adapt]
source_epochs = 1
epochs = 1
[pretrain]
width = 8
epochs = 1
latents = 2
"""


def stars():
    """Made stars: two levels of flux and four magnitudes that follow one temperature."""
    from mmclip.surveys import Fetched
    from mmclip.surveys.demo import table

    rng = np.random.default_rng(1)
    teff = np.round(rng.uniform(3500, 8000, STARS), -2)
    ids = np.sort(rng.choice(2**40, STARS, replace=False).astype(np.int64) * 8192 + 7)
    colour = 1.5 - (teff - 3500) / 4500
    red = np.where(np.arange(343) < 171, 1.0, 1.0) * np.ones((STARS, 1))
    red[:, 171:] = np.round(1 + colour, 1)[:, None]
    g = np.round(rng.uniform(9, 14, STARS), 1)
    magnitudes = {
        "phot_g_mean_mag": g, "j_m": g - colour, "h_m": g - 1.3 * colour, "ks_m": g - 1.4 * colour
    }  # fmt: skip
    sky = {"ra": np.round(rng.uniform(0, 360, STARS), 1), "dec": np.zeros(STARS)}
    flux = red.astype("f4")
    return Fetched(
        {
            "objects": table({"source_id": ids, **sky, "teff": teff}),
            "metadata": table({"source_id": ids, **magnitudes}),
            "xp": table({"source_id": ids, "flux": flux, "flux_error": 0.01 * flux}),
        },
        {"metadata": "observed", "xp": "observed"},
    )


def lighten(file, prefix=None):
    """Weights that compress, sealed again: zero under the prefix, else of few different values."""
    import torch

    from mmclip import artifacts
    from mmclip.encoders.tensors import read_tensors, write_tensors

    folder = file.parent
    kept = {
        k: v if v.numel() <= 64 or not v.is_floating_point()
        else torch.zeros_like(v) if prefix is not None and k.startswith(prefix)
        else torch.round(v * 32) / 32
        for k, v in read_tensors(file).items()
    }  # fmt: skip
    for name in ("loss.png", "recall.png"):
        (folder / name).unlink(missing_ok=True)
    write_tensors(file, kept)
    body = json.loads((folder / "manifest.json").read_bytes())
    (folder / "manifest.json").unlink()
    same = ("config", "parents", "rows", "surveys", "provenance", "seed", "notes")
    sys.argv = body["command"].split()
    artifacts.seal(folder, body["kind"], **{k: body[k] for k in same})


def report():
    """A page such as `mmclip demo` ends with; its own stars would be too many."""
    from mmclip import artifacts
    from mmclip import report as pages

    vectors = artifacts.read(WORK / "vectors" / "model")
    with artifacts.building(WORK / "reports" / "model") as folder:
        html = pages.page("made stars", "none", [pages.Section("Nothing", table=[{"a": 1}])], "")
        pages.write(folder / "index.html", html)
        artifacts.seal(
            folder, "report", config={}, parents=[vectors.reference], rows={"objects": STARS},
            surveys=[], provenance=vectors.manifest.provenance, seed=None,
        )  # fmt: skip


def main(name):
    """Every stage that this mmclip has, then the archive."""
    from mmclip.cli import COMMANDS
    from mmclip.datasets import ingest
    from mmclip.surveys import Request, Survey

    made = Survey("made", "made stars", "1", (), lambda request: stars())
    sys.argv = ["mmclip", "fetch", "--survey", "made"]
    ingest.collect(made, Request(), WORK / "raw" / "made", True)
    Path("tiny.toml").write_text(SETTINGS)
    for stage in STAGES:
        if stage[0] not in COMMANDS:
            print(f"this mmclip has no {stage[0]}")
            continue
        done = subprocess.run([sys.executable, "-m", "mmclip", *stage], capture_output=True)
        if done.returncode:
            print(f"{stage[0]} ended with {done.returncode}: {done.stderr.decode()[-300:]}")
        elif stage[0] == "train":
            lighten(WORK / "runs" / "model" / "model.safetensors", "generators.")
        elif stage[0] == "train-decoder":
            lighten(WORK / "decoders" / "mlp" / "model.safetensors", "")
        elif stage[0] == "adapt":
            lighten(WORK / "adapters" / "carried" / "networks.safetensors", "")
        elif stage[0] == "pretrain":
            lighten(WORK / "encoders" / "self" / "encoder.safetensors")
    report()
    pack(name)


def pack(name):
    """The archive of the workspace, without owners and times."""
    with tarfile.open(f"{name}.tar.xz", "w:xz") as archive:
        for file in sorted(WORK.glob("*/[!.]*/**/*")):
            if file.is_file():
                archive.add(file, filter=_anonymous)
    print(f"{name}.tar.xz: {Path(f'{name}.tar.xz').stat().st_size} bytes")


def _anonymous(entry):
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(sys.argv[1])
