"""Training steps per second, CPU seconds and peak memory of each preset at its published shapes.

Each line is a process of its own, so that peak memory is that line's. Values are random: speed does
not depend on them. CPU seconds are those of all threads of the process, without the data set.
"""

import contextlib
import math
import platform
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from mmclip import papers
from mmclip.clip.loss import chunked_clip_loss, clip_loss
from mmclip.clip.model import ClipModel
from mmclip.clip.objective import backward, embed_batch
from mmclip.clip.settings import TrainConfig, sizes_shape
from mmclip.config import Json, resolve
from mmclip.encoders.tensors import device
from mmclip.errors import UsageError
from mmclip.tasks.bench import Bench, BenchConfig, Line, apart, peak
from mmclip.training import memory, optimisers
from mmclip.training.precision import in_bfloat16

PRESETS = ("astrom3", "schwarz2024", "astroclip")  # their shapes: mmclip/papers
BATCHES = (64, 256, 512)
FULL = {"photometry": {"attention": "full", "mask_padding": True}}
LEAN = {"photometry": {**FULL["photometry"], "recompute": True}}
LITTLE = "ours, little memory"
WAYS: dict[str, Json] = {
    "plain": {},  # the published network as it is: float32, whole batch, logits held whole
    "ours": {"views": FULL},  # float32 on a CPU, bfloat16 on a GPU, as `train` decides
    LITTLE: {"views": LEAN, "encode_chunk": 64},
}
# What `mmclip train` makes of light curves without a preset, float32.
DEFAULTS: dict[str, dict[str, tuple[int, ...]]] = {
    "light curves, folded": {"photometry_folded": (64, 6), "photometry_features": (138,)},
    "light curves": {"photometry": (200, 9), "metadata": (3,)},
}
CURVE = "photometry"  # the view whose steps are counted
SHORTEST, LONGEST = 60, 200  # steps of AstroM3's light curves, about; the network reads 200 at most
LOSS_OBJECTS = (4096, 16384, 65536)
NAIVE = 16384  # objects: the naive logits of 65,536 alone are 17 GB


@dataclass(frozen=True)
class Asked:
    """One line of the benchmark.

    Attributes:
        what: One of `PRESETS` or of `DEFAULTS`, or `loss`.
        batch: Objects a step.
        way: One of `WAYS`; of the loss `naive` or `chunked`.
        steps: Timed ones.
        real: Light curves have 60 to 200 steps, each number as likely; else all have 200.
    """

    what: str
    batch: int
    way: str
    steps: int
    seed: int
    device: str
    real: bool = False


def run(settings: BenchConfig) -> list[Line]:
    """One line a preset, batch and way; then the loss alone, naive and chunked.

    `rows` of the settings bounds the batches (and, above 10,000, asks for the large losses);
    `preset` (or `loss`) and `batch` leave one of each.

    Raises:
        UsageError: If there is no such preset.
    """
    answers, only = [], settings.preset
    if only not in ("", "loss", *PRESETS, *DEFAULTS):
        known = ", ".join((*PRESETS, *(f"'{n}'" for n in DEFAULTS), "loss"))
        raise UsageError(f"no preset '{only}' to measure", f"--preset with one of: {known}")
    batches = [settings.batch] if settings.batch else [b for b in BATCHES if b <= settings.rows]
    for what in (*PRESETS, *DEFAULTS):
        ways = ["plain"] if what in DEFAULTS else [w for w in WAYS if w != LITTLE]
        ways += [LITTLE] if what == "astrom3" else []
        if only in ("", what):
            lengths = (False, True) if what == "astrom3" else (False,)
            answers += [
                _line(what, batch, way, settings, real)
                for batch in batches for real in lengths for way in ways
            ]  # fmt: skip
    for objects in LOSS_OBJECTS if only in ("", "loss") else ():
        for way in ("naive", "chunked"):
            large = objects == min(LOSS_OBJECTS) or settings.rows >= 10_000
            if large and (way == "chunked" or objects <= NAIVE):
                answers.append(_line("loss", objects, way, settings))
    return answers


def _line(what: str, batch: int, way: str, settings: BenchConfig, real: bool = False) -> Line:
    steps = max(1, min(settings.repeats, 5))
    asked = Asked(what, batch, way, steps, settings.seed, settings.device, real)
    row: Line = {"preset": what, "batch": batch, "way": way}
    if what == "astrom3":
        row["steps of a curve"] = f"{SHORTEST} to {LONGEST}" if real else f"{LONGEST}"
    return row | apart("train", asdict(asked)) | {"processor": processor()}


