"""Published figures of a paper, each with its place in it and the data it was measured on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from mmclip.errors import UsageError, nearest
from mmclip.papers.split import Split

T = TypeVar("T")
Table = Mapping[str, Any]  # of a TOML file
TUNED = ("learning_rate", "beta1", "weight_decay", "factor", "dropout")  # of one run, in order
_ROWS = ("data", "regressions", "accuracies", "classes", "measures", "quoted")
_WORDS = ("views", "targets")


@dataclass(frozen=True)
class Conditions:
    """The data behind a paper's figures; a number measured on others is not comparable.

    Attributes:
        rows: Objects in all and by split, as the manifest of a data artefact counts them.
        views: Names that each view may have here; all of them must be observed, not modelled.
        classes: How many classes there are; 0 where none.
        surveys: Names that each survey may have here; all of them must be among the sources.
        split: The rule of the split; None where none is stated.
    """

    rows: Mapping[str, int]
    views: tuple[tuple[str, ...], ...]
    classes: int = 0
    surveys: tuple[tuple[str, ...], ...] = ()
    split: Split | None = None


@dataclass(frozen=True)
class Regression:
    """One R2: from the vectors of `view`, with references from those of `fit_on`.

    `method` is that of the paper where ours is another. With `network = "mlp"` it is learnt from
    the columns of labels that `view` names, by the network of the Multimodal Universe; with another
    network from the view itself, end to end (see `mmclip.tasks.supervised`).
    """

    quantity: str
    targets: tuple[str, ...]
    view: tuple[str, ...]
    fit_on: tuple[str, ...]
    value: float
    where: str
    method: str = ""
    network: str = ""


@dataclass(frozen=True)
class Term:
    """A part of a derived label: factor x the first of `columns` that is there, or x its ln."""

    factor: float
    columns: tuple[str, ...]
    ln: bool = False


@dataclass(frozen=True)
class Derived:
    """A label made of others: the sum of its terms."""

    name: str
    terms: tuple[Term, ...]


@dataclass(frozen=True)
class Accuracy:
    """One accuracy in per cent: mean and population deviation over five seeds."""

    views: tuple[tuple[str, ...], ...]
    fraction: float
    start: str
    value: float
    spread: float | None
    where: str


@dataclass(frozen=True)
class Recall:
    """Recall in per cent of one class, or the unweighted mean of all, of a classifier on all views.

    Attributes:
        views: Those that it looks at in the test.
        name: Of the class; empty: the mean.
        fraction, start, seed: Of its training.
    """

    views: tuple[tuple[str, ...], ...]
    name: str
    value: float
    fraction: float
    start: str
    seed: int
    where: str


@dataclass(frozen=True)
class Measure:
    """An AUC or a root mean square error of what is learnt from one view.

    Attributes:
        measure: auc (of the objects of `positive` among all) | rmse.
        view, targets, surveys: Names that each may have; the data must be of one of the surveys.
        positive: Classes, in lower case.
        network: See `mmclip.tasks.supervised`; empty: boosted trees on a summary of the view.
        method: That of the paper.
    """

    quantity: str
    measure: str
    view: tuple[str, ...]
    targets: tuple[str, ...]
    surveys: tuple[str, ...]
    value: float
    where: str
    method: str
    positive: tuple[str, ...] = ()
    network: str = ""


@dataclass(frozen=True)
class Quoted:
    """A figure that is shown and not measured; `lacks` says why."""

    quantity: str
    of: str
    value: float
    where: str
    lacks: str


@dataclass(frozen=True)
class Finetuning:
    """Settings of one published run of a classifier, see `FinetuneConfig`.

    Attributes:
        views: Names that each of its views may have.
        fraction, start: Which run.
        settings: By name; `dropout` is a number a view.
    """

    views: tuple[tuple[str, ...], ...]
    fraction: float
    start: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Published:
    """What a paper, or one benchmark of a paper, published, and how it was measured.

    Attributes:
        preset: The name of the paper or benchmark, as typed.
        title, protocol: For people.
        command: The command that measures the figures, where `mmclip evaluate` does not.
        k, weights, metric, scale: Of the k-NN.
        queries: Whose labels are predicted: test | leave-one-out.
    """

    preset: str
    title: str
    protocol: str
    conditions: Conditions
    command: str = ""
    k: int = 13
    weights: str = "uniform"
    metric: str = "cosine"
    scale: str = "none"
    queries: str = "test"
    regressions: tuple[Regression, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    recalls: tuple[Recall, ...] = ()
    measures: tuple[Measure, ...] = ()
    quoted: tuple[Quoted, ...] = ()
    finetuning: tuple[Finetuning, ...] = ()
    derived: tuple[Derived, ...] = ()


@dataclass(frozen=True)
class Names:
    """Words of a paper's file -> names that they may have in a data set."""

    views: Mapping[str, tuple[str, ...]]
    targets: Mapping[str, tuple[str, ...]]
    derived: tuple[Derived, ...] = ()


def read_names(body: Table) -> Names:
    """`[views]`, `[targets]` and `[derived]` of a paper's file."""
    derived = (
        Derived(name, tuple(record(Term, part, f"[derived] {name}") for part in terms))
        for name, terms in body.get("derived", {}).items()
    )
    views, targets = ({k: tuple(v) for k, v in body.get(t, {}).items()} for t in _WORDS)
    return Names(views, targets, tuple(derived))


