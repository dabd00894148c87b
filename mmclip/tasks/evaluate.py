"""The table of a paper: ours beside the published figure, compared only where the data agree."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import metrics, papers
from mmclip.clip.run import Run
from mmclip.config import resolve
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.papers.published import (
    Accuracy,
    Conditions,
    Derived,
    Measure,
    Published,
    Recall,
    Regression,
)
from mmclip.papers.split import GIVEN, Split
from mmclip.results import number
from mmclip.tasks import classify, knn, supervised
from mmclip.tasks.classify import cache
from mmclip.tasks.classify.baselines import Problem
from mmclip.tasks.classify.finetune import FinetuneConfig
from mmclip.tasks.neighbours import Options
from mmclip.tasks.predict import features
from mmclip.vectors.store import Store

Row = dict[str, Any]
Values = NDArray[np.float64]
Choose = Callable[[Mapping[str, Any]], FinetuneConfig]
CELLS = Split("cells").title  # how mmclip splits
SEED = 42
RESAMPLES = 200
Ask = Callable[[str, str, dict[str, Values]], dict[str, tuple[Values, Values]]]  # of a network


def known(benchmark: str) -> str:
    """The name of a benchmark.

    Raises:
        NotFound: If there is none of that name.
    """
    names = list(papers.benchmarks())
    if benchmark not in names:
        raise NotFound(
            f"no benchmark '{benchmark}'; {nearest(benchmark, names)}",
            f"--benchmark one of: {', '.join(names)}",
        )
    return benchmark


def published(preset: str) -> Published:
    """The figures of a paper or a benchmark.

    Raises:
        NotFound: If no figures of it are known.
    """
    every, benchmarks = papers.figures(), papers.benchmarks()
    also = {alias: p for p in papers.names() for alias in papers.read(p).aliases}
    preset = also.get(preset, preset)
    if preset not in every:
        here = ", ".join(n for n in every if n not in benchmarks)
        raise NotFound(
            f"no published figures for '{preset}'; {nearest(preset, list(every))}",
            f"--preset one of: {here}; --benchmark one of: {', '.join(benchmarks)}",
        )
    if every[preset].command:
        raise NotFound(
            f"the figures of '{preset}' are measured by another command", every[preset].command
        )
    return every[preset]


def differences(
    conditions: Conditions, rows: dict[str, int], provenance: dict[str, str], classes: int = 0,
    surveys: tuple[str, ...] = (), split: str = CELLS,
) -> list[str]:  # fmt: skip
    """Every way in which the data are not those of the paper; empty where numbers compare.

    Args:
        conditions: Of the paper.
        rows: Counts of the data artefact.
        provenance: Of its views.
        classes: How many classes it has.
        surveys: Names of its sources.
        split: The rule of its split; one given by a column counts as the paper's.
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
    found += [f"nothing of {names[0]}" for names in conditions.surveys if not {*names} & {*surveys}]
    rule = conditions.split
    given = split.startswith(GIVEN) and CELLS not in split
    if rule is not None and split != rule.title and not given:
        found.append(f"split {split} instead of {rule.title}")
    return found


def _row(quantity: str, how: str, ours: float | None, published: float, where: str,
         unlike: list[str], method: str = "", lacks: str = "") -> Row:  # fmt: skip
    """One row of the table; the difference only where it means something.

    `lacks` says why there is no number of ours, where there is none.
    """
    row: Row = {"quantity": quantity, "from": how, "ours": ours, "published": published}
    if ours is None:
        row |= {"difference": None, "comparison": f"not measured: {lacks}"}
    elif unlike:
        row |= {"difference": None, "comparison": "refused: other data (" + "; ".join(unlike) + ")"}
    else:
        other = f", another method: theirs is {method}" if method else ""
        row |= {"difference": ours - published, "comparison": f"same data{other}"}
    return row | {"source": where}


def _lacks_views(views: list[str]) -> str:
    return f"no view {', no view '.join(dict.fromkeys(views))}"


def _lacks_column(names: tuple[str, ...], data: Dataset) -> str:
    found = nearest(names[0], data.objects.column_names)
    return f"no column {' or '.join(names)}" + (f" ({found})" if "did you" in found else "")


def _first(names: tuple[str, ...], known: Sequence[str]) -> str | None:
    """The first of the names that is known, as it is spelled there: case does not matter."""
    spelled = {k.lower(): k for k in reversed(known)} | {k: k for k in known}
    return next((spelled[n] for n in (*names, *map(str.lower, names)) if n in spelled), None)


