"""A device against its own limits: memory and matrix rates first, then training, loss, search.

FLOPs are those of the products, convolutions and attentions that a step really issues, counted
while it runs (torch.utils.flop_counter: 2 m n k for a product; elementwise work is not counted).
Bytes are the least a step has to move: its input once; each tensor that the forward pass keeps for
the backward pass, written and read; and 40 bytes a parameter (float32 weights read twice, gradient
written, and AdamW's reading of four numbers and writing of three). The roof of a step is the larger
of FLOPs over the matrix rate and bytes over the memory rate; both rates are measured here, not a
maker's.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from mmclip.clip.loss import chunked_clip_loss
from mmclip.clip.stages import CUDA_GRAPHS
from mmclip.encoders.tensors import device
from mmclip.tasks.bench import Bench, BenchConfig, Line
from mmclip.tasks.bench.search import made
from mmclip.tasks.bench.train import Asked, stepping
from mmclip.tasks.torch_search import Torch
from mmclip.vectors import index as indexes

SURVEY = 841_300  # stars with XP and RVS of Schwarz et al. 2024: an epoch of XP + RVS
OPTIMISER = 4 * (2 + 1 + 4 + 3)  # bytes a parameter and step, see above
VECTOR = 128  # dimension of the vectors whose loss is measured
NEIGHBOURS = 10
COMPILED = {"compiled": None, "CUDA graphs": CUDA_GRAPHS}  # modes of torch.compile


@dataclass(frozen=True)
class Sizes:
    """How large each measurement is: chosen by the device, so that a CPU runs the same code."""

    copied: int  # float32 numbers
    side: int  # of the square matrices
    batches: tuple[tuple[str, int], ...]  # preset, objects a step
    losses: tuple[int, ...]  # objects
    searched: tuple[int, int, int]  # vectors, dimension, queries


LARGE = Sizes(
    2**29, 8192, (("schwarz2024", 16_384), ("astrom3", 1024), ("astroclip", 256)),
    (16_384, 65_536, 131_072), (1_000_000, 512, 1000),
)  # fmt: skip
SMALL = Sizes(
    2**24, 512, (("schwarz2024", 64), ("astrom3", 4), ("astroclip", 2)), (256, 1024),
    (2000, 32, 50),
)  # fmt: skip


def run(settings: BenchConfig) -> list[Line]:
    """One row a measurement; see the head of the file.

    Raises:
        UsageError: If the device is unknown or not there.
    """
    where = device(settings.device)
    sizes = SMALL if where.type == "cpu" else LARGE
    bounds = limits(where, sizes, settings.repeats)
    answers: list[Line] = [
        {"what": name, "rate": rate, "unit": "byte/s" if name == "copy" else "FLOP/s"}
        for name, rate in bounds.items()
    ]
    for preset, objects in sizes.batches:
        for how in ("eager",) if where.type == "cpu" else ("eager", *COMPILED):
            answers.append(_training(preset, objects, how, settings, where, bounds))
    answers += [_loss(objects, settings, where, bounds) for objects in sizes.losses]
    answers += _search(sizes, settings, where, bounds)
    return [{"device": described(where), **answer} for answer in answers]


def described(where: torch.device) -> str:
    """The device's own name, or `cpu` and how many threads."""
    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    return f"cpu, {torch.get_num_threads()} threads"


def seconds(work: Callable[[], Any], where: torch.device, repeats: int) -> float:
    """Least wall time of a call that has ended on the device; two calls beforehand do not count."""
    best = math.inf
    for turn in range(repeats + 2):
        begun = time.perf_counter()
        work()
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        if turn > 1:
            best = min(best, time.perf_counter() - begun)
    return best


def limits(where: torch.device, sizes: Sizes, repeats: int) -> dict[str, float]:
    """Bytes a second of a copy (read and written), FLOP/s of a square product in each precision."""
    source = torch.ones(sizes.copied, device=where)
    target = torch.empty_like(source)
    taken = seconds(lambda: target.copy_(source), where, repeats)
    found = {"copy": 8 * sizes.copied / taken}
    kinds = [("float32", torch.float32, "highest"), ("bfloat16", torch.bfloat16, "highest")]
    if where.type == "cuda":
        kinds.insert(1, ("tf32", torch.float32, "high"))
    before = torch.get_float32_matmul_precision()
    for name, kind, precision in kinds:
        torch.set_float32_matmul_precision(precision)
        a = torch.randn(sizes.side, sizes.side, device=where, dtype=kind)
        found[name] = 2 * sizes.side**3 / seconds(partial(torch.matmul, a, a), where, repeats)
    torch.set_float32_matmul_precision(before)
    return found


