"""Generated spectra per second, against one call a star; weights and vectors are random.

Speed does not depend on the values. The reference asks the same decoder for one star at a time, as
a notebook would, and its answers must be ours.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mmclip import plugins
from mmclip.decoders import flow
from mmclip.encoders.tensors import device
from mmclip.modalities import Statistics
from mmclip.tasks.bench import Bench, BenchConfig, Line
from mmclip.tasks.generate import calibrate
from mmclip.tasks.generate.decoder import Trained, draws, predict

LENGTH, DIMENSION, DRAWS = 311, 128, 16
SINGLY = 64  # stars the reference is measured on
NAMES = ("flow", "gaussian", "schwarz", "mlp")


def made(
    name: str, settings: BenchConfig
) -> tuple[Trained, NDArray[np.float32], NDArray[np.int64]]:
    """A decoder of random weights for XP, unit vectors, and source_ids."""
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    vectors = rng.normal(size=(settings.rows, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    decoder = plugins.load("decoders", name, "DECODER")
    module = decoder.build(DIMENSION, (LENGTH,))
    if decoder.fit is not None:
        keys = rng.normal(size=(flow.REMEMBERED, DIMENSION)).astype(np.float32)
        values = torch.from_numpy(rng.normal(size=(flow.REMEMBERED, LENGTH)).astype(np.float32))
        mask = torch.ones_like(values, dtype=torch.bool)
        decoder.fit(module, torch.from_numpy(keys / np.sqrt(DIMENSION)), values, mask)
    by = Statistics(np.zeros(LENGTH), np.ones(LENGTH), "z")
    module = module.eval().to(device(settings.device))
    trained = Trained(
        ("metadata",), "xp", decoder, module, by, calibrate.none(LENGTH), None, "observed"
    )
    return trained, vectors, np.arange(settings.rows, dtype=np.int64)


def run(settings: BenchConfig) -> list[Line]:
    """One line a decoder and kind of answer: spectra/s by wall and by CPU time, and the ratio."""
    rows: list[Line] = []
    for name in NAMES:
        trained, vectors, ids = made(name, settings)
        where = str(next(trained.module.parameters()).device)
        some = vectors[:SINGLY]
        single = _best(partial(_singly, trained, some), settings.repeats)
        whole = _best(partial(_means, trained, vectors), settings.repeats)
        off = float(np.abs(whole[2][: len(some)] - single[2]).max() / np.abs(single[2]).max())
        rows.append(
            _line(name, "mean and sigma", len(vectors), whole, where)
            | {"ratio to one at a time": whole_rate(len(vectors), whole)
               / whole_rate(len(some), single), "difference": off}
        )  # fmt: skip
        few = min(len(vectors), 256)
        drawn = _best(
            partial(draws, trained, vectors[:few], ids[:few], DRAWS, 42),
            min(settings.repeats, 3),
        )
        rows.append(_line(name, f"{DRAWS} draws a star", few, drawn, where))
    return rows


def _means(trained: Trained, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return predict(trained, vectors)[0]


def _singly(trained: Trained, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.concatenate([_means(trained, vectors[i : i + 1]) for i in range(len(vectors))])


def _best(work: Callable[[], Any], repeats: int) -> tuple[float, float, Any]:
    """Least wall and CPU seconds of `repeats` calls, and the last answer."""
    wall, cpu, answer = [], [], None
    for _ in range(repeats):
        begun, used = time.perf_counter(), time.process_time()
        answer = work()
        wall.append(time.perf_counter() - begun)
        cpu.append(time.process_time() - used)
    return min(wall), min(cpu), answer


def whole_rate(stars: int, timed: tuple[float, float, Any]) -> float:
    """Stars per CPU second."""
    return stars / max(timed[1], 1e-9)


def _line(name: str, what: str, stars: int, timed: tuple[float, float, Any], where: str) -> Line:
    return {
        "decoder": name,
        "answer": what,
        "stars": stars,
        "stars/s (wall)": stars / timed[0],
        "stars/s (CPU)": whole_rate(stars, timed),
        "pixels": LENGTH,
        "device": where,
        "threads": torch.get_num_threads(),
    }


BENCH = Bench("generate", "generated spectra per second, decoders of XP", run)