def processor() -> str:
    """Its name, and the vector instructions that PyTorch found."""
    import torch

    name = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        name = found[1] if found else name
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def measure(**asked: Any) -> Line:
    """One line of `run`, in this process; see `Asked`."""
    line = Asked(**asked)
    return _loss(line) if line.what == "loss" else preset(line)


def _timed(step: Callable[[], None], steps: int, objects: int) -> Line:
    import torch

    step()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    line: Line = {
        "samples/s": objects * steps / wall,
        "samples per CPU second": objects * steps / cpu,
        "CPU s a step": cpu / steps,
        "peak GiB": peak(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        line["peak GiB on the GPU"] = torch.cuda.max_memory_allocated() / 2**30
    return line


def preset(asked: Asked) -> Line:
    """Training steps of a preset."""
    model, ours, plain, _ = stepping(asked)
    base = peak()
    if asked.way == "plain":
        found = _timed(plain, asked.steps, asked.batch)
    else:
        with memory.kept():  # as the training loop does
            found = _timed(ours, asked.steps, asked.batch)
    return found | {"of it before": base, "parameters": sum(p.numel() for p in model.parameters())}


def stepping(
    asked: Asked,
) -> tuple[ClipModel, Callable[[], None], Callable[[], None], dict[str, tuple[Tensor, Tensor]]]:
    """A preset's model at its published shapes, a training step of ours, a plain one, the batch."""
    import torch

    way, default = WAYS[asked.way], DEFAULTS.get(asked.what)
    shapes = default or dict(papers.read(asked.what, "train").shapes)
    here = device(asked.device)
    changes = {k: v for k, v in way.items() if k != "views"}
    if asked.what == "astrom3" and "views" in way:
        changes["views"] = way["views"]
    settings = resolve(
        TrainConfig,
        "train",
        None,
        changes | {"generator_epochs": 0},
        None if default else papers.settings(asked.what, "train"),
    )
    torch.manual_seed(asked.seed)
    model = ClipModel(sizes_shape(shapes, settings)).train().to(here)
    optimiser = optimisers.make(
        settings.optimiser, list(model.parameters()), settings.weight_decay, settings.betas,
        settings.epsilon, settings.decay_all,
    )  # fmt: skip
    batch = {
        n: (torch.randn(asked.batch, math.prod(s), device=here),
            _observed(asked, n, s).to(here))
        for n, s in shapes.items()
    }  # fmt: skip
    chunk = settings.encode_chunk if settings.encode_chunk < asked.batch else 0

    def ours() -> None:
        optimiser.zero_grad(set_to_none=True)
        how, bf16 = settings.objective(), in_bfloat16(settings.precision, here)
        float(backward(model, batch, {}, how, chunk, bf16)[0])
        optimiser.step()

    def plain() -> None:
        optimiser.zero_grad()
        vectors = embed_batch(model, batch)
        names = sorted(vectors)
        terms = [
            clip_loss(vectors[a], vectors[b], model.scale(a, b), settings.symmetric)
            for i, a in enumerate(names)
            for b in names[i + 1 :]
        ]
        loss = torch.stack(terms).sum()
        torch.autograd.backward(loss)
        loss.item()
        optimiser.step()

    return model, ours, plain, batch


def _observed(asked: Asked, view: str, shape: tuple[int, ...]) -> Tensor:
    """[B, L] True where an object was observed."""
    import torch

    mask = torch.ones(asked.batch, *shape, dtype=torch.bool)
    if asked.real and view == CURVE:
        steps = torch.randint(SHORTEST, LONGEST + 1, (asked.batch, 1))
        mask &= (torch.arange(shape[0]) < steps)[..., None]
    return mask.flatten(1)


def _loss(asked: Asked) -> Line:
    import torch
    from torch.nn.functional import normalize

    torch.manual_seed(asked.seed)
    shared = torch.randn(asked.batch, 128)
    a, b = (normalize(shared + torch.randn_like(shared), dim=1).requires_grad_() for _ in "ab")
    scale = torch.tensor(10.0, requires_grad=True)
    compute = clip_loss if asked.way == "naive" else chunked_clip_loss
    torch.autograd.backward(compute(a[:8], b[:8], scale))
    base = peak()

    def step() -> None:
        a.grad = b.grad = None
        torch.autograd.backward(compute(a, b, scale))

    steps = 1 if asked.batch > 10_000 else asked.steps
    return _timed(step, steps, asked.batch) | {"of it before": base}


BENCH = Bench("train", "Training steps at the published shapes", run)