def counted(step: Callable[[], Any]) -> tuple[int, int]:
    """FLOPs of a step, and bytes that its forward pass keeps for its backward pass."""
    kept: dict[tuple[int, int], int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        store = tensor.untyped_storage()
        kept[store.data_ptr(), tensor._version] = store.nbytes()
        return tensor

    # torch does not count the product that is added in place, which the chunked loss uses.
    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.aten.addmm_: _added})
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        step()
    return counter.get_total_flops(), sum(kept.values())


def _added(_: Any, a: Any, b: Any, **__: Any) -> int:
    return 2 * int(a[0]) * int(a[1]) * int(b[1])


def roof(
    flops: float, moved: float, taken: float, matrix: float, memory: float
) -> dict[str, float]:
    """Which parts of a device's limits a step of `taken` seconds reaches.

    Args:
        flops, moved: Of the step: see the head of the file.
        taken: Seconds.
        matrix, memory: Measured FLOP/s and byte/s of the device.
    """
    return {
        "of the matrix limit": flops / matrix / taken,
        "of the memory limit": moved / memory / taken,
        "of the roof": max(flops / matrix, moved / memory) / taken,
    }


def _training(
    preset: str, objects: int, how: str, settings: BenchConfig, where: torch.device,
    bounds: dict[str, float],
) -> Line:  # fmt: skip
    asked = Asked(preset, objects, "ours", 1, settings.seed, str(where))
    model, step, _, batch = stepping(asked)
    flops, kept = counted(step)
    parameters = sum(p.numel() for p in model.parameters())
    inputs = sum(t.nbytes for pair in batch.values() for t in pair)
    if how in COMPILED:
        for encoder in model.encoders.values():
            encoder.compile(mode=COMPILED[how])

    def begun() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        step()

    taken = seconds(begun, where, settings.repeats)
    moved = inputs + 2 * kept + OPTIMISER * parameters
    found: Line = {
        "what": f"train {preset}, batch {objects}, bfloat16, {how}",
        "rate": objects / taken, "unit": "samples/s",
        "GFLOP a sample": flops / objects / 1e9, "MB a sample": moved / objects / 1e6,
        **roof(flops, moved, taken, bounds["bfloat16"], bounds["copy"]),
    }  # fmt: skip
    if preset == "schwarz2024":
        found["epoch, s"] = SURVEY * taken / objects
    return found | _held(where)


def _held(where: torch.device) -> dict[str, float]:
    if where.type != "cuda":
        return {}
    most = torch.cuda.max_memory_allocated(where) / 2**30
    torch.cuda.reset_peak_memory_stats(where)
    return {"peak GiB": most}


def _loss(
    objects: int, settings: BenchConfig, where: torch.device, bounds: dict[str, float]
) -> Line:
    torch.manual_seed(settings.seed)
    a, b = (
        torch.nn.functional.normalize(torch.randn(objects, VECTOR, device=where), dim=1)
        .requires_grad_() for _ in "ab"
    )  # fmt: skip
    scale = torch.tensor(10.0, device=where, requires_grad=True)

    def step() -> None:
        a.grad = b.grad = None
        torch.autograd.backward(chunked_clip_loss(a, b, scale))

    flops, _ = counted(step)
    taken = seconds(step, where, settings.repeats)
    # The logits never need to leave the chip: vectors and gradients alone are the least.
    moved = 4 * a.nbytes
    return {
        "what": f"chunked loss, batch {objects}, float32",
        "rate": objects / taken, "unit": "samples/s",
        "GFLOP a sample": flops / objects / 1e9, "MB a sample": moved / objects / 1e6,
        **roof(flops, moved, taken, bounds["float32"], bounds["copy"]), **_held(where),
    }  # fmt: skip


def _search(
    sizes: Sizes, settings: BenchConfig, where: torch.device, bounds: dict[str, float]
) -> list[Line]:
    rows, dimension, count = sizes.searched
    vectors, few = made(rows, dimension, settings.seed)
    queries = np.ascontiguousarray(np.resize(few, (count, dimension)))
    index = indexes.build(vectors)
    ours = Torch(torch.from_numpy(vectors).to(where))
    library, threads = indexes.backend()
    names = {f"torch, {where.type}": ours, f"{library}, cpu, {threads} threads": index}
    same = np.abs(index.search(queries, NEIGHBOURS)[0] - ours.search(queries, NEIGHBOURS)[0]).max()
    found = []
    for name, it in names.items():
        taken = seconds(partial(it.search, queries, NEIGHBOURS), where, settings.repeats)
        line: Line = {
            "what": f"exact search {rows} x {dimension}, {name}",
            "rate": count / taken, "unit": "queries/s", "difference": float(same),
        }  # fmt: skip
        if it is ours:
            flops, moved = 2.0 * rows * dimension * count, ours.vectors.nbytes
            line |= roof(flops, moved, taken, bounds["float32"], bounds["copy"])
        found.append(line)
    return found


BENCH = Bench("gpu", "training, loss and search against the device's own limits", run)