def _interval(low: float, high: float) -> Row:
    """Ends of the 95 % interval of ours, where they are known."""
    return {"ours low": low, "ours high": high} if np.isfinite([low, high]).all() else {}


def _of_pairs(name: str, truth: Values, predicted: Values) -> tuple[float, Row]:
    """R2, AUC or RMSE of pairs, and its interval over resampled objects."""

    def measure(t: Values, p: Values) -> dict[str, float]:
        if name == "auc":
            from sklearn.metrics import roc_auc_score

            both = 0 < t.sum() < len(t)
            return {name: float(roc_auc_score(t, p)) if both else float("nan")}
        if name == "rmse":
            return {name: float(np.sqrt(np.mean((p - t) ** 2)))}
        return {name: metrics.scores(t, p)["R2"]}

    ends = metrics.bootstrap(measure, truth, predicted, RESAMPLES)
    return measure(truth, predicted)[name], _interval(ends[f"{name}_low"], ends[f"{name}_high"])


def _regression(
    wanted: Regression, about: Published, store: Store, data: Dataset, unlike: list[str], ask: Ask
) -> Row:
    if wanted.network and wanted.network != "mlp":
        return _supervised(wanted, about, data, unlike, ask)
    view, fit_on = (_first(n, store.modalities) for n in (wanted.view, wanted.fit_on))
    target = _first(wanted.targets, data.objects.column_names)
    names = (wanted.view[0], wanted.fit_on[0])
    how = names[0] if names[0] == names[1] else f"{names[1]} -> {names[0]}"
    about_row = (wanted.value, wanted.where, unlike, wanted.method)
    lacks = _lacks_column(wanted.targets, data) if target is None else ""
    if wanted.network:
        ours, count = from_labels(data, wanted.view, target, SEED) if target else (None, 0)
        lacks = lacks or f"too few stars with {', '.join(wanted.view)} and {target}"
        row = _row(f"R2 {wanted.quantity}", "+".join(wanted.view), ours, *about_row, lacks)
        return row | ({"test": count} if count else {})
    if view is None or fit_on is None or target is None:
        views = [n[0] for n, there in ((wanted.view, view), (wanted.fit_on, fit_on)) if not there]
        lacks = _lacks_views(views) if views else lacks
        return _row(f"R2 {wanted.quantity}", how, None, *about_row, lacks)
    options = resolve(Options, "knn", None, {
        "k": about.k, "weights": about.weights, "metric": about.metric, "scale": about.scale,
        "split": about.queries, "resamples": RESAMPLES,
    })  # fmt: skip
    try:
        made = knn.regress(store, data, target, view, fit_on=fit_on, options=options)
    except UsageError as error:  # nobody of the split has the label
        return _row(f"R2 {wanted.quantity}", how, None, *about_row, str(error.message))
    ours, ends = _of_pairs("R2", made.truth, made.predicted)
    row = _row(f"R2 {wanted.quantity}", how, ours, *about_row) | {"test": len(made.truth)} | ends
    return row | (_baseline(data, target, view, options) if view == fit_on else {})


def _supervised(
    wanted: Regression, about: Published, data: Dataset, unlike: list[str], ask: Ask
) -> Row:
    """R2 of one label by a network that learns all labels of the table from a view, end to end."""
    view = _first(wanted.view, list(data.views))
    same = [r for r in about.regressions if (r.view, r.network) == (wanted.view, wanted.network)]
    names = {r.targets: _first(r.targets, data.objects.column_names) for r in same}
    name, about_row = names[wanted.targets], (wanted.value, wanted.where, unlike, "")
    how = f"{wanted.view[0]}, {wanted.network}"
    lacks = _lacks_column(wanted.targets, data) if name is None else ""
    if view is None or name is None:
        lacks = _lacks_views([wanted.view[0]]) if view is None else lacks
        return _row(f"R2 {wanted.quantity}", how, None, *about_row, lacks)
    labels = {n: knn.target_values(data, n) for n in dict.fromkeys(names.values()) if n}
    try:
        truth, predicted = ask(view, wanted.network, labels)[name]
    except UsageError as error:
        return _row(f"R2 {wanted.quantity}", how, None, *about_row, str(error.message))
    ours, ends = _of_pairs("R2", truth, predicted)
    return _row(f"R2 {wanted.quantity}", how, ours, *about_row) | {"test": len(truth)} | ends


