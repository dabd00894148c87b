"""The view that was never observed, from the embedding of those that were."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import plugins
from mmclip.artifacts import Artifact
from mmclip.clip.run import Run
from mmclip.datasets.build import Dataset
from mmclip.errors import NotFound, UsageError
from mmclip.modalities import registry, restore, restore_error
from mmclip.results import Columns, Result, Row, Value, from_rows, from_table, number
from mmclip.tasks import neighbours
from mmclip.tasks.generate import calibrate, decoder
from mmclip.tasks.generate.baselines import MOST, baselines
from mmclip.tasks.generate.calibrate import Calibration
from mmclip.tasks.generate.decoder import Featured, Fused, Pairs, Trained, Vectors, observed
from mmclip.tasks.generate.kernel import guess
from mmclip.tasks.predict import learn_blocks
from mmclip.tasks.predict.stars import stars_of
from mmclip.vectors.exact import Index
from mmclip.vectors.index import build
from mmclip.vectors.store import Store

Floats = NDArray[np.float64]
NEAREST = 10  # training stars whose mean distance tells how far outside a query lies
REFERENCES = 50_000  # training stars that distances are measured to, at most
CHUNK = 1024  # stars at a time
COMPARED = 10_000  # test stars of the comparison with baselines, at most
OPPONENTS = (("kernel-ridge", "kernel ridge"), ("mlp", "plain network"))  # heads, and their titles


@dataclass(frozen=True)
class Generated:
    """Generated views of some stars, in the modality's own unit; row i is star i.

    Attributes:
        start, to: The views that were observed, joined by `+`; the one that is generated.
        source_id: [stars].
        axis: Wavelength or the like [length], or None.
        labels: Names of the entries.
        mean: [stars, length] expectation.
        sigma: [stars, length] 1-sigma of what would be observed: the spread of the stars and the
            typical noise of the training data together.
        samples: [stars, draws, length], or None.
        calibration: Gives intervals in units of sigma; its scale is already within sigma.
        observed, error: [stars, length], NaN where there is none.
        distance: [stars] mean cosine distance of the query to its 10 nearest training stars.
        outside: [stars] True where that exceeds the 99th percentile of the training stars.
        provenance: Of the training data of the generated view.
        never: [length] entries that no training star has; None: not known.
    """

    start: str
    to: str
    source_id: NDArray[np.int64]
    axis: NDArray[np.floating] | None
    axis_unit: str
    unit: str
    labels: list[str]
    mean: NDArray[np.float64]
    sigma: NDArray[np.float64]
    samples: NDArray[np.float64] | None
    calibration: Calibration
    observed: NDArray[np.float64]
    error: NDArray[np.float64]
    distance: NDArray[np.float64]
    outside: NDArray[np.bool_]
    provenance: str
    never: NDArray[np.bool_] | None = None

    @property
    def origin(self) -> str:
        """What every file says of these values."""
        return "generated" + (", from modelled data" if self.provenance == "modelled" else "")

    def interval(self, part: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Ends [stars, length] of the interval that holds `part` of the observations."""
        low, high = calibrate.interval(self.calibration, part)
        return self.mean + low * self.sigma, self.mean + high * self.sigma


