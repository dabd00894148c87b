"""The artefact `adapter`: source networks, what each method changed, every score; and its use."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from mmclip import artifacts, config
from mmclip.arrays import Array
from mmclip.artifacts import Artifact, paths, write_atomic
from mmclip.clip.model import ClipModel
from mmclip.clip.run import Run, shape_from_dict, shape_to_dict
from mmclip.datasets import tables
from mmclip.datasets.build import Dataset
from mmclip.encoders.tensors import built, device, read_weights, write_tensors
from mmclip.errors import NotFound, UsageError
from mmclip.modalities import Statistics
from mmclip.results import Result, from_table
from mmclip.transfer.data import (
    AdaptConfig,
    axis,
    blurs,
    cloud,
    default_regimes,
    evaluated,
    pipeline,
    stars,
)
from mmclip.transfer.landscape import surface
from mmclip.transfer.lora import merge
from mmclip.transfer.methods import Base, Fitted, network, predict, restore, vectors
from mmclip.transfer.regressor import Trunk
from mmclip.transfer.scan import Outcome, adapt, table


@dataclass(frozen=True)
class Adapter:
    """An adapter artefact, opened: the networks of each label and method."""

    artifact: Artifact
    settings: AdaptConfig
    view: str
    statistics: Statistics
    bases: dict[str, Base]
    fitted: dict[tuple[str, str], tuple[Fitted, bool]]


def views(source: Dataset, target: Dataset, asked: str) -> tuple[str, str]:
    """The view of the source and of the target: as asked, or the only one they share.

    Raises:
        UsageError: If none or several are shared, or a view is not there.
    """
    if asked:
        first, _, second = asked.partition(":")
        second = second or first
        for name, data in ((first, source), (second, target)):
            if name not in data.views:
                raise NotFound(
                    f"{data.artifact.path} holds no {name} (it holds: {', '.join(data.views)})",
                    "--view SOURCE:TARGET",
                )
        return first, second
    shared = sorted(set(source.views) & set(target.views))
    if len(shared) != 1:
        found = ", ".join(shared) or "none"
        raise UsageError(f"source and target share the views: {found}", "--view NAME")
    return shared[0], shared[0]


def resolve_blurs(
    settings: AdaptConfig, source: Dataset, first: str, target: Dataset, second: str
) -> tuple[Array | None, Array | None]:
    """How much to blur source and target, Angstrom; None where they stay as they are.

    Raises:
        UsageError: If they do not share their wavelengths.
    """
    if not settings.match_resolution:
        return None, None
    here, there = axis(source, first), axis(target, second)
    if not np.array_equal(here, there):
        raise UsageError("source and target have different wavelengths", "use one modality")
    return blurs(settings.match_resolution, here)


def _own_blur(adapter: Adapter, data: Dataset) -> Array | None:
    if not adapter.settings.match_resolution:
        return None
    return blurs(adapter.settings.match_resolution, axis(data, adapter.view))[1]


def make(
    source: Dataset, run: Run | None, target: Dataset, settings: AdaptConfig, final: Path,
    force: bool, tell: Callable[[str], None], reference: Dataset | None = None,
) -> tuple[Artifact, Result]:  # fmt: skip
    """Compare the methods and write the adapter; an interrupted comparison goes on.

    Args:
        source: Labelled stars of the survey one comes from (those of the run, if there is one).
        run: A trained run whose frozen encoder stands in front of the networks, or None.
        target: Labelled stars of the survey one goes to.
        final: The artefact's directory-to-be.
        force: Replace what is there.
        tell: Is told a line now and then.
        reference: Stars whose labels are the cloud of MMD2; None: those of the judged stars.

    Returns:
        The artefact and the comparison table.
    """
    if not settings.targets:
        raise UsageError("no label was named", "--target feh")
    artifacts.check_free(final, force)
    first, second = views(source, target, settings.view)
    by = run.statistics[first] if run else source.views[first].statistics
    cuts = {c: c for c in settings.regimes} or default_regimes(target, settings.targets)
    wide = resolve_blurs(settings, source, first, target, second)
    here = stars(source, first, settings.targets, by, {}, wide[0], settings.where)
    there = stars(target, second, settings.targets, by, cuts, wide[1], settings.where)
    there = replace(there, pipeline=pipeline(target, settings))
    plane = None if reference is None else cloud(reference, settings.targets)
    trunk = Trunk(run.model, first, run.shape.dimension) if run else None
    parent = run.artifact if run else source.artifact
    identity = {
        "config": config.to_dict(settings),
        "from": [parent.manifest.fingerprint, source.artifact.manifest.fingerprint],
        "data": target.artifact.manifest.fingerprint,
    }
    progress = artifacts.unfinished(final, identity)
    with artifacts.locked(progress, "comparison"):
        outcome = adapt(
            here, there, trunk, settings, device(settings.device), progress, tell, plane
        )
        scores = table(
            outcome.runs,
            f"{parent.path.name} -> {target.artifact.path.name}: mean and scatter over runs",
        )
        with artifacts.building(final, replace=force, work=progress) as folder:
            made = _write(folder, outcome, scores, settings, by, second, run, source, target, plane)
    return Artifact(final, made.manifest), scores


def _write(
    folder: Path, outcome: Outcome, scores: Result, settings: AdaptConfig, by: Statistics,
    view: str, run: Run | None, source: Dataset, target: Dataset,
    plane: NDArray[np.float64] | None,
) -> Artifact:  # fmt: skip
    tensors: dict[str, torch.Tensor] = {}
    for label, base in outcome.bases.items():
        tensors |= {f"{label}|base|{k}": v for k, v in base.head.state_dict().items()}
    for (label, method), state in outcome.fitted.items():
        tensors |= {f"{label}|{method}|{k}": v for k, v in state.items()}
    if run is not None:
        trunk = next(iter(outcome.bases.values())).trunk
        assert trunk is not None
        tensors |= {f"trunk||{k}": v for k, v in trunk.state_dict().items()}
    write_tensors(folder / paths.NETWORKS, tensors)
    shape = {
        "view": view,
        "length": len(by.centre),
        "statistics": by.to_dict(),
        "run": shape_to_dict(run.shape) if run else None,
        "trunk_view": next(iter(outcome.bases.values())).trunk.view if run else None,  # type: ignore[union-attr]
        "bases": {n: [b.centre, b.scale] for n, b in outcome.bases.items()},
        "methods": [[n, m, *outcome.scales[n, m]] for n, m in outcome.fitted],
    }  # fmt: skip
    write_atomic(folder / paths.SHAPE, json.dumps(shape).encode())
    write_atomic(folder / paths.CONFIG, config.to_toml("adapt", settings).encode())
    names = list(dict.fromkeys(k for r in outcome.runs for k in r))
    columns = {n: [r.get(n) for r in outcome.runs] for n in names}
    tables.write(folder / paths.RUNS, pa.table(columns))
    tables.write(folder / paths.PREDICTIONS, pa.table(outcome.predictions))
    tables.write(folder / paths.SCORES, scores.table)
    if plane is not None:
        body = dict(zip(settings.targets[:2], plane.T, strict=True))
        tables.write(folder / paths.REFERENCE, pa.table(body))
    parents = [source.artifact.reference, target.artifact.reference]
    if run is not None:
        parents.insert(0, run.artifact.reference)
    return artifacts.seal(
        folder,
        "adapter",
        config=config.to_dict(settings),
        parents=parents,
        rows=outcome.counts,
        surveys=source.artifact.manifest.surveys + target.artifact.manifest.surveys,
        provenance={view: target.views[view].provenance},
        seed=settings.seed,
        notes={"torch": torch.__version__},
    )


@artifacts.opener
def open_adapter(artifact: Artifact) -> Adapter:
    """Load the networks of an adapter artefact; files are checked first."""
    shape = artifacts.json_of(artifact, paths.SHAPE)
    settings = config.resolve(AdaptConfig, "adapt", None, dict(artifact.manifest.config))
    held: dict[tuple[str, str], dict[str, torch.Tensor]] = {}
    for key, value in read_weights(artifact, paths.NETWORKS).items():
        label, method, name = key.split("|", 2)
        held.setdefault((label, method), {})[name] = value
    artifacts.check_unreplaced(artifact)
    trunk = None
    if shape["run"] is not None:
        known = shape_from_dict(shape["run"])
        model = built(lambda: ClipModel(known), held["trunk", ""])
        trunk = Trunk(model, shape["trunk_view"], known.dimension)
        trunk.load_state_dict(held["trunk", ""])
    bases, fitted = {}, {}
    for label, (centre, scale) in shape["bases"].items():
        width = trunk.dimension if trunk else int(shape["length"])
        head = built(partial(network, width, settings), held[label, "base"])
        head.load_state_dict(held[label, "base"])
        bases[label] = Base(head.eval(), trunk, centre, scale)
        fitted[label, "zero-shot"] = (Fitted(head, centre, scale), trunk is None)
    for label, method, centre, scale in shape["methods"]:
        state = held[label, method]
        net, through = restore(bases[label], method, shape["length"], state, settings)
        fitted[label, method] = (Fitted(net, centre, scale), through)
    s = shape["statistics"]
    by = Statistics.from_dict(s)
    return Adapter(artifact, settings, shape["view"], by, bases, fitted)


def preferred(adapter: Adapter) -> str:
    """The method to use where none is named: LoRA, or the next that the adapter holds."""
    held = {m for _, m in adapter.fitted}
    return next(m for m in ("lora", "residual", "full", "zero-shot", "scratch") if m in held)


def apply(adapter: Adapter, data: Dataset, method: str, where: str = "auto") -> Result:
    """Labels of every star of a data set that was observed in the adapter's view.

    Args:
        adapter: From `open_adapter`.
        data: Of the target survey; labels are not needed.
        method: One that the adapter holds.

    Returns:
        One row a star: `source_id`, and each label with its sigma where the network gives one.

    Raises:
        NotFound: If the adapter lacks the method, or the data the view.
    """
    known = sorted({m for _, m in adapter.fitted})
    if method not in known:
        raise NotFound(
            f"{adapter.artifact.path} holds no '{method}'", f"--method {' or '.join(known)}"
        )
    if adapter.view not in data.views:
        raise NotFound(f"{data.artifact.path} holds no {adapter.view}", "--data another")
    wide = _own_blur(adapter, data)
    it = stars(data, adapter.view, (), adapter.statistics, {}, wide)
    seen, place = it.present, device(where)
    columns = {"source_id": pa.array(it.source_id[seen])}
    for label, base in adapter.bases.items():
        made, through = adapter.fitted[label, method]
        mean, sigma = predict(base, made, through, it.x[seen], place)
        columns[label] = pa.array(mean)
        if np.isfinite(sigma).all():
            columns[f"{label}_sigma"] = pa.array(sigma)
    question = f"{data.artifact.path.name} by {adapter.artifact.path.name}, {method}"
    described = {"*_sigma": ("", "1-sigma of the label before it")}
    return from_table(pa.table(columns), question, described, data.artifact)


def landscapes(
    adapter: Adapter, data: Dataset, label: str = "", regime: str = "", steps: int = 21,
    reach: float = 1.0,
) -> dict[str, tuple[Any, Any]]:  # fmt: skip
    """Axis and log10 of the mean squared error (z-scored label) around each stored network.

    Directions are filter-normalised and fixed by the adapter's seed; the loss is of the judged
    target stars. LoRA is merged first, so that all networks are looked at in the same weights.

    Args:
        adapter, data: The networks and the target survey.
        label: Which networks; those of the first label if empty.
        regime: A cut; the loss is of these stars alone, of all if empty.
        steps, reach: See `surface`.

    Raises:
        NotFound: If the adapter has no such label.
        UsageError: If no judged star is in the regime.

    Source:
        Zhao et al. 2026, arXiv:2602.15021: log MSE over w + a d1 + b d2.
    """
    label = known_label(adapter, label)
    wide = _own_blur(adapter, data)
    cuts = {"": regime} if regime else {}
    it = stars(data, adapter.view, (label,), adapter.statistics, cuts, wide, adapter.settings.where)
    rows = evaluated(it, adapter.settings) & it.present & np.isfinite(it.labels[label])
    rows &= it.regimes.get("", rows)
    if not rows.any():
        raise UsageError(f"no judged star with {label} is in '{regime}'", "another --regime")
    found = {}
    for (name, method), (made, through) in adapter.fitted.items():
        if name != label:
            continue
        net = copy.deepcopy(made.net)
        merge(net)
        trunk = None if through else adapter.bases[label].trunk
        x = vectors(trunk, it.x[rows], torch.device("cpu"))
        y = torch.from_numpy((it.labels[label][rows] - made.centre) / made.scale).float()
        axis, losses = surface(
            net, partial(_square, net, x, y), steps, reach, adapter.settings.seed
        )
        found[f"{method}, {label}"] = (axis, np.log10(np.maximum(losses, 1e-12)))
    return found


def known_label(adapter: Adapter, label: str) -> str:
    """A label of the adapter by its name, the first if empty.

    Raises:
        NotFound: If it has none of that name.
    """
    if label and label not in adapter.bases:
        known = ", ".join(adapter.bases)
        raise NotFound(
            f"{adapter.artifact.path} has no label '{label}' (it has: {known})", "--target"
        )
    return label or next(iter(adapter.bases))


def _square(net: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    loss: torch.Tensor = (net(x)[:, 0] - y).square().mean()
    return loss
