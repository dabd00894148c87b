"""From an answer back to the sky: an artefact, its parents, their parents, to the surveys."""

from dataclasses import dataclass

from mmclip.artifacts import KINDS, Artifact, Reference, paths
from mmclip.artifacts.workspace import Workspace
from mmclip.errors import NotFound
from mmclip.results import Value


@dataclass(frozen=True)
class Step:
    """One artefact of a lineage.

    Attributes:
        depth: The longest way to it from the artefact asked about, which has 0.
        kind, name, fingerprint: As its child recorded them.
        found: The artefact itself if it still stands unchanged in the workspace.
    """

    depth: int
    kind: str
    name: str
    fingerprint: str
    found: Artifact | None


def lineage(space: Workspace, artifact: Artifact) -> list[Step]:
    """The artefact and all its ancestors, each once, children before parents.

    An ancestor that is gone or was made again since stays in the list with `found` None.
    """
    first = artifact.reference
    mark = first["fingerprint"]
    steps = {mark: Step(0, first["kind"], first["name"], mark, artifact)}
    waiting = [steps[mark]]
    while waiting:
        child = waiting.pop(0)
        for reference in child.found.manifest.parents if child.found else ():
            mark = reference["fingerprint"]
            known = steps.get(mark)
            if known is not None and known.depth > child.depth:
                continue
            found = known.found if known else _find(space, reference)
            steps[mark] = Step(child.depth + 1, reference["kind"], reference["name"], mark, found)
            waiting.append(steps[mark])
    return sorted(steps.values(), key=lambda step: step.depth)


def newest(space: Workspace) -> Artifact:
    """The newest artefact furthest down the pipeline.

    Raises:
        NotFound: If the workspace is empty.
    """
    for kind in reversed(KINDS):
        found = space.all(kind)
        if found:
            return found[-1]
    raise NotFound(f"the workspace '{space.root}' is empty", "mmclip demo")


def _find(space: Workspace, reference: Reference) -> Artifact | None:
    """By fingerprint: in the place of its name first, else anywhere among its kind."""
    try:
        here = space.get(reference["kind"], reference["name"])
        if here.manifest.fingerprint == reference["fingerprint"]:
            return here
    except NotFound:
        pass
    same = (a for a in space.all(reference["kind"]))
    return next((a for a in same if a.manifest.fingerprint == reference["fingerprint"]), None)


def table(steps: list[Step]) -> list[dict[str, Value]]:
    """One row a step: what it is, which code and seed made it, from which release."""
    rows: list[dict[str, Value]] = []
    for step in steps:
        made = step.found.manifest if step.found else None
        releases = [f"{s['name']} ({s['release']})" for s in made.surveys] if made else []
        rows.append(
            {
                "artefact": "  " * step.depth + f"{step.kind} {step.name}",
                "fingerprint": step.fingerprint[:12],
                "stands": "yes" if step.found else "gone or changed",
                "mmclip": made.mmclip_version if made else None,
                "seed": made.seed if made else None,
                "made": made.created if made else None,
                "command": made.command if made else None,
                "surveys": ", ".join(releases) if step.kind == "raw" and made else "",
            }
        )
    return rows


def queries(steps: list[Step]) -> list[str]:
    """What was asked of each survey, word for word, of every raw artefact that still stands."""
    asked = []
    for step in steps:
        if step.kind == "raw" and step.found is not None:
            file = step.found.path / paths.QUERIES
            text = file.read_text(errors="replace").strip() if file.is_file() else ""
            if text:
                asked.append(f"-- {step.name}\n{text}")
    return asked


def drawing(steps: list[Step]) -> tuple[list[tuple[str, str, int]], list[tuple[int, int]]]:
    """Boxes (heading, text, column) and arrows (child, parent) for `plots.lineage_figure`."""
    boxes = []
    for step in steps:
        made = step.found.manifest if step.found else None
        lines = [step.fingerprint[:12]]
        if made is None:
            lines.append("gone or changed")
        elif step.kind == "raw":
            lines += [f"{s['name']} {s['release']}" for s in made.surveys]
        else:
            lines.append(f"mmclip {made.mmclip_version}" + _seed(made.seed))
        boxes.append((f"{step.kind}: {step.name}", "\n".join(lines), step.depth))
    place = {step.fingerprint: i for i, step in enumerate(steps)}
    arrows = [
        (i, place[parent["fingerprint"]])
        for i, step in enumerate(steps)
        if step.found is not None
        for parent in step.found.manifest.parents
    ]
    return boxes, arrows


def _seed(seed: int | None) -> str:
    return "" if seed is None else f", seed {seed}"
