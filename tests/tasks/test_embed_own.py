"""Views that are no modality of mmclip, as `examples/two_surveys.py` makes them."""

import importlib.util
from pathlib import Path

import numpy as np

from mmclip import artifacts
from mmclip.clip.run import open_run
from mmclip.clip.settings import TrainConfig
from mmclip.clip.train import train
from mmclip.datasets.build import open_dataset
from mmclip.tasks.embed import embed
from mmclip.training.loop import silent
from mmclip.vectors.store import Store

EXAMPLE = Path(__file__).parents[2] / "examples" / "two_surveys.py"


def test_views_of_no_modality_are_trained_and_embedded(tmp_path):
    spec = importlib.util.spec_from_file_location("two_surveys", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(120, 3))
    views = {n: (hidden @ rng.normal(size=(3, 8))).astype(np.float32) for n in ("east", "west")}
    views["west"][:5] = np.nan
    data = open_dataset(example.write_data(tmp_path / "data", views))
    settings = TrainConfig(encoders=("mlp", "mlp"), dimension=4, width=8, epochs=1, batch=32,
                           generator_epochs=1)  # fmt: skip
    run = open_run(train(data, settings, tmp_path / "run", silent, False))
    with artifacts.building(tmp_path / "vectors") as folder:
        embed(data, run, folder)
    store = Store(artifacts.read(tmp_path / "vectors"))
    assert np.isfinite(store.vectors("east")).all()
    np.testing.assert_array_equal(np.isnan(store.vectors("west")).all(axis=1), np.arange(120) < 5)