def split_views(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """`xp,metadata` -> (`metadata`, `xp`): the order of fused views does not matter."""
    names = text.split(",") if isinstance(text, str) else text
    return tuple(sorted({n.strip() for n in names if n.strip()}))


def find(
    decoders: list[Artifact], run: Artifact, start: tuple[str, ...], to: str
) -> Trained | None:
    """The newest decoder from `start` to `to` on the vectors of that very run, if there is one."""
    for artifact in reversed(decoders):
        made = artifact.manifest
        of_run = any(p["fingerprint"] == run.manifest.fingerprint for p in made.parents)
        if of_run and tuple(made.config["start"]) == start and made.config["to"] == to:
            return decoder.open_decoder(artifact)
    return None


def inputs(store: Store, start: tuple[str, ...]) -> Fused:
    """The fused vectors [stars, D] of some views, NaN rows where none was observed."""
    return Fused(tuple(store.vectors(name) for name in start))


def read_by(trained: Trained, store: Store, data: Dataset | None) -> Vectors:
    """What a decoder reads of the stars of a store: their vectors, or features of their views.

    Raises:
        UsageError: If it reads the views and there is no data set, or one that lacks them.
    """
    if trained.blocks is None:
        return inputs(store, trained.start)
    held = data.views if data is not None else {}
    lacking = [name for name in trained.start if name not in held]
    if data is None or lacking:
        raise UsageError(f"the decoder reads {', '.join(lacking)}, which no data set here holds",
                         "--data NAME, or --decoder run")  # fmt: skip
    return Featured(stars_of(data), trained.start, trained.blocks, places(store, data))


def places(store: Store, data: Dataset) -> NDArray[np.int64]:
    """Row in the data set of each star of the store.

    Raises:
        UsageError: If the data set lacks one.
    """
    at = neighbours.data_rows(store, data)
    return np.arange(len(data.source_id)) if at is None else at


def pairs(store: Store, data: Dataset, start: tuple[str, ...], to: str, name: str = "") -> Pairs:
    """Frozen vectors of the store beside the view to decode, for `decode.train`.

    Of a decoder `name` that is solved, features of the views in place of the vectors.
    """
    at = places(store, data)
    vectors: Vectors = inputs(store, start)
    if name and plugins.load("decoders", name, "DECODER").solve is not None:
        stars = stars_of(data)
        vectors = Featured(stars, start, learn_blocks(data, stars, start), at)
    return Pairs(vectors, data.views[to], store.of, len(start), store.dimension, at)


@dataclass(frozen=True)
class Surroundings:
    """Training stars of an input, and how far from them is far."""

    index: Index
    rows: NDArray[np.int64]
    edge: float

    def distance(self, vectors: NDArray[np.float32], asked: NDArray[np.int64]) -> Floats:
        """Mean cosine distance to the nearest training stars, the star itself left out."""
        take = min(NEAREST, len(self.rows) - 1)
        unit = _unit(vectors)
        parts = [
            self.index.search(unit[i : i + CHUNK], take + 1) for i in range(0, len(unit), CHUNK)
        ]
        cosine, found = (np.concatenate(both) for both in zip(*parts, strict=True))
        itself = self.rows[found] == asked[:, None]
        # A star that is no reference is not among its neighbours: drop the farthest instead.
        itself[~itself.any(axis=1), -1] = True
        near = cosine[~itself].reshape(-1, take).astype(np.float64)
        distance: Floats = (1 - near).mean(axis=1)
        return distance


def surroundings(store: Store, vectors: decoder.Vectors) -> Surroundings:
    """Index up to `REFERENCES` training stars; the edge is their 99th percentile of distance."""
    train = np.flatnonzero(store.of("train") & observed(vectors))
    if len(train) < 2:
        raise UsageError(f"only {len(train)} training stars", "embed a larger data set")
    rows = decoder.spread(train, REFERENCES)
    made = Surroundings(build(_unit(vectors[rows])), rows, 0.0)
    some = decoder.spread(rows, 5000)
    edge = float(np.percentile(made.distance(vectors[some], some), 99))
    return Surroundings(made.index, rows, edge)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.ascontiguousarray(vectors / np.maximum(norms, 1e-12), np.float32)


def stream(
    store: Store,
    trained: Trained,
    rows: NDArray[np.int64],
    data: Dataset | None = None,
    count: int = 0,
    seed: int = 42,
    size: int = CHUNK,
    around: Surroundings | None = None,
    reads: Vectors | None = None,
) -> Iterator[Generated]:
    """Generate the view of many stars, `size` at a time: memory does not grow with their number.

    Args:
        store: Vectors of the run the decoder belongs to.
        trained: The decoder.
        rows: Of the store.
        data: Holds what was observed, or None if that is not wanted.
        count: Draws a star.
        seed: Of the draws; those of a star depend on (seed, source_id) alone.
        size: Stars at a time.
        around: Of the store and the input views; by default found anew.
        reads: What the decoder reads; see `read_by`, by default of the store and `data`.

    Raises:
        NotFound: If a star was observed in none of the input views.
    """
    vectors = inputs(store, trained.start)
    lost = rows[~observed(vectors, rows)]
    if len(lost):
        raise NotFound(
            f"source_id {store.source_id[lost[0]]} was not observed in "
            f"{' or '.join(trained.start)}"
            + (f" (nor {len(lost) - 1} more)" if len(lost) > 1 else ""),
            "--from another view",
        )
    around = around or surroundings(store, vectors)
    reads = reads or read_by(trained, store, data)
    at = None if data is None else places(store, data)
    for begin in range(0, len(rows), size):
        part = rows[begin : begin + size]
        distance = around.distance(vectors[part], part)
        away = distance, distance > around.edge
        yield _one(store, trained, part, reads[part], away, data, at, count, seed)


def _one(
    store: Store,
    trained: Trained,
    rows: NDArray[np.int64],
    vectors: NDArray[np.float32],
    away: tuple[NDArray[np.float64], NDArray[np.bool_]],
    data: Dataset | None,
    at: NDArray[np.int64] | None,
    count: int,
    seed: int,
) -> Generated:
    mean, sigma = decoder.predict(trained, vectors)
    by = trained.statistics
    modality = registry.of_view(trained.to, by)
    ids = store.source_id[rows]
    samples = None
    if count:
        samples = restore(decoder.draws(trained, vectors, ids, count, seed), by)
    observed = error = np.full(mean.shape, np.nan)
    view = None if data is None else data.views.get(trained.to)
    if view is not None and at is not None:
        observed = restore(view.values[at[rows]], view.statistics)
        if view.errors is not None:
            error = restore_error(view.errors[at[rows]], view.statistics)
    return Generated(
        start="+".join(trained.start),
        to=trained.to,
        source_id=ids,
        axis=modality.axis() if modality.axis else None,
        axis_unit=modality.axis_unit,
        unit=modality.unit,
        labels=modality.labels(),
        mean=restore(mean, by),
        sigma=restore_error(sigma, by),
        samples=samples,
        calibration=trained.calibration,
        observed=observed,
        error=error,
        distance=away[0],
        outside=away[1],
        provenance=trained.provenance,
        never=by.never if modality.anchors is None else None,
    )


def generate(
    store: Store,
    data: Dataset,
    run: Run,
    start: str | tuple[str, ...],
    to: str,
    rows: NDArray[np.int64],
    trained: Trained | None = None,
    count: int = 0,
    seed: int = 42,
) -> Generated:
    """Generate the view `to` of the stars in `rows` (of the store) from the view(s) `start`.

    Args:
        store, data, run: Vectors, what was observed, and the run that made the vectors.
        start, to: Views; several to start from need a trained decoder.
        rows: Of the store; all results are held in memory (see `stream`).
        trained: A decoder; by default the quick one of the run.
        count, seed: Draws a star, and what fixes them.

    Raises:
        NotFound: If a view is not in the run, or a star was not observed in `start`.
        UsageError: If several views are to be fused and no decoder was trained for that.
    """
    trained = trained or quick(run, data, start, to)
    return next(stream(store, trained, rows, data, count, seed, max(len(rows), 1)))


def quick(run: Run, data: Dataset, start: str | tuple[str, ...], to: str) -> Trained:
    """The decoder that comes with a run, for one view to start from."""
    names = split_views(start)
    if len(names) != 1:
        raise UsageError(
            f"no decoder was trained from {' and '.join(names)} to {to}",
            f"mmclip train-decoder --from {','.join(names)} --to {to}",
        )
    provenance = data.artifact.manifest.provenance.get(to) or run.artifact.manifest.provenance[to]
    return decoder.quick(run, names[0], to, provenance)


def residuals(made: Generated) -> NDArray[np.float64]:
    """(observed - generated) / sigma, [stars, length]; NaN if unobserved.

    Sigma is that of an observation, noise included: the error of the star is not added again.
    """
    residual: NDArray[np.float64] = (made.observed - made.mean) / made.sigma
    return residual


def compare(
    store: Store,
    data: Dataset,
    run: Run,
    start: str | tuple[str, ...],
    to: str,
    split: str = "test",
    k: int = 13,
    trained: Trained | None = None,
    opponents: bool = False,
) -> Result:
    """The decoder beside its baselines on a split where both views were observed.

    Of more than `COMPARED` stars of the split so many are taken, evenly spread. A data set without
    test stars (the split of Schwarz & Buck) is compared on its validation stars.

    Returns:
        One row a method: median over pixels and stars of |generated - observed| (and, for a view
        with an axis, relative to the observed value); root mean square in units of the training
        stars' spread; for a baseline the part of stars of which the decoder comes nearer; for the
        decoder the part of observations within its 68 and 95 % intervals, and the median over
        stars of the reduced chi-square against the observed error alone (1 would mean that the
        generated view is as good as an observation).
    """
    trained = trained or quick(run, data, start, to)
    names, view = trained.start, data.views[to]
    vectors, at = inputs(store, names), places(store, data)
    if split == "test" and not store.of("test").any():
        split = "validation"
    both = observed(vectors) & view.present[at]
    most = {
        "train": ("train", MOST),
        "checks": ("validation", COMPARED),
        "asked": (split, COMPARED),
    }
    kept = {
        part: decoder.spread(np.flatnonzero(both & store.of(name)), count)
        for part, (name, count) in most.items()
    }
    if len(kept["asked"]) == 0 or len(kept["train"]) == 0:
        raise UsageError(f"no {split} star has both {', '.join(names)} and {to}", "more stars")
    made = generate(store, data, run, names, to, kept["asked"], trained)
    rough = [data.views[name] for name in names if name in data.views]
    used = np.unique(np.concatenate(list(kept.values())))
    raw = np.concatenate([np.nan_to_num(v.values[at[used]]) for v in rough], axis=1)
    places_of = {part: np.searchsorted(used, rows) for part, rows in kept.items()}
    guesses = baselines(vectors[used], raw, view.values[at[used]], **places_of, k=k)
    found = {"decoder": made.mean} | {m: restore(g, view.statistics) for m, g in guesses.items()}
    strong = dict(OPPONENTS if opponents else OPPONENTS[:1])
    strong.pop(trained.decoder.name, None)  # it is no opponent of itself
    for head, title in strong.items() if all(name in data.views for name in names) else ():
        found[f"{title} from the raw view"] = guess(
            data, names, to, at[kept["train"]], at[kept["asked"]], head
        )
    rows = [_score(made, guess, method, view.statistics.scale) for method, guess in found.items()]
    rows[0] |= _uncertainty(made)
    for row in rows:
        row["provenance"] = made.provenance
    return from_rows(rows, f"{'+'.join(names)} -> {to} on {split} stars", SCORES)


SCORES: Columns = {
    "median |residual|": ("", "median over stars and entries of |generated - observed|"),
    "median fraction": ("", "the same, relative to the observed value"),
    "rms / spread": ("", "root mean square in units of the spread of the training stars"),
    "decoder nearer": ("", "fraction of stars for which the decoder is nearer"),
    "in 68 %": ("", "fraction of observations inside the 68 % interval"),
    "in 95 %": ("", "fraction of observations inside the 95 % interval"),
    "chi2 / pixel": ("", "median over stars of the reduced chi-square, observed error alone"),
}


def _score(made: Generated, guess: Floats, method: str, scale: Floats) -> dict[str, Value]:
    off, ours = np.abs(guess - made.observed), np.abs(made.mean - made.observed)
    row: dict[str, Value] = {"from": made.start, "to": made.to, "method": method, "stars": len(off)}
    row["median |residual|"] = float(np.nanmedian(off))
    if made.axis is not None:
        row["median fraction"] = float(np.nanmedian(off / np.abs(made.observed)))
    row["rms / spread"] = float(np.sqrt(np.nanmean((off / scale) ** 2)))
    if method != "decoder":
        better = np.nanmedian(ours / scale, axis=1) < np.nanmedian(off / scale, axis=1)
        row["decoder nearer"] = float(better.mean())
    return row


def _uncertainty(made: Generated) -> dict[str, Value]:
    z = residuals(made)
    row: dict[str, Value] = {}
    for part in (0.68, 0.95):
        row[f"in {100 * part:.0f} %"] = calibrate.coverage(made.calibration, z, part)
    if np.isfinite(made.error).any():
        square = ((made.observed - made.mean) / made.error) ** 2
        row["chi2 / pixel"] = float(np.nanmedian(np.nanmean(square, axis=1)))
    return row


def verdict(rows: Iterable[Row]) -> str:
    """One sentence: does the decoder of a table of `compare` beat every baseline?"""
    ours, *others = rows
    key = "median fraction" if "median fraction" in ours else "median |residual|"
    mine = number(ours, key)
    rest = [(number(r, key), str(r["method"])) for r in others]
    ahead = [f"{method} ({error:.4g})" for error, method in rest if error <= mine]
    if ahead:
        least = min(error for error, _ in rest)
        return (
            f"the decoder ({key} {mine:.4g}) does NOT beat: {', '.join(ahead)}; it is "
            f"{100 * (mine / least - 1):.1f} % worse than the best"
        )
    best, method = min(rest)
    return (
        f"the decoder ({key} {mine:.4g}) beats every baseline; the best of them is "
        f"{method} ({best:.4g})"
    )


def surprise(
    store: Store,
    data: Dataset,
    run: Run,
    start: str | tuple[str, ...],
    to: str,
    trained: Trained | None = None,
) -> NDArray[np.float64]:
    """How surprising each star's observed view is, given its other view(s).

    Args:
        store, data, run, start, to, trained: As in `generate`.

    Returns:
        [stars of the store] mean over entries of ((observed - generated) / sigma)^2, about 1 for
        an ordinary star; NaN where either view is missing.
    """
    trained = trained or quick(run, data, start, to)
    vectors, at, view = inputs(store, trained.start), places(store, data), data.views[to]
    rows = np.flatnonzero(observed(vectors) & view.present[at])
    reads = read_by(trained, store, data)
    found = np.full(len(store.source_id), np.nan)
    for begin in range(0, len(rows), CHUNK):
        part = rows[begin : begin + CHUNK]
        mean, sigma = decoder.predict(trained, reads[part])
        z = restore(view.values[at[part]], view.statistics) - restore(mean, trained.statistics)
        z = z / restore_error(sigma, trained.statistics)
        found[part] = np.nanmean(z**2, axis=1)
    return found


def table(made: Generated) -> Result:
    """One row a star and entry: what was generated, its sigma and intervals, what was observed."""
    stars, length = made.mean.shape
    columns: dict[str, pa.Array] = {"source_id": pa.array(np.repeat(made.source_id, length))}
    if made.axis is None:
        columns["quantity"] = pa.array(made.labels * stars)
    else:
        columns[f"wavelength_{made.axis_unit}"] = pa.array(np.tile(made.axis, stars), pa.float64())
    low68, high68 = made.interval(0.68)
    low95, high95 = made.interval(0.95)
    numbers = {
        "generated": made.mean, "sigma": made.sigma, "low68": low68, "high68": high68,
        "low95": low95, "high95": high95, "observed": made.observed,
        "residual_in_sigma": residuals(made),
    }  # fmt: skip
    if made.samples is not None:
        numbers |= {f"draw_{n}": made.samples[:, n] for n in range(made.samples.shape[1])}
    columns |= {name: pa.array(v.reshape(-1), pa.float64()) for name, v in numbers.items()}
    columns["provenance"] = pa.array([made.origin] * (stars * length))
    unit = "" if made.axis is None or "/" in made.unit else made.unit
    described: dict[str, tuple[str, str]] = {
        f"wavelength_{made.axis_unit}": (made.axis_unit, "of the entry"),
        "residual_in_sigma": ("", "(observed - generated) / sigma"),
        "sigma": (unit, "1-sigma of an observation, noise included"),
    }
    described |= {n: (unit, "") for n in (*numbers, "draw_*") if n not in described}
    return from_table(pa.table(columns), f"generated {made.to} from {made.start}", described)
