"""The table of a paper: ours beside the published figure, compared only where the data agree."""

from typing import Any

import numpy as np

from mmclip.clip.finetune import FinetuneConfig
from mmclip.clip.run import Run
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.tasks import classify, knn
from mmclip.tasks.neighbours import Options
from mmclip.tasks.published import PAPERS, Accuracy, Conditions, Paper, Regression
from mmclip.vectors.store import Store

Row = dict[str, Any]


def paper(preset: str) -> Paper:
    """The paper of a preset.

    Raises:
        NotFound: If no figures of it are known.
    """
    if preset not in PAPERS:
        raise NotFound(
            f"no published figures for '{preset}'; {nearest(preset, list(PAPERS))}",
            f"--preset one of: {', '.join(PAPERS)}",
        )
    return PAPERS[preset]


def differences(
    conditions: Conditions, rows: dict[str, int], provenance: dict[str, str], classes: int = 0
) -> list[str]:
    """Every way in which the data are not those of the paper; empty where numbers compare.

    Args:
        conditions: Of the paper.
        rows: Counts of the data artefact.
        provenance: Of its views.
        classes: How many classes it has.
    """
    found = [
        f"{rows.get(name, 0):,} {name} instead of {count:,}"
        for name, count in conditions.rows.items()
        if rows.get(name, 0) != count
    ]
    for names in conditions.views:
        mine = [n for n in names if n in provenance]
        if not mine:
            found.append(f"no {names[0]}")
        elif provenance[mine[0]] != "observed":
            found.append(f"{mine[0]} is {provenance[mine[0]]}")
    if conditions.classes and classes != conditions.classes:
        found.append(f"{classes} classes instead of {conditions.classes}")
    return found


def _row(quantity: str, how: str, ours: float | None, published: float, where: str,
         unlike: list[str]) -> Row:  # fmt: skip
    """One row of the table; the difference only where it means something."""
    row: Row = {"quantity": quantity, "from": how, "ours": ours, "published": published}
    if ours is None:
        row |= {"difference": None, "comparison": "not measured: the data lack it"}
    elif unlike:
        row |= {"difference": None, "comparison": "refused: other data (" + "; ".join(unlike) + ")"}
    else:
        row |= {"difference": ours - published, "comparison": "same data"}
    return row | {"source": where}


def _first(names: tuple[str, ...], known: list[str]) -> str | None:
    return next((n for n in names if n in known), None)


def _regression(
    wanted: Regression, about: Paper, store: Store, data: Dataset, unlike: list[str]
) -> Row:
    view, fit_on = (_first(n, store.modalities) for n in (wanted.view, wanted.fit_on))
    target = _first(wanted.targets, data.objects.column_names)
    names = (wanted.view[0], wanted.fit_on[0])
    how = names[0] if names[0] == names[1] else f"{names[1]} -> {names[0]}"
    if view is None or fit_on is None or target is None:
        return _row(f"R2 {wanted.quantity}", how, None, wanted.value, wanted.where, unlike)
    options = Options(about.k, about.weights, about.metric, about.scale, resamples=200)
    try:
        made = knn.regress(store, data, target, view, fit_on=fit_on, options=options)
    except UsageError:  # nobody of the split has the label
        return _row(f"R2 {wanted.quantity}", how, None, wanted.value, wanted.where, unlike)
    ours = knn.scores(made.truth, made.predicted)["R2"]
    row = _row(f"R2 {wanted.quantity}", how, ours, wanted.value, wanted.where, unlike)
    return row | {"test": len(made.truth)}


def evaluate(
    preset: str,
    store: Store,
    data: Dataset,
    run: Run,
    column: str = "class",
    fractions: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1),
    seeds: tuple[int, ...] = classify.SEEDS,
    config: FinetuneConfig | None = None,
    tell: Any = None,
) -> tuple[Paper, list[str], list[Row]]:
    """Every figure of the paper measured here by its protocol.

    Args:
        preset: See `mmclip.tasks.published.PAPERS`.
        store, data, run: What is measured.
        column: Of the classes, for a paper that classifies.
        fractions, seeds: Fewer than the paper's leave its other rows unmeasured.
        config: Of the fine-tuning.
        tell: Called with a row of each training, or None.

    Returns:
        The paper, how the data differ from its own, and the table. Where they differ every
        published figure is shown and no difference is given.
    """
    about = paper(preset)
    manifest = data.artifact.manifest
    kinds = 0
    if about.accuracies and column in data.objects.column_names:
        kinds = len({c for c in data.objects[column].to_pylist() if c})
    unlike = differences(about.conditions, manifest.rows, manifest.provenance, kinds)
    rows = [_regression(r, about, store, data, unlike) for r in about.regressions]
    if about.accuracies:
        rows += _accuracies(about, store, data, run, column, fractions, seeds, config, unlike, tell)
    return about, unlike, rows


def _accuracies(
    about: Paper, store: Store, data: Dataset, run: Run, column: str,
    fractions: tuple[float, ...], seeds: tuple[int, ...], config: FinetuneConfig | None,
    unlike: list[str], tell: Any,
) -> list[Row]:  # fmt: skip
    rows = []
    for kinds in dict.fromkeys(a.views for a in about.accuracies):
        wanted = [a for a in about.accuracies if a.views == kinds]
        # All views of the paper that the data hold stand for "all".
        found = [_first(names, store.modalities) for names in kinds]
        views = tuple(v for v in found if v)
        made: dict[tuple[float, str], list[float]] = {}
        if views and (len(kinds) == 1 or len(views) > 1):
            asked = classify.problem(data, run, store, column, views)
            answer = classify.classify(
                asked, run, views, ("scratch", "clip"), fractions, seeds, config, True, tell
            )
            for row in answer.rows:
                made.setdefault((row["fraction"], row["method"]), []).append(row["micro"])
        rows += [_accuracy(a, views, made.get((a.fraction, a.start), []), unlike) for a in wanted]
    return rows


def _accuracy(
    wanted: Accuracy, views: tuple[str, ...], found: list[float], unlike: list[str]
) -> Row:
    names = "+".join(views or [n[0] for n in wanted.views])
    lacking = [] if len(views) == len(wanted.views) else ["views lacking"]
    ours = float(100 * np.mean(found)) if found else None
    start = "pre-trained" if wanted.start == "clip" else "from scratch"
    row = _row(
        f"accuracy [%], {100 * wanted.fraction:g} % of the stars, {start}", names, ours,
        wanted.value, wanted.where, unlike + lacking,
    )  # fmt: skip
    if found:
        row |= {"ours std": float(100 * np.std(found)), "seeds": len(found)}
    return row | {"published std": wanted.spread}