def read_published(
    body: Table, preset: str, title: str, names: Names, split: Split | None = None,
    finetune: Table | None = None,
) -> Published:  # fmt: skip
    """`[published]`, or one `[benchmark.NAME]`, of a paper's file.

    Args:
        body: The table.
        preset, title: Of the paper; a title of the table goes before it.
        names: See `read_names`.
        split: Of the paper; one of the table `data` goes before it.
        finetune: The table `[finetune]`, where there is one.

    Raises:
        UsageError: On a key that is not known, naming the nearest, or one that is lacking.
    """
    plain = {k: v for k, v in body.items() if k not in _ROWS}
    where = str(plain.pop("where", ""))
    lines = [(f"regression {i + 1}", line) for i, line in enumerate(body.get("regressions", []))]
    regressions = tuple(_regression(line, where, names, place) for place, line in lines)
    accuracies = tuple(_accuracies(body.get("accuracies", {}), where, names))
    used = {r.view for r in regressions if r.network != "mlp"} | {r.fit_on for r in regressions}
    used |= {view for a in accuracies for view in a.views}
    data = {"rows": {}, "split": split} | body.get("data", {})
    if isinstance(data["split"], dict):
        data["split"] = record(Split, data["split"], f"{preset}: split")
    data["views"] = tuple(v for v in names.views.values() if v in used)
    return record(
        Published,
        {"title": title}
        | plain
        | {
            "preset": preset,
            "conditions": record(Conditions, data, f"{preset}: data"),
            "regressions": regressions,
            "accuracies": accuracies,
            "recalls": tuple(_recalls(body.get("classes", {}), names)),
            "measures": tuple(
                record(
                    Measure, dict(line) | {"view": _of(names.views, line["view"], "measures")}, ""
                )
                for line in body.get("measures", [])
            ),
            "quoted": tuple(record(Quoted, line, "quoted") for line in body.get("quoted", [])),
            "finetuning": tuple(_finetuning(finetune or {}, names)),
            "derived": names.derived,
        },
        preset,
    )


def _regression(line: Table, where: str, names: Names, place: str) -> Regression:
    given = dict(line)
    if "columns" in given:
        view = fit_on = tuple(given.pop("columns"))
    else:
        word = given.pop("view")
        view = _of(names.views, word, place)
        fit_on = _of(names.views, given.pop("fit_on", word), place)
    targets = _of(names.targets, given.pop("target"), place)
    known = {"where": where, "targets": targets, "view": view, "fit_on": fit_on}
    return record(Regression, known | given, place)


def _accuracies(body: Table, where: str, names: Names) -> Iterator[Accuracy]:
    for table in body.get("tables", []):
        views = tuple(_of(names.views, word, "accuracies") for word in table["views"])
        found = str(table.get("where", where))
        for i, fraction in enumerate(body["fractions"]):
            for start in ("scratch", "clip"):
                for value, *spread in table.get(start, [])[i : i + 1]:
                    about = spread[0] if spread else None
                    yield Accuracy(views, fraction, start, value, about, found)


def _recalls(body: Table, names: Names) -> Iterator[Recall]:
    about = {k: v for k, v in body.items() if k != "tables"}
    for table in body.get("tables", []):
        views = tuple(_of(names.views, word, "classes") for word in table["views"])
        for name, value in table.items():
            if name != "views":
                called = "" if name == "mean" else name
                yield record(Recall, {"views": views, "name": called, "value": value} | about, name)


def _finetuning(body: Table, names: Names) -> Iterator[Finetuning]:
    base = {k: v for k, v in body.items() if k != "runs"}
    for run in body.get("runs", []):
        views = tuple(_of(names.views, word, "finetune") for word in run["views"])
        own = {k: v for k, v in run.items() if k not in ("views", "table")}
        for fraction, start, *numbers in run["table"]:
            settings = dict(zip(TUNED, map(frozen, numbers), strict=True))
            yield Finetuning(views, fraction, start, base | own | settings)


def _of(known: Mapping[str, tuple[str, ...]], word: str, place: str) -> tuple[str, ...]:
    if word not in known:
        raise UsageError(f"{place}: no name '{word}'; {nearest(word, list(known))}")
    return known[word]


def record(kind: type[T], body: Table, place: str) -> T:
    """A frozen dataclass from a table of TOML; lists become tuples.

    Args:
        kind: The dataclass.
        body: Its fields by name.
        place: Where the table stands, for the error.

    Raises:
        UsageError: On a key that is not a field, naming the nearest, or a field that is lacking.
    """
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    for key in body:
        if key not in known:
            raise UsageError(f"{place}: '{key}' is not known; {nearest(key, known)}")
    try:
        return kind(**{key: frozen(value) for key, value in body.items()})
    except TypeError as error:
        raise UsageError(f"{place}: {error}") from error


def frozen(value: Any) -> Any:
    """A value of TOML with tuples for lists."""
    if not isinstance(value, list | tuple):
        return value
    return tuple(frozen(part) for part in value)
