"""What heads on the vectors alone know of the labels, and retrieval, on the bundled real stars.

    mmclip fetch --survey demo --name demoall -w W && mmclip preprocess --raw demoall --name demoall -w W
    mmclip fetch --survey demo --sample 3000 --name demo3k -w W && mmclip preprocess --raw demo3k --name demo3k -w W
    python -m tests.benchmarks.measure_embedding W demo3k demoall 0,1,2 [KEY=VALUE ...]

Each seed trains on the first data set (`mmclip train --set KEY=VALUE`; 40 epochs, no decoders, unless
set) and asks all test stars of the second. A line of JSON a seed: recall@1 and @10 from photometry
to XP among the test stars of the first, and among those of the second, R2 of Teff, log g, [M/H] and
[alpha/M] from the XP vectors by 13 neighbours and by kernel ridge, seconds of CPU.
"""  # noqa: E501

import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mmclip import arrays, metrics
from mmclip.artifacts.workspace import Workspace
from mmclip.clip.model import embed_all
from mmclip.clip.settings import model_shape, resolve_settings
from mmclip.clip.stages import ClipTraining
from mmclip.datasets.build import limits, open_dataset
from mmclip.encoders.tensors import tensors
from mmclip.modalities import normalise
from mmclip.tasks.predict.features import reader
from mmclip.tasks.predict.heads import Sample, kernel_ridge

LABELS, VIEWS = ("teff", "logg", "fe_h", "alpha_m"), ("metadata", "xp")
K = 13


def labels(data, rows):
    """[rows, 4] labels, NaN where unknown."""
    found = [arrays.column(data.objects, n).astype(np.float64)[rows] for n in LABELS]
    return np.stack(found, axis=1)


def vectors(model, like, data, view, rows):
    """[rows, D] of rows of a data set, prepared as `like` was."""
    by, clip = like.views[view].statistics, float(like.artifact.manifest.config.get("clip", 0.0))
    bound = limits(like.modality(view), by, clip)
    values = np.clip(normalise(reader(data.views[view])(rows).values, by), -bound, bound)
    return embed_all(model, view, *tensors(values.astype(np.float32), torch.device("cpu"))).numpy()


def recall(asked, held, among):
    """Part of rows whose own counterpart is among the nearest 1, 10, ..."""
    cosine = asked @ held.T
    ahead = (cosine > np.diag(cosine)[:, None]).sum(axis=1)
    return [round(float((ahead < k).mean()), 4) for k in among]


def neighbours(x, y, asked):
    """[asked, 4] mean label of the nearest stars that have it."""
    made = np.empty((len(asked), y.shape[1]))
    for j, label in enumerate(y.T):
        known = np.isfinite(label)
        near = np.argpartition(kernel_ridge.distances(asked, x[known]), K, axis=1)[:, :K]
        made[:, j] = label[known][near].mean(axis=1)
    return made


def ridge(x, y, asked):
    """[asked, 4] by kernel ridge regression, length and ridge of each label its own."""
    known = np.isfinite(y).any(axis=1)
    centre, scale = np.nanmean(y, axis=0), np.nanstd(y, axis=0)
    sample = Sample(
        x[known], (y[known] - centre) / scale, np.ones(known.sum()), np.ones(x.shape[1])
    )
    return kernel_ridge.load(kernel_ridge.fit(sample, 0, None))(asked) * scale + centre


def measure(ours, theirs, words, seed):
    """One row."""
    settings = resolve_settings(None, None, [f"seed={seed}", *words], {})
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        training = ClipTraining(ours, settings, model_shape(ours.views, settings), Path(folder))
        training.run()
    row = {"settings": " ".join(words), "seed": seed, "cpu": round(time.process_time() - began)}
    model = training.model.eval()
    both = [v.present for v in ours.views.values()]
    test = np.flatnonzero(ours.of("test") & np.all(both, axis=0))
    train = np.flatnonzero(ours.of("train") & ours.views["xp"].present)
    asked = np.flatnonzero(theirs.of("test") & theirs.views["xp"].present)
    pair = [vectors(model, ours, ours, view, test) for view in VIEWS]
    row["recall"] = recall(*pair, (1, 10))
    wide = asked[theirs.views["metadata"].present[asked]]
    row["recall, all"] = recall(*(vectors(model, ours, theirs, n, wide) for n in VIEWS), (1, 10))
    x, q = (vectors(model, ours, d, "xp", r) for d, r in ((ours, train), (theirs, asked)))
    y, truth = labels(ours, train), labels(theirs, asked)
    for name, head in (("13 neighbours", neighbours), ("kernel ridge", ridge)):
        made = head(x, y, q)
        known = np.isfinite(truth)
        each = [
            metrics.scores(t[k], m[k]) for t, m, k in zip(truth.T, made.T, known.T, strict=True)
        ]
        row[name] = [round(one["R2"], 4) for one in each]
    return row


def main(workspace, ours, theirs, seeds, *words):
    """A line a seed."""
    space = Workspace(Path(workspace))
    first, second = (open_dataset(space.get("data", name), VIEWS) for name in (ours, theirs))
    for seed in map(int, seeds.split(",")):
        row = measure(first, second, ["epochs=40", "generator_epochs=0", *words], seed)
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
