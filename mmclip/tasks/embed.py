"""data + run -> vectors."""

from pathlib import Path

import numpy as np
import torch

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.clip.run import Run, device, tensors
from mmclip.clip.train import embed_all
from mmclip.datasets.build import Dataset
from mmclip.modalities import normalise, restore
from mmclip.vectors import store


@torch.no_grad()
def embed(
    data: Dataset, run: Run, folder: Path, factory: str = "Flat", where: str = "auto"
) -> Artifact:
    """Write the vectors of every star of a data set into `folder`.

    The views are normalised by the run's own statistics, not by those of the data set.
    """
    place = device(where)
    model = run.model.to(place)
    vectors = {}
    for name in sorted(run.shape.sizes):
        view = data.views[name]
        values = view.values
        ours = run.statistics[name]
        if not np.array_equal(ours.centre, view.statistics.centre):
            values = normalise(restore(values, view.statistics), ours)
        found = embed_all(model, name, *tensors(values, place)).cpu().numpy()
        vectors[name] = np.where(view.present[:, None], found, np.float32(np.nan))
    about = store.write(folder, data.source_id, data.split, vectors, factory)
    rows = {"objects": len(data.source_id)}
    rows |= {n: int(np.isfinite(v[:, 0]).sum()) for n, v in vectors.items()}
    return artifacts.seal(
        folder,
        "vectors",
        config={"factory": factory},
        parents=[run.artifact.reference, data.artifact.reference],
        rows=rows,
        surveys=data.artifact.manifest.surveys,
        provenance={n: data.views[n].provenance for n in vectors},
        seed=None,
        notes={"indexes": about},
    )
