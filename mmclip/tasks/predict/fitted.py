"""A fitted head as an artefact: `head.json` and `head.safetensors`, numbers alone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from mmclip import artifacts
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.config import Json
from mmclip.datasets.build import Dataset
from mmclip.errors import IntegrityError
from mmclip.modalities.settings import plain
from mmclip.tasks.predict import Fitted, Part
from mmclip.tasks.predict.calibrate import Around, Groups
from mmclip.tasks.predict.features import Block, block_of
from mmclip.tasks.predict.stars import Target
from mmclip.tasks.predict.widths import Tails, Widths

Arrays = dict[str, NDArray[Any]]
GROUPS = ("values", "noises", "quantiles", "edges", "factors")
TAILS = ("label", "low", "high", "width")
WIDTHS = ("centre", "spread", "points", "weight", "level")
PART = ("oof_id", "oof", "score")
UNKNOWN = ("y", "oof", "score", "residual")  # NaN where a star has no label
AROUND = ("x", "source_id", "residual", "columns")


def write(
    fitted: Fitted, folder: Path, data: Dataset, settings: Mapping[str, Any],
    others: list[artifacts.Reference], rows: Mapping[str, int], seed: int,
) -> Artifact:  # fmt: skip
    """Write a fitted head into `folder` and seal it.

    Args:
        fitted: The head.
        folder: Where to.
        data: What it was learned from.
        settings: Of the command.
        others: Further parents: the vectors, if they are an input.
        rows: Counts for the manifest.
        seed: Of every random choice.
    """
    held: Arrays = {}
    blocks: list[Json] = []
    for name, ones in fitted.blocks.items():
        for block in ones:
            about = {"input": name, "view": block.view, "form": block.form,
                     "size": list(block.size), "draws": block.draws}  # fmt: skip
            held |= {f"block{len(blocks)}/{n}": a for n, a in block.arrays().items()}
            blocks.append(about)
    parts = []
    for i, part in enumerate(fitted.parts):
        here = f"part{i}"
        for name, state in part.states.items():
            held |= {f"{here}/head/{name}/{n}": a for n, a in state.items()}
        for j, groups in enumerate(part.groups):
            if groups is not None:
                held |= {f"{here}/groups{j}/{n}": getattr(groups, n) for n in GROUPS}
        held |= {f"{here}/{n}": getattr(part, n) for n in PART}
        for j, tails in enumerate(part.tails):
            if tails is not None:
                held |= {f"{here}/tails{j}/{n}": getattr(tails, n) for n in TAILS}
        if part.widths is not None:
            held |= {f"{here}/widths/{n}": getattr(part.widths, n) for n in WIDTHS}
        around = part.around
        held |= {f"{here}/around/{n}": getattr(around, n) for n in AROUND}
        parts.append({
            "views": list(part.views), "inputs": list(part.inputs), "trained": part.trained,
            "temperatures": list(part.temperatures), "radius": around.radius, "edge": around.edge,
            "heads": list(part.states), "ordinary": list(part.ordinary),
            "ranges": [list(r) for r in part.ranges],
        })  # fmt: skip
    views = {v for p in fitted.parts for v in p.views}
    body = {
        "method": fitted.method, "on": fitted.on, "chosen": dict(fitted.chosen),
        "targets": [vars(t) | {"classes": list(t.classes)} for t in fitted.targets],
        "blocks": blocks, "parts": parts,
        "views": {v: {"address": data.modality(v).address, "settings": plain(data.modality(v))}
                  for v in sorted(views)},
    }  # fmt: skip
    write_atomic(folder / paths.HEAD, json.dumps(body, indent=1).encode())
    tensors = {n: np.asarray(a, order="C") for n, a in held.items()}
    write_atomic(folder / paths.HEAD_ARRAYS, save(tensors))
    manifest = data.artifact.manifest
    return artifacts.seal(
        folder, "head", config=dict(settings), parents=[data.artifact.reference, *others],
        rows=dict(rows), surveys=manifest.surveys,
        provenance={v: manifest.provenance[v] for v in sorted(views)}, seed=seed,
    )  # fmt: skip


@artifacts.opener
def read(artifact: Artifact) -> Fitted:
    """Open a head; every file is checked against the manifest first."""
    body = artifacts.json_of(artifact, paths.HEAD)
    held = load_file(str(artifacts.checked(artifact, paths.HEAD_ARRAYS)))
    _numbers(artifact, held)
    held = {n: a.astype(np.float32) if a.dtype == np.float16 else a for n, a in held.items()}

    def under(stem: str) -> Arrays:
        return {n.removeprefix(stem): a for n, a in held.items() if n.startswith(stem)}

    blocks: dict[str, tuple[Block, ...]] = {}
    for i, about in enumerate(body["blocks"]):
        made = block_of(about, under(f"block{i}/"))
        blocks[about["input"]] = (*blocks.get(about["input"], ()), made)
    targets = tuple(Target(**(t | {"classes": tuple(t["classes"])})) for t in body["targets"])
    parts = []
    for i, about in enumerate(body["parts"]):
        here = f"part{i}/"
        found = [under(f"{here}groups{j}/") for j in range(len(targets))]
        widths = under(f"{here}widths/")
        tails = [under(f"{here}tails{j}/") for j in range(len(targets))]
        parts.append(Part(
            tuple(about["views"]), tuple(about["inputs"]),
            {n: under(f"{here}head/{n}/") for n in about["heads"]},
            Around(**under(f"{here}around/"), radius=about["radius"], edge=about["edge"]),
            tuple(Groups(**g) if g else None for g in found), tuple(about["temperatures"]),
            **{n: held[here + n] for n in PART}, trained=about["trained"],
            widths=Widths(**widths) if widths else None,
            tails=tuple(Tails(**t) if t else None for t in tails),
            ordinary=tuple(about.get("ordinary", ())),
            ranges=tuple((low, high) for low, high in about.get("ranges", ())),
        ))  # fmt: skip
    return Fitted(body["method"], body["on"], targets, blocks, tuple(parts), body["chosen"])


def _numbers(artifact: Artifact, held: Arrays) -> None:
    """Refuse weights that are no numbers; labels may be unknown, and an edge without end."""
    for name, array in held.items():
        if array.dtype.kind != "f":
            continue
        last = name.rpartition("/")[2]
        good = ~np.isnan(array) if last == "edges" else np.isfinite(array)
        if last in UNKNOWN:
            good |= np.isnan(array)
        if not good.all():
            raise IntegrityError(
                f"{artifact.path / paths.HEAD_ARRAYS}: {int((~good).sum())} of the {array.size} "
                f"values of '{name}' are not finite",
                f"make it again with: {artifact.manifest.command}",
            )


def views_of(artifact: Artifact) -> dict[str, Json]:
    """The views that a head reads: `address` and `settings` of their modalities."""
    made: dict[str, Json] = artifacts.json_of(artifact, paths.HEAD)["views"]
    return made
