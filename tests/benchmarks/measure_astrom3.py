"""A training step of AstroM3 by its authors' public code and by mmclip, in turns, a process each.

    OMP_NUM_THREADS=1 python -m tests.benchmarks.measure_astrom3 FOLDER 64 --turns 3 --steps 2

FOLDER is a checkout of github.com/MeriDK/AstroM3. Both sides train on the same made objects (light
curves of 60 to 200 steps, or all of 200 with `--whole`) at the published sizes, in float32: CPU
seconds of the process after one step that warms up, and its largest resident memory. The public
code reads padding too and attends by few queries; mmclip attends fully over what was observed.
"""

import argparse
import json
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch

from mmclip import papers
from mmclip.clip.model import ClipModel
from mmclip.clip.objective import backward
from mmclip.clip.settings import TrainConfig, sizes_shape
from mmclip.config import resolve
from mmclip.tasks.bench import peak
from mmclip.tasks.bench.train import processor
from mmclip.training import memory, optimisers

STEPS, PIXELS, COLUMNS = 200, 2575, 34
FULL = {"attention": "full", "mask_padding": True}
SIZES = (
    False, None, 512, "avg", STEPS, 9, 128, 0.2451, 1, False, 4, 512, "gelu", 8, 0.3393,
    [3, 64, 64, 32, 32], 3, 4, COLUMNS, 512, 0.1595,
)  # fmt: skip


def objects(count, whole):
    """Light curves and their masks, spectra, metadata: noise."""
    draw = torch.Generator().manual_seed(1)
    length = torch.randint(60, STEPS + 1, (count, 1), generator=draw)
    if whole:
        length.fill_(STEPS)
    mask = torch.arange(STEPS) < length
    curves = torch.randn(count, STEPS, 9, generator=draw) * mask[..., None]
    spectra = torch.randn(count, 3, PIXELS, generator=draw)
    return curves, mask, spectra, torch.randn(count, COLUMNS, generator=draw)


def public(folder, given):
    """A step of the authors' model, loss and optimiser."""
    sys.path.insert(0, str(folder / "src"))
    from loss import CLIPLoss
    from model import AstroM3

    curves, mask, spectra, metadata = given
    net, loss_of = AstroM3(*SIZES).train(), CLIPLoss()
    optimiser = torch.optim.Adam(net.parameters(), 3.921e-3, (0.9262, 0.999), weight_decay=4.67e-3)

    def step():
        optimiser.zero_grad()
        loss = sum(loss_of(*net(curves, mask.float(), spectra, metadata)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 45)
        optimiser.step()
        return loss.item()

    return step


def ours(given, little):
    """A step of the preset `astrom3` with attention over what was observed."""
    changes = {"views": {"photometry": FULL | {"recompute": little}}, "generator_epochs": 0}
    if little:
        changes["encode_chunk"] = 64
    s = resolve(TrainConfig, "train", None, changes, papers.settings("astrom3", "train"))
    shapes = dict(papers.read("astrom3", "train").shapes) | {"photometry": (STEPS, 9)}
    net = ClipModel(sizes_shape(shapes, s)).train()
    optimiser = optimisers.make(s.optimiser, list(net.parameters()), s.weight_decay, s.betas,
                                s.epsilon, s.decay_all)  # fmt: skip
    curves, mask, spectra, metadata = given
    seen = (mask[..., None].expand(-1, -1, 9), torch.ones_like(spectra), torch.ones_like(metadata))
    batch = {
        name: (values.flatten(1), there.flatten(1).bool())
        for name, values, there in zip(shapes, (curves, spectra, metadata), seen, strict=True)
    }
    chunk = s.encode_chunk if s.encode_chunk < len(curves) else 0

    def step():
        optimiser.zero_grad(set_to_none=True)
        loss = float(backward(net, batch, {}, s.objective(), chunk)[0])
        torch.nn.utils.clip_grad_norm_(net.parameters(), 45)
        optimiser.step()
        return loss

    return step


def measure(asked):
    """One side, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(1)
    given = objects(asked.batch, asked.whole)
    little = asked.side == "little memory"
    step = public(asked.folder, given) if asked.side == "public" else ours(given, little)
    before = peak()
    held = nullcontext() if asked.side == "public" else memory.kept()  # as the training loop does
    with held:
        return timed(asked, step, before)


def timed(asked, step, before):
    """CPU seconds and peak of so many steps after one that warms up."""
    step()
    begun = time.process_time()
    loss = [step() for _ in range(asked.steps)][-1]
    seconds = time.process_time() - begun
    return {"side": asked.side, "objects a CPU s": asked.batch * asked.steps / seconds,
            "peak GiB": peak(), "before GiB": before, "loss": loss}  # fmt: skip


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("batch", type=int)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--sides", default="public,ours", help="also: little memory")
    parser.add_argument("--side", help="this one alone, in this process")
    asked = parser.parse_args()
    if asked.side:
        print(json.dumps(measure(asked)))
        return
    sides, found = asked.sides.split(","), []
    for _ in range(asked.turns):
        for side in sides:
            words = [sys.executable, "-m", "tests.benchmarks.measure_astrom3", *sys.argv[1:]]
            done = subprocess.run([*words, "--side", side], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr[-2000:])
            found.append(json.loads(done.stdout.splitlines()[-1]))
            print(json.dumps(found[-1]), flush=True)
    for side in sides[1:]:
        speed, memory = (
            np.array([f[key] for f in found if f["side"] == side])
            / [f[key] for f in found if f["side"] == sides[0]]
            for key in ("objects a CPU s", "peak GiB")
        )
        print(f"{processor()}: {side} over {sides[0]}, batch {asked.batch}: "
              f"{np.median(speed):.2f} times as fast ({speed.min():.2f} to {speed.max():.2f}), "
              f"{np.median(memory):.2f} of the memory")  # fmt: skip


if __name__ == "__main__":
    main()
