"""Labels for every star: heads fitted on the stars that have them, with errors that hold.

    features     what a head reads of a star
    stars        the stars, their labels, folds
    heads        k-NN, ridge, kernel ridge, networks, boosting; one file each
    widths       how large a residual is to be expected of a star
    calibrate    conformal intervals by group, and shifted populations
    run          from a workspace to a catalogue
    fitted       a fitted head as an artefact
    catalogue    the table of labels, block by block, and shards

A head is fitted for every set of views that stars have: a star that lacks a view is predicted by
the head fitted without it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.datasets.build import Dataset
from mmclip.errors import UsageError
from mmclip.metrics import accuracies, bootstrap, confusion, scores
from mmclip.results import Columns
from mmclip.tasks.neighbours import same_star
from mmclip.tasks.predict import calibrate, features, heads
from mmclip.tasks.predict import widths as expected
from mmclip.tasks.predict.calibrate import Around, Groups, Near
from mmclip.tasks.predict.features import Block
from mmclip.tasks.predict.heads import Head, Sample, State
from mmclip.tasks.predict.stars import VECTORS, Labels, Stars, Target, weights
from mmclip.tasks.predict.widths import Tails, Widths

Floats = NDArray[np.floating[Any]]
Row = dict[str, Any]
Tell = Callable[[str], None]
LEAST = 30  # training stars with a label
REFERENCES = 8000  # stars that calibrate and say what is near
METHODS = ("kernel-ridge", "mlp-ensemble", "blend", "boosting", "knn", "ridge")
OPPONENTS = ("mlp", "knn-white")  # compared with, never chosen
COMPARED: Columns = {
    "R2": ("", "1 - SS_res / SS_tot"), "NMAD": ("as the target", "1.4826 median |residual|"),
    "scatter": ("as the target", "deviation after clipping at 3 sigma"),
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """A head fitted on the stars that have some views.

    Attributes:
        views: Which; inputs: what is read of them, in order.
        states: The fitted heads by name; their answers are averaged.
        around: The stars that calibrate: their features and residuals out of fold.
        groups: By target; of a class None.
        temperatures: By target; of a number 1.
        oof: [m, t] predictions of the training stars out of fold; oof_id whose.
        score: [m, t] of the calibration stars: conformal scores.
        widths: The residual to expect of a star; None, of an older head, for the mean of its
            neighbours'.
        tails: By target, how far an interval goes to either side; of a class None.
        ordinary: By target, the median half width of the calibration stars' 68 % intervals.
        ranges: By target, the least and the largest label that was learned from.
    """

    views: tuple[str, ...]
    inputs: tuple[str, ...]
    states: Mapping[str, State]
    around: Around
    groups: tuple[Groups | None, ...]
    temperatures: tuple[float, ...]
    oof_id: NDArray[np.int64]
    oof: Floats
    score: Floats
    trained: int
    widths: Widths | None = None
    tails: tuple[Tails | None, ...] = ()
    ordinary: tuple[float, ...] = ()
    ranges: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True)
class Fitted:
    """Heads for every set of views, of some targets, by one method."""

    method: str
    on: str
    targets: tuple[Target, ...]
    blocks: Mapping[str, tuple[Block, ...]]  # by input
    parts: tuple[Part, ...]
    chosen: Mapping[str, float] = field(default_factory=dict)  # validation score by method

    @property
    def places(self) -> list[slice]:
        """The columns of each target."""
        return places_of(self.targets)


def inputs_of(views: Sequence[str], on: str, read: Mapping[str, Any]) -> tuple[str, ...]:
    """What is read of some views: `view`, `vectors` or `both`."""
    wanted = [v for v in views if on in ("view", "both")]
    wanted += [VECTORS + v for v in views if on in ("vectors", "both")]
    lacking = [n for n in wanted if n not in read]
    if lacking:
        raise UsageError(f"there are no {lacking[0]}", "--on view, or mmclip embed first")
    return tuple(wanted)


def learn_blocks(data: Dataset, stars: Stars, names: Sequence[str]) -> dict[str, tuple[Block, ...]]:
    """The features of each input, learned from training stars that have it, labelled or not."""
    made: dict[str, tuple[Block, ...]] = {}
    train = data.of("train")
    for name in names:
        view = name.removeprefix(VECTORS)
        wide = int(np.prod(data.views[view].size)) > features.WIDE
        most = features.FEW if wide else features.SAMPLE
        rows = features.some(np.flatnonzero(train & stars.present[view]), most)
        if not len(rows):
            raise UsageError(f"no training star has {view}", "--views, without it")
        seen = stars.read[name](rows)
        if name.startswith(VECTORS):
            made[name] = (features.components(name, "vectors", seen.values.shape[1:],
                                              seen.values, 256, 0.0),)  # fmt: skip
            continue
        shown = data.views[view]
        blocks = [features.learn(name, data.modality(view), seen.values, shown.size)]
        errors = seen.errors if blocks[0].form == "flux" else None
        if errors is not None and (np.isfinite(errors) & (errors > 0)).any():
            blocks.append(features.weighted(name, shown.size, seen.values, errors))
        if np.isfinite(seen.noise).mean() > 0.5:
            blocks.append(features.noise_block(name, seen.noise))
        made[name] = tuple(blocks)
    return made


def read_features(
    stars: Stars, rows: NDArray[np.int64], names: Sequence[str],
    blocks: Mapping[str, tuple[Block, ...]],
) -> tuple[NDArray[np.float32], Floats]:  # fmt: skip
    """[rows, d] features of some inputs, and [rows] log10 S/N (the largest of the inputs)."""
    (x,), noise = _features(stars, rows, names, blocks, 1)
    return x, noise


def read_draws(
    stars: Stars, rows: NDArray[np.int64], names: Sequence[str],
    blocks: Mapping[str, tuple[Block, ...]],
) -> tuple[NDArray[np.float32], Floats]:  # fmt: skip
    """[1 + draws, rows, d] features of the whole views and of their draws; see `read_features`."""
    several = 1 + max(block.draws for name in names for block in blocks[name])
    made, noise = _features(stars, rows, names, blocks, several)
    return np.stack(made), noise


def _features(
    stars: Stars, rows: NDArray[np.int64], names: Sequence[str],
    blocks: Mapping[str, tuple[Block, ...]], several: int,
) -> tuple[list[NDArray[np.float32]], Floats]:  # fmt: skip
    """The whole views and the first draws, so many in all; each input is read once."""
    made: list[list[NDArray[np.float32]]] = [[] for _ in range(several)]
    noise = np.full(len(rows), np.nan)
    for name in names:
        seen = stars.read[name](rows)
        for block in blocks[name]:
            raw = seen.noise[:, None] if block.form == "noise" else seen.values
            for draw, parts in enumerate(made):
                parts.append(np.nan_to_num(block(raw, draw)))
        noise = np.fmax(noise, seen.noise)
    return [np.concatenate(parts, axis=1) for parts in made], noise


def gain_of(names: Sequence[str], blocks: Mapping[str, tuple[Block, ...]]) -> Floats:
    """[d] see `heads.Sample`."""
    return np.concatenate([b.gain for n in names for b in blocks[n]])


def form_of(names: Sequence[str], blocks: Mapping[str, tuple[Block, ...]]) -> NDArray[np.str_]:
    """[d] see `heads.Sample`."""
    forms: list[str] = []
    for name in names:
        twice = any(b.form == "flux / error" for b in blocks[name])
        for block in blocks[name]:
            form = "flux twice" if twice and block.form == "flux" else block.form
            forms += [form] * len(block.gain)
    return np.array(forms, np.str_)


def fit_heads(head: Head, sample: Sample, seed: int, like: Mapping[str, State] | None = None,
              ready: Mapping[str, State] | None = None) -> dict[str, State]:  # fmt: skip
    """The states of a head, or of its parts; those that are `ready` are taken as they are."""
    made = {}
    for name in head.parts or (head.name,):
        one = heads.head(name) if head.parts else head
        assert one.fit is not None
        held = (ready or {}).get(name)
        made[name] = held if held is not None else one.fit(sample, seed, (like or {}).get(name))
    return made


def open_heads(states: Mapping[str, State]) -> Callable[[Floats], Floats]:
    """What predicts [n, d] features, or [1 + draws, n, d]: the mean of the heads."""
    ready = []
    for name, state in states.items():
        one = heads.head(name)
        assert one.open is not None
        ready.append((one.open(state), one.draws))

    def predict(x: Floats) -> Floats:
        every = x if x.ndim == 3 else x[None]
        made = [np.mean([p(one) for one in (every if draws else every[:1])], axis=0)
                for p, draws in ready]  # fmt: skip
        return np.asarray(sum(made) / len(ready))

    return predict


@dataclass(frozen=True)
class Question:
    """What is to be learned: stars, their labels, and the inputs.

    Attributes:
        only: [n] stars that may be learned from.
    """

    data: Dataset
    stars: Stars
    labels: tuple[Labels, ...]
    views: tuple[str, ...]
    on: str
    only: NDArray[np.bool_]
    seed: int = 42

    @property
    def targets(self) -> tuple[Target, ...]:
        """Of the labels."""
        return tuple(one.target for one in self.labels)

    @property
    def y(self) -> Floats:
        """[n, t] standardised."""
        return np.concatenate([one.columns() for one in self.labels], axis=1)

    def rows(self, split: str, views: Sequence[str]) -> NDArray[np.int64]:
        """Rows of a split that have these views and any of the labels."""
        known = np.any([one.known for one in self.labels], axis=0)
        for view in views:
            known = known & self.stars.present[view]
        return np.flatnonzero(known & self.only & self.data.of(split))


def patterns(stars: Stars, views: Sequence[str]) -> list[tuple[str, ...]]:
    """The sets of views that stars have, and each view alone; the largest first."""
    held = np.stack([stars.present[v] for v in views], axis=1)
    found = {tuple(v for v, h in zip(views, row, strict=True) if h)
             for row in np.unique(held, axis=0)}  # fmt: skip
    found |= {(v,) for v in views} | {tuple(views)}
    return sorted((f for f in found if f), key=lambda f: (-len(f), f))


def _sample(
    asked: Question, rows: NDArray[np.int64], names: Sequence[str],
    blocks: Mapping[str, tuple[Block, ...]],
) -> Sample:  # fmt: skip
    every, _ = read_draws(asked.stars, rows, names, blocks)
    return Sample(every[0], asked.y[rows], weights(asked.labels)[rows], gain_of(names, blocks),
                  form_of(names, blocks),
                  tuple((p.start, p.stop) for t, p in zip(asked.targets, places_of(asked.targets),
                        strict=True) if t.classes), same_star(asked.data)[rows],
                  every[1:] if len(every) > 1 else None)  # fmt: skip


def compare(
    asked: Question, methods: Sequence[str | Head], blocks: Mapping[str, tuple[Block, ...]],
    resamples: int = 200, tell: Tell = lambda text: None,
) -> tuple[list[Row], dict[str, float], dict[str, State]]:  # fmt: skip
    """Every method on validation and test stars that have all views.

    Returns:
        A row a method and target, in field units; the mean validation score by method (R2, or
        accuracy of a class), by which one is chosen; and the states of the heads.
    """
    names = inputs_of(asked.views, asked.on, asked.stars.read)
    train = asked.rows("train", asked.views)
    check_enough(asked, train)
    sample = _sample(asked, train, names, blocks)
    ready: dict[str, State] = {}
    rows: list[Row] = []
    chosen: dict[str, float] = {}
    held = {s: asked.rows(s, asked.views) for s in ("validation", "test")}
    read = {s: read_draws(asked.stars, r, names, blocks)[0] for s, r in held.items() if len(r)}
    for head in (m if isinstance(m, Head) else heads.head(m) for m in methods):
        states = fit_heads(head, sample, asked.seed, ready=ready)
        ready |= states
        predict = open_heads(states)
        good = []
        said = {s: predict(x) for s, x in read.items()}
        for labels, place in zip(asked.labels, places_of(asked.targets), strict=True):
            row: Row = {"target": labels.target.name, "method": head.title,
                        "on": asked.on}  # fmt: skip
            for split, made in said.items():
                found = measure(labels, held[split], made[:, place],
                                resamples if split == "test" else 0)  # fmt: skip
                main = "micro" if labels.target.classes else "R2"
                if split == "validation":
                    good.append(found.get(main, np.nan))
                    row[f"{main} validation"] = found.get(main, np.nan)
                else:
                    row |= found
            rows.append(row)
        score = float(np.nanmean(good)) if np.isfinite(good).any() else float("-inf")
        chosen[head.name] = score
        tell(f"{head.name}: mean validation score {score:.3f}")
    return rows, chosen, ready


def check_enough(asked: Question, train: NDArray[np.int64]) -> None:
    """Refuse to learn from a handful.

    Raises:
        UsageError: If fewer than 30 training stars have a label.
    """
    for one in asked.labels:
        count = int(one.known[train].sum())
        if count < LEAST:
            raise UsageError(
                f"{count} training stars with {' and '.join(asked.views)} have "
                f"'{one.target.name}'; a head needs {LEAST}",
                "--views with fewer views, or mmclip preprocess --labels FILE with more stars",
            )


def places_of(targets: Sequence[Target]) -> list[slice]:
    """The columns of each target among all."""
    ends = np.cumsum([0, *(t.width for t in targets)])
    return [slice(int(a), int(b)) for a, b in pairwise(ends)]


def measure(labels: Labels, rows: NDArray[np.int64], made: Floats, resamples: int) -> Row:
    """Scores of predictions [rows, width] in field units, with bootstrap intervals."""
    known = labels.known[rows]
    if known.sum() < 2:
        return {}
    truth = labels.truth[rows][known]
    if not labels.target.classes:
        predicted = labels.target.field(made[known, 0])
        return scores(truth, predicted) | bootstrap(scores, truth, predicted, resamples)
    kinds = [str(i) for i in range(len(labels.target.classes))]

    def right(a: NDArray[Any], b: NDArray[Any]) -> Row:
        return accuracies(confusion(a.astype(str), b.astype(str), kinds))

    predicted = made[known].argmax(axis=1)
    return right(truth, predicted) | bootstrap(right, truth, predicted, resamples)


def fit(
    asked: Question, method: str | Head = "auto", tell: Tell = lambda text: None,
    resamples: int = 200, references: int = REFERENCES,
    sets: Sequence[tuple[str, ...]] | None = None,
) -> tuple[Fitted, list[Row]]:  # fmt: skip
    """Fit a head for every set of views, and calibrate it.

    Args:
        asked: Stars, labels and inputs; learned from the training split.
        method: A head, its name, or `auto`: the best of all on the validation stars. A head of no
            folds is calibrated on the validation stars alone, and answers its training stars as it
            answers others.
        tell: Is told of progress.
        resamples: Of the bootstrap.
        references: Stars that calibrate, at most.
        sets: Of views, each with a head of its own; None: all that stars have.

    Returns:
        The head, and the rows of `compare` (of the one method, or of all).

    Raises:
        NotFound: If there is no such method.
        UsageError: If too few stars have a label.
    """
    names = inputs_of(asked.views, asked.on, asked.stars.read)
    blocks = learn_blocks(asked.data, asked.stars, names)
    methods = METHODS if method == "auto" else (method,)
    rows, chosen, ready = compare(asked, methods, blocks, resamples, tell)
    if method == "auto":
        method = max(chosen, key=lambda m: chosen[m])
        tell(f"chosen on validation stars: {method}")
    head = method if isinstance(method, Head) else heads.head(method)
    parts = []
    for views in sets or patterns(asked.stars, asked.views):
        own = inputs_of(views, asked.on, asked.stars.read)
        train = asked.rows("train", views)
        if any(one.known[train].sum() < LEAST for one in asked.labels):
            continue
        taken = ready if views == asked.views else {}
        parts.append(_part(asked, views, own, train, head, blocks, taken, references))
        tell(f"{' and '.join(views)}: {len(train)} training stars")
    return Fitted(head.name, asked.on, asked.targets, blocks, tuple(parts), chosen), rows


def _part(
    asked: Question, views: tuple[str, ...], names: tuple[str, ...], train: NDArray[np.int64],
    head: Head, blocks: Mapping[str, tuple[Block, ...]], ready: Mapping[str, State],
    references: int,
) -> Part:  # fmt: skip
    sample = _sample(asked, train, names, blocks)
    states = fit_heads(head, sample, asked.seed, ready=ready)
    oof = out_of_fold(head, sample, states, asked.seed)
    states = {name: {k: a for k, a in state.items() if k not in heads.FITTING}
              for name, state in states.items()}  # fmt: skip
    held = asked.rows("validation", views)
    x, predicted, ids = sample.x, oof, asked.stars.source_id[train]
    truth, noise = sample.y, read_noise(asked.stars, train, names)
    if len(held):
        more, of = read_draws(asked.stars, held, names, blocks)
        x, noise = np.concatenate([x, more[0]]), np.concatenate([noise, of])
        predicted = np.concatenate([oof, open_heads(states)(more)])
        truth = np.concatenate([truth, asked.y[held]])
        ids = np.concatenate([ids, asked.stars.source_id[held]])
    kept = features.some(np.flatnonzero(np.isfinite(predicted).all(axis=1)), references)
    x, predicted, truth, ids, noise = x[kept], predicted[kept], truth[kept], ids[kept], noise[kept]
    near = calibrate.around(x, ids, predicted - truth, sample.features())
    axes = axes_of(asked.targets, predicted, noise)
    widths, scale = expected.learn(known_of(asked.targets, axes, near.near(x, ids)), near.residual)
    off = near.residual
    if not _by_formula(head):
        off = expected.as_new(off, scale, np.flatnonzero(kept >= len(train)))
    groups, tails, ordinary, temperatures = _intervals(asked.targets, predicted, off, scale, axes)
    firsts = [place.start for place in places_of(asked.targets)]
    ranges = [(float(np.nanmin(c)), float(np.nanmax(c))) for c in sample.y[:, firsts].T]
    return Part(views, names, states, near, groups, temperatures, asked.stars.source_id[train],
                oof, np.abs(off) / scale, len(train), widths, tails, ordinary,
                tuple(ranges))  # fmt: skip


def _by_formula(head: Head) -> bool:
    """True if all its answers out of fold are by a formula, from all stars but one."""
    return all(heads.head(n).left_out is not None for n in head.parts) if head.parts else (
        head.left_out is not None)  # fmt: skip


def _intervals(
    targets: Sequence[Target], predicted: Floats, off: Floats, scale: Floats, axes: Floats
) -> tuple[tuple[Groups | None, ...], tuple[Tails | None, ...], tuple[float, ...],
           tuple[float, ...]]:  # fmt: skip
    """Of each target: groups, tails, the ordinary half width, and the temperature of a class.

    Args:
        targets: t of them.
        predicted, off, scale: [n, t] of calibration stars: predictions, their residuals (NaN
            unknown), and the residuals to expect.
        axes: [n, A] see `axes_of`.
    """
    groups: list[Groups | None] = []
    tails: list[Tails | None] = []
    ordinary, temperatures = [], []
    for target, place in zip(targets, places_of(targets), strict=True):
        known = np.isfinite(off[:, place.start])
        if target.classes:
            codes = (predicted - off)[known, place].argmax(axis=1)
            temperatures.append(calibrate.temperature(predicted[known, place], codes))
            groups.append(None)
            tails.append(None)
            ordinary.append(0.0)
            continue
        own, away, size = (a[known, place.start] for a in (predicted, off, scale))
        side = expected.tails(own, own - away, size, calibrate.LEVELS)
        down, up = side(own, size)
        noise, along = axes[known, 0], axes[known]
        found = calibrate.groups(own, noise, np.maximum(away / down, -away / up), along)
        half = found(own, noise, along)[0] * (down[0] + up[0]) / 2
        groups.append(found)
        tails.append(side)
        ordinary.append(float(np.median(half)) if len(half) else 0.0)
        temperatures.append(1.0)
    return tuple(groups), tuple(tails), tuple(ordinary), tuple(temperatures)


def out_of_fold(head: Head, sample: Sample, states: Mapping[str, State], seed: int) -> Floats:
    """[n, t] training stars predicted by heads that did not see them; NaN for a head of no folds.

    By a formula where the head has one, else by folds; rows of one star on the sky, and its draws,
    go together.
    """
    if not head.folds:
        return np.full(sample.y.shape, np.nan)
    star = np.arange(len(sample.x)) if sample.star is None else sample.star
    several, place = np.unique(star, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(several))[place.reshape(-1)] % head.folds
    made = []
    for name in head.parts or (head.name,):
        one = heads.head(name) if head.parts else head
        if one.left_out is not None and "left_out" in states[name]:
            made.append(one.left_out(sample, states[name]))
            continue
        oof = np.full(sample.y.shape, np.nan)
        for number in range(head.folds):
            out, kept = fold == number, np.flatnonzero(fold != number)
            state = fit_heads(one, sample.of(kept), seed, like=states)
            oof[out] = open_heads(state)(sample.every[:, out])
        made.append(oof)
    return np.asarray(np.mean(made, axis=0))


def known_of(targets: Sequence[Target], axes: Floats, near: Near) -> Floats:
    """[n, f] what `widths` reads: `axes_of`, the distance, and the residuals of the neighbours."""
    numbers = [p.start for t, p in zip(targets, places_of(targets), strict=True) if not t.classes]
    about = [np.log(np.maximum(near.outside, 0.05))[:, None], np.log(near.scale[:, numbers])]
    return np.concatenate([axes, *about], axis=1)


def axes_of(targets: Sequence[Target], predicted: Floats, noise: Floats) -> Floats:
    """[n, A] what intervals are right along: S/N and every predicted number."""
    numbers = [p.start for t, p in zip(targets, places_of(targets), strict=True) if not t.classes]
    return np.concatenate([noise[:, None], predicted[:, numbers]], axis=1)


def read_noise(stars: Stars, rows: NDArray[np.int64], names: Sequence[str]) -> Floats:
    """[rows] log10 S/N, the largest of the inputs."""
    noise = np.full(len(rows), np.nan)
    for name in names:
        noise = np.fmax(noise, stars.read[name](rows).noise)
    return noise


def short(rows: Any) -> list[Row]:
    """Rows for a terminal: the interval of the main score beside it."""
    made = []
    for row in rows:
        kept: Row = {}
        for name, value in row.items():
            if name.endswith(("_low", "_high")) or name in ("on", "bias"):
                continue
            low, high = row.get(f"{name}_low"), row.get(f"{name}_high")
            told = name in ("R2", "micro") and low is not None
            kept[name] = f"{value:.3f} [{low:.3f}, {high:.3f}]" if told else value
        kept["method"] = f"{row['method']}, on {row['on']}"
        made.append(kept)
    return made


def restrict(asked: Question, only: NDArray[np.bool_]) -> Question:
    """The same question, learned from fewer stars."""
    return replace(asked, only=asked.only & only)


__all__ = ["Fitted", "Part", "Question", "compare", "fit", "patterns", "restrict"]