def _measure(
    wanted: Measure, data: Dataset, surveys: tuple[str, ...], unlike: list[str], ask: Ask
) -> Row:
    """An AUC or RMSE, by trees on a summary of the view or by a network."""
    view = _first(wanted.view, list(data.views))
    name = _first(wanted.targets, data.objects.column_names)
    where = (wanted.value, wanted.where)
    if view is None or name is None:
        lacks = _lacks_column(wanted.targets, data) if view else _lacks_views([wanted.view[0]])
        return _row(wanted.quantity, wanted.view[0], None, *where, unlike, lacks=lacks)
    other = [] if {*wanted.surveys} & {*surveys} else [f"nothing of {wanted.surveys[0]}"]
    column = data.objects[name]
    if wanted.measure == "auc":
        kinds = np.array([str(c).lower() for c in column.to_pylist()], object)
        labels = np.isin(kinds, wanted.positive).astype(float)
        labels[[c is None for c in column.to_pylist()]] = np.nan
    else:
        labels = knn.target_values(data, name)
    try:
        if wanted.network:
            truth, predicted = ask(view, wanted.network, {name: labels})[name]
        else:
            truth, predicted = supervised.by_trees(data, view, labels, wanted.measure, SEED)
    except UsageError as error:
        return _row(wanted.quantity, view, None, *where, unlike, lacks=str(error.message))
    ours, ends = _of_pairs(wanted.measure, truth, predicted)
    row = _row(wanted.quantity, view, ours, *where, unlike + other, wanted.method)
    return row | {"test": len(truth)} | ends


def _baseline(data: Dataset, target: str, view: str, options: Options) -> Row:
    """R2 of the better of ridge and kernel ridge on the view itself, without any embedding."""
    wide = view not in data.views or int(np.prod(data.views[view].size)) > features.WIDE
    if wide or knn.is_class(data, target):
        return {}
    rows = knn.baselines(data, target, view, options.split, opponents=("kernel-ridge",))
    best = max(rows, key=lambda r: number(r, "R2"), default=None)
    return {} if best is None else {"baseline": best["R2"], "baseline is": best["method"]}


