"""An artefact in words: what it holds, what it was made from, and what can be asked of it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmclip.artifacts import Artifact, json_of, paths
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets.build import read_objects
from mmclip.datasets.split import SPLITS
from mmclip.errors import MmclipError

Said = list[tuple[str, str]]
# Of every table of objects, and no label.
PLACES = ("source_id", "ra", "dec", "split", "snr")
FEW = 40  # different names in a column that is a class
LISTED = 8  # classes that are named
ASK = {
    "raw": "mmclip preprocess --raw {name}",
    "data": "mmclip train --data {name}, mmclip export --data {name}",
    "run": "mmclip embed --run {name}",
    "vectors": "mmclip search --query-id --vectors {name}, mmclip outliers --vectors {name}, "
               "mmclip map --vectors {name}",
    "head": "mmclip predict --head {name} --file FILE -o labels.fits",
    "decoder": "mmclip generate --decoder {name}",
    "index": "mmclip search --query-id --index {name}",
}  # fmt: skip


def described(space: Workspace, artifact: Artifact) -> Said:
    """What an artefact holds, line by line: (what, in words)."""
    made = artifact.manifest
    said = [("is", _kind(artifact)), ("made", f"{made.created} by mmclip {made.mmclip_version}"),
            ("by", made.command)]  # fmt: skip
    if made.parents:
        said.append(("from", ", ".join(f"{p['kind']} {p['name']}" for p in made.parents)))
    if made.surveys:
        told = "; ".join(f"{s['title']} ({s['release']})" for s in made.surveys)
        said.append(("surveys", told))
    said += _counts(artifact)
    ask = [ASK[made.kind].format(name=artifact.path.name)] if made.kind in ASK else []
    stars = _data(space, artifact)
    if stars is not None:
        labels, classes = columns(stars)
        said += [("labels", ", ".join(labels) or "none"), ("classes", "; ".join(classes) or "none")]
        first = ",".join(name.split(" ")[0] for name in labels[:3])
        if first and made.kind == "data":
            ask.insert(0, f"mmclip predict --target {first} --data {artifact.path.name}")
        if first and made.kind == "vectors":
            ask.insert(0, f"mmclip knn --target {first} --vectors {artifact.path.name}")
    if made.kind == "head":
        body = json_of(artifact, paths.HEAD)
        said.append(("predicts", ", ".join(
            f"{t['name']} [{t['unit']}]" if t["unit"] else t["name"] for t in body["targets"]
        ) + f", by {body['method']}"))  # fmt: skip
    said += [("ask", line) for line in ask]
    return said


def _kind(artifact: Artifact) -> str:
    made = artifact.manifest
    views = [f"{n} ({'MODELLED' if p == 'modelled' else p})" for n, p in made.provenance.items()]
    return f"{made.kind} '{artifact.path.name}'" + (f" of {', '.join(views)}" if views else "")


def _counts(artifact: Artifact) -> Said:
    rows = dict(artifact.manifest.rows)
    said: Said = []
    if total := rows.pop("objects", 0):
        said.append(("objects", f"{total:,}"))
    parts = [f"{rows.pop(s):,} {s}" for s in SPLITS if s in rows]
    if parts:
        said.append(("split", ", ".join(parts)))
    counted = [f"{n} {c:,}" for n, c in rows.items()]
    return [*said, ("views", ", ".join(counted))] if counted else said


def _data(space: Workspace, artifact: Artifact) -> Artifact | None:
    """The data set with the labels that can be asked: itself, or what the vectors are of."""
    if artifact.manifest.kind == "data":
        return artifact
    try:
        return space.parent(artifact, "data") if artifact.manifest.kind == "vectors" else None
    except MmclipError:
        return None


def columns(data: Artifact) -> tuple[list[str], list[str]]:
    """Labels with their unit and how many are known; classes with their counts."""
    objects = read_objects(data)
    labels, classes = [], []
    for field in objects.schema:
        if field.name in PLACES or field.name.startswith("has_") or field.name.endswith("_error"):
            continue
        values = objects[field.name]
        if pa.types.is_floating(field.type):
            known = int(np.isfinite(values.to_numpy()).sum())
            unit = (field.metadata or {}).get(b"unit", b"").decode()
            if known:
                labels.append(f"{field.name} {f'[{unit}] ' if unit else ''}({known:,})")
        elif pa.types.is_string(field.type):
            counts = pc.value_counts(values.drop_null()).to_pylist()
            counts.sort(key=lambda c: -c["counts"])
            if 1 < len(counts) <= FEW:
                named = [f"{c['values']} {c['counts']:,}" for c in counts[:LISTED]]
                more = [f"{len(counts) - LISTED} more"] if len(counts) > LISTED else []
                classes.append(f"{field.name}: {', '.join(named + more)}")
    return labels, classes