def from_labels(
    data: Dataset, columns: tuple[str, ...], target: str, seed: int
) -> tuple[float | None, int]:
    """R2 on the test split of a network from some labels to another, and how many were tested.

    Five hidden layers of 512, Adam at 5e-4, 30 epochs, batches of 256, in- and output
    standardised on the training split: the photometry network of the Multimodal Universe.
    None if a column is lacking or a split has fewer than two objects with all of them.
    """
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPRegressor

    found = [_first((c,), data.objects.column_names) for c in columns]
    if None in found:
        return None, 0
    inputs = np.stack([knn.target_values(data, str(c)) for c in found], axis=1)
    truth = knn.target_values(data, target)
    known = np.isfinite(inputs).all(axis=1) & np.isfinite(truth)
    train, test = (known & (data.split == name) for name in ("train", "test"))
    if min(train.sum(), test.sum()) < 2 or not truth[train].std() > 0:
        return None, 0
    centre, scale = inputs[train].mean(axis=0), inputs[train].std(axis=0)
    inputs = (inputs - centre) / np.where(scale > 0, scale, 1.0)
    wanted = (truth - truth[train].mean()) / truth[train].std()
    network = MLPRegressor(
        hidden_layer_sizes=(512,) * 5,
        learning_rate_init=5e-4,
        batch_size=min(256, int(train.sum())),
        max_iter=30,
        alpha=0.0,
        n_iter_no_change=30,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # 30 epochs are the protocol
        network.fit(inputs[train], wanted[train])
    scores = metrics.scores(wanted[test], network.predict(inputs[test]))
    return scores["R2"], int(test.sum())


def with_derived(data: Dataset, derived: tuple[Derived, ...]) -> Dataset:
    """The data set with labels made of its own; one whose parts are lacking is left out."""
    table = data.objects
    for made in derived:
        parts = [(t.factor, _first(t.columns, table.column_names), t.ln) for t in made.terms]
        if any(name is None for _, name, _ in parts) or made.name in table.column_names:
            continue
        total = np.zeros(table.num_rows)
        for factor, name, log in parts:
            values = knn.target_values(data, str(name))
            with np.errstate(divide="ignore", invalid="ignore"):
                total += factor * (np.log(values) if log else values)
        total = np.where(np.isfinite(total), total, np.nan)
        table = table.append_column(made.name, pa.array(total))
    return replace(data, objects=table)


def evaluate(
    preset: str,
    store: Store,
    data: Dataset,
    run: Run,
    column: str = "class",
    fractions: tuple[float, ...] = (1.0, 0.5, 0.25, 0.1),
    seeds: tuple[int, ...] = classify.SEEDS,
    choose: Choose | None = None,
    tell: Any = None,
    fresh: bool = False,
    said: Callable[[str], None] | None = None,
) -> tuple[Published, list[str], list[Row]]:
    """Every figure of the paper measured here by its protocol.

    Args:
        preset: See `mmclip.papers.figures`.
        store, data, run: What is measured.
        column: Of the classes, for a paper that classifies.
        fractions, seeds: Fewer than the paper's leave its other rows unmeasured.
        choose: The paper's settings of one fine-tuning -> those to use; as they are, if None.
        tell: Called with a row of each training, or None.
        fresh: Train all anew, not only what is not kept from an earlier run.
        said: Is told a line an epoch of a network that is trained end to end, or None.

    Returns:
        The paper, how the data differ from its own, and the table. Where they differ every
        published figure is shown and no difference is given.
    """
    about = published(preset)
    manifest = data.artifact.manifest
    kinds = 0
    if about.accuracies and column in data.objects.column_names:
        kinds = len({c for c in data.objects[column].to_pylist() if c})
    names = tuple(s["name"] for s in manifest.surveys)
    rule = manifest.notes.get("split", CELLS)
    unlike = differences(
        about.conditions, manifest.rows, manifest.provenance, kinds, names, rule
    )  # fmt: skip
    data = with_derived(data, about.derived)
    kept = cache.folder([store.artifact, data.artifact, run.artifact], "supervised")
    chosen = (choose or as_published)({"batch": 256, "learning_rate": 5e-4})
    asked = supervised.Protocol(
        chosen.epochs, chosen.batch, chosen.learning_rate, seed=SEED, device=chosen.device
    )
    held: dict[Any, dict[str, tuple[Values, Values]]] = {}

    def ask(view: str, network: str, labels: dict[str, Values]) -> dict[str, tuple[Values, Values]]:
        key = (view, network, tuple(labels))
        if key not in held:
            told = said or (lambda line: None)
            held[key] = supervised.regress(
                data, view, network, labels, asked, None if fresh else kept, told
            )
        return held[key]

    rows = [_regression(r, about, store, data, unlike, ask) for r in about.regressions]
    rows += [_measure(m, data, names, unlike, ask) for m in about.measures]
    if about.accuracies:
        rows += _accuracies(
            about,
            store,
            data,
            run,
            column,
            fractions,
            seeds,
            choose or as_published,
            unlike,
            tell,
            fresh,
        )
    rows += [
        _row(q.quantity, q.of, None, q.value, q.where, [], lacks=q.lacks) for q in about.quoted
    ]
    return about, unlike, rows


def _runs(
    about: Published, kinds: tuple[tuple[str, ...], ...], found: list[str | None], choose: Choose
) -> Callable[[str, float], FinetuneConfig]:
    """(method, fraction) -> settings of that run: the paper's under the user's."""

    def of(method: str, fraction: float) -> FinetuneConfig:
        for run in about.finetuning:
            if (run.views, run.fraction, run.start) == (kinds, fraction, method):
                dropout = zip(run.settings["dropout"], found, strict=True)
                present = tuple(p for p, view in dropout if view)
                return choose(dict(run.settings) | {"dropout": present})
        return choose({})

    return of


def as_published(settings: Mapping[str, Any]) -> FinetuneConfig:
    """The settings of a paper's fine-tuning, nothing of the user's over them."""
    return FinetuneConfig(**settings)


def _accuracies(
    about: Published, store: Store, data: Dataset, run: Run, column: str,
    fractions: tuple[float, ...], seeds: tuple[int, ...], choose: Choose,
    unlike: list[str], tell: Any, fresh: bool,
) -> list[Row]:  # fmt: skip
    rows, shares = [], list[Row]()
    tested: dict[tuple[float, int], dict[str, int]] = {}  # test objects of each class
    for kinds in dict.fromkeys(a.views for a in about.accuracies):
        wanted = [a for a in about.accuracies if a.views == kinds]
        # All views of the paper that the data hold stand for "all".
        found = [_first(names, store.modalities) for names in kinds]
        views = tuple(v for v in found if v)
        made: dict[tuple[float, str], list[tuple[float, int]]] = {}
        todo = tuple(f for f in fractions if f in {a.fraction for a in wanted})
        usable = bool(views) and (len(kinds) == 1 or len(views) > 1)
        if todo and usable:
            asked = classify.problem(data, run, store, column, views)
            answer = classify.classify(
                asked, run, views, ("scratch", "clip"), todo, seeds,
                _runs(about, kinds, found, choose), True, tell, fresh,
            )  # fmt: skip
            shares += [dict(row) for row in answer.importance]
            if answer.importance:
                tested |= {(f, s): _tested(asked, f, s) for f in todo for s in seeds}
            for row in answer.rows:
                key = (number(row, "fraction"), str(row["method"]))
                found_in = (number(row, "micro"), int(number(row, "stars")))
                made.setdefault(key, []).append(found_in)
        gone = [n[0] for n, v in zip(kinds, found, strict=True) if v is None]
        lacks = "" if usable else _lacks_views(gone)
        rows += [
            _accuracy(a, views, made.get((a.fraction, a.start), []), unlike, lacks) for a in wanted
        ]
    return rows + [_recall(r, store, shares, unlike, tested) for r in about.recalls]


def _tested(asked: Problem, fraction: float, seed: int) -> dict[str, int]:
    """Test objects of each class."""
    test = classify.split_rows(asked, fraction, seed, True)["test"]
    counts = np.bincount(asked.labels[test], minlength=len(asked.classes))
    return dict(zip(asked.classes, counts.tolist(), strict=True))


def _recall(
    wanted: Recall, store: Store, shares: list[Row], unlike: list[str],
    tested: dict[tuple[float, int], dict[str, int]],
) -> Row:  # fmt: skip
    """Recall of one class, or the mean of all, where a classifier sees some views at test."""
    found = [_first(names, store.modalities) for names in wanted.views]
    same = {"fraction": wanted.fraction, "method": wanted.start, "seed": wanted.seed}
    asked = [
        s for s in shares if {*s["at test"].split("+")} == {*found} and same.items() <= s.items()
    ]
    key = wanted.name or "macro"
    ours = 100 * asked[0][key] if asked and key in asked[0] else None
    gone = [n[0] for n, v in zip(wanted.views, found, strict=True) if v is None]
    lacks = f"no class {key}"
    if gone:
        lacks = _lacks_views(gone)
    elif not asked:
        lacks = f"needs --fraction {wanted.fraction:g} --seeds {wanted.seed}"
    which = wanted.name or "mean of the classes"
    row = _row(
        f"recall [%], {which}, {100 * wanted.fraction:g} % of the stars",
        "+".join(n[0] for n in wanted.views), ours, wanted.value, wanted.where, unlike,
        lacks=lacks,
    )  # fmt: skip
    counts = tested.get((wanted.fraction, wanted.seed), {})
    if ours is None or not counts:
        return row
    if wanted.name:
        low, high = metrics.share_interval(ours / 100, counts[wanted.name])
    else:  # of a mean of independent shares
        half = _half_of_mean([(asked[0][c], n) for c, n in counts.items() if n])
        low, high = ours / 100 - half, ours / 100 + half
    return row | _interval(100 * low, 100 * high)


def _half_of_mean(shares: list[tuple[float, int]]) -> float:
    """Half the 95 % interval of the mean of independent shares of so many objects each."""
    ends = [metrics.share_interval(share, count) for share, count in shares]
    return float(np.sqrt(sum((0.5 * (high - low)) ** 2 for low, high in ends))) / len(shares)


def _accuracy(
    wanted: Accuracy, views: tuple[str, ...], found: list[tuple[float, int]], unlike: list[str],
    lacks: str,
) -> Row:  # fmt: skip
    names = "+".join(views or [n[0] for n in wanted.views])
    lacking = [] if len(views) == len(wanted.views) else ["views lacking"]
    micro = np.array([share for share, _ in found])
    ours = float(100 * micro.mean()) if found else None
    start = "pre-trained" if wanted.start == "clip" else "from scratch"
    row = _row(
        f"accuracy [%], {100 * wanted.fraction:g} % of the stars, {start}", names, ours,
        wanted.value, wanted.where, unlike + lacking,
        lacks=lacks or f"--fraction leaves out {wanted.fraction:g}",
    )  # fmt: skip
    if found:
        # Of several seeds the interval of their mean, of one that of the test stars.
        ends = metrics.mean_interval(micro) if len(found) > 1 else metrics.share_interval(*found[0])
        row |= {"ours std": float(100 * micro.std()), "seeds": len(found)}
        row |= _interval(100 * ends[0], 100 * ends[1])
    return row | {"published std": wanted.spread}
