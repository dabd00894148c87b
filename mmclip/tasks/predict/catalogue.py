"""The table of labels, a block of stars at a time."""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mmclip import artifacts
from mmclip.artifacts import paths
from mmclip.datasets import build
from mmclip.datasets.build import Dataset, PreprocessConfig
from mmclip.datasets.import_files import ImportConfig, bring, parse_columns
from mmclip.errors import IntegrityError, NotFound, UsageError
from mmclip.ids import rows_of
from mmclip.modalities import registry
from mmclip.modalities.settings import configured
from mmclip.results import Columns
from mmclip.tasks.predict import Fitted, Part, axes_of, calibrate, known_of, open_heads, read_draws
from mmclip.tasks.predict import read_features as read
from mmclip.tasks.predict.calibrate import LEVELS, Shift
from mmclip.tasks.predict.stars import Stars, Target

Floats = NDArray[np.floating[Any]]
BLOCK = 8192  # stars at a time
FAR = 2.0  # times the edge of the training set, beyond which nothing is said
FAINT = 5.0  # percentile of the training stars' S/N, below which a star is called faint
OUTSIDE, MISSING, NOISY = "outside training set", "views missing", "low S/N"
ABSTAINED, DIFFERENT, UNCERTAIN = "abstained", "shifted", "uncertain"
WIDE = 3.0  # times the ordinary 68 % interval, from which a number is uncertain


@dataclass(frozen=True)
class Prepared:
    """A part of a head made ready to predict: its heads, the shift of the asked stars."""

    part: Part
    predict: Callable[[Floats], Floats]
    shift: Shift
    faint: float


@dataclass(frozen=True)
class Asked:
    """What a catalogue is of.

    Attributes:
        fitted, stars: The head, and the stars that it is asked about.
        ready: The parts of the head, largest first.
        which: [stars] the part that predicts each; -1 for none.
        odds: [stars] see `calibrate.Shift`.
        views: All views of the head.
        notes: Sentences for the user.
        abstain: A class less probable than this is not given.
    """

    fitted: Fitted
    stars: Stars
    ready: tuple[Prepared, ...]
    which: NDArray[np.int64]
    odds: Floats
    views: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    abstain: float = 0.0


def ask(fitted: Fitted, stars: Stars, check: bool = True) -> Asked:
    """Choose the part for each star, and test whether the stars are like the training ones.

    Args:
        fitted: A head.
        stars: Any stars; of a star that the head learned from the answer is out of fold.
        check: Test for a shift.
    """
    parts = sorted(fitted.parts, key=lambda p: -len(p.views))
    which, odds = np.full(len(stars), -1), np.ones(len(stars))
    ready, notes = [], []
    nothing = np.zeros(len(stars), bool)
    for i, part in enumerate(parts):
        able = np.ones(len(stars), bool)
        for view in part.views:
            able &= stars.present.get(view, nothing)
        rows = np.flatnonzero(able & (which < 0))
        which[rows] = i
        predict = open_heads(part.states)
        new = rows[~np.isin(stars.source_id[rows], part.oof_id)]
        found = Shift(0.5, np.ones(0), np.ones(len(part.around.x)))
        if check and len(new) >= 50:
            lasting = _lasting(part)
            x = [
                read(stars, new[s : s + BLOCK], part.inputs, fitted.blocks)[0][:, lasting]
                for s in range(0, len(new), BLOCK)
            ]
            found = calibrate.shift(part.around.x[:, lasting], np.concatenate(x))
            if found.shifted:
                odds[new] = found.odds
                notes.append(_said(found, len(new), part.views))
        faint = -np.inf
        where = next((s for s in _noise_columns(fitted, part)), None)
        if where is not None:
            faint = float(np.percentile(part.around.x[:, where], FAINT))
        ready.append(Prepared(part, predict, found, faint))
    views = tuple(dict.fromkeys(v for p in parts for v in p.views))
    return Asked(fitted, stars, tuple(ready), which, odds, views, tuple(notes))


def _said(found: Shift, count: int, views: Sequence[str]) -> str:
    """What a shift means for the stars asked."""
    told = (
        f"the {count} stars asked with {' and '.join(views)} are not like the training stars (a "
        f"forest tells them apart with AUC {found.auc:.2f})"
    )
    if found.apart:
        return told + (
            f", not even like those of them that are most alike (AUC {found.left:.2f}): none is "
            f"answered (flag '{ABSTAINED}')"
        )
    return told + (
        ": intervals are widened, and where too few training stars are alike the star is flagged "
        f"'{ABSTAINED}'"
    )


def _lasting(part: Part) -> NDArray[np.int64]:
    """Features that vary among the validation stars as they do among those they were learned from.

    Components of noise vary more among the stars that the components were learned from than among
    any others, and would tell these apart from stars of the very same kind.
    """
    own = np.isin(part.around.source_id, part.oof_id)
    columns = part.around.columns
    x = part.around.x[:, columns]
    if (~own).sum() < 20 or not own.any():
        return columns
    ratio = x[~own].var(axis=0) / np.maximum(x[own].var(axis=0), 1e-30)
    kept = np.flatnonzero(ratio > 1 - 2.5 * np.sqrt(2 / (~own).sum()))
    return columns[kept if len(kept) else np.argsort(-ratio)[:1]]


def _noise_columns(fitted: Fitted, part: Part) -> list[int]:
    """Which features are log10 S/N."""
    forms = [b.form for n in part.inputs for b in fitted.blocks[n] for _ in range(len(b.gain))]
    return [i for i, form in enumerate(forms) if form == "noise"]


def blocks(asked: Asked, rows: NDArray[np.int64] | None = None) -> Iterator[pa.Table]:
    """Tables of some stars (all by default), `BLOCK` at a time."""
    rows = np.arange(len(asked.stars)) if rows is None else rows
    for start in range(0, max(len(rows), 1), BLOCK):
        yield table(asked, rows[start : start + BLOCK])


def table(asked: Asked, rows: NDArray[np.int64]) -> pa.Table:
    """One row a star; see `described` for the columns."""
    stars, fitted, count = asked.stars, asked.fitted, len(rows)
    width = sum(t.width for t in fitted.targets)
    value = np.full((count, width), np.nan)
    error = np.full((2, len(LEVELS), count, len(fitted.targets)), np.nan)  # below, above
    support, outside = np.zeros(count, np.int64), np.full(count, np.nan)
    noise, faint = np.full(count, np.nan), np.zeros(count, bool)
    moved, silent = np.zeros(count, bool), np.ones(count, bool)
    beyond, vague = np.zeros(count, bool), np.zeros((count, len(fitted.targets)), bool)
    for i, ready in enumerate(asked.ready):
        mine = np.flatnonzero(asked.which[rows] == i)
        if not len(mine):
            continue
        part, ids = ready.part, stars.source_id[rows[mine]]
        every, noise[mine] = read_draws(stars, rows[mine], part.inputs, fitted.blocks)
        x, made = every[0], np.asarray(ready.predict(every), np.float64)
        place = rows_of(part.oof_id, ids)
        known = place >= 0
        held = part.oof[np.maximum(place, 0)]
        made = np.where(known[:, None] & np.isfinite(held), held, made)
        near = part.around.near(x, ids)
        axes, scale = axes_of(fitted.targets, made, noise[mine]), near.scale
        if part.widths is not None:
            scale = part.widths(known_of(fitted.targets, axes, near))
        support[mine], outside[mine] = near.support, near.outside
        for column in _noise_columns(fitted, part)[:1]:
            faint[mine] = x[:, column] < ready.faint
        grow = np.maximum(near.outside, 1.0)
        moved[mine] = ready.shift.shifted & ~known
        silent[mine] = (near.outside > FAR) | (ready.shift.apart & ~known)
        for j, (target, at) in enumerate(zip(fitted.targets, fitted.places, strict=True)):
            groups = part.groups[j]
            if target.classes:
                made[:, at] = calibrate.softmax(made[:, at] / part.temperatures[j])
                continue
            assert groups is not None
            score = groups(made[:, at.start], noise[mine], axes)
            if ready.shift.shifted:
                stretch = _stretch(ready, part, at.start, asked.odds[rows[mine]])
                score = score * np.where(known, 1.0, stretch)
                silent[mine] |= ~np.isfinite(score[0])
            size, side = scale[:, at.start] * grow, part.tails[j] if part.tails else None
            reach = size if side is None else side(made[:, at.start], size)
            error[:, :, mine, j] = score * reach
            if part.ordinary:
                vague[mine, j] = error[:, 0, mine, j].mean(axis=0) > WIDE * part.ordinary[j]
                low, high = part.ranges[j]
                beyond[mine] |= (made[:, at.start] < low) | (made[:, at.start] > high)
        value[mine] = made
    columns: dict[str, Any] = {
        "source_id": pa.array(stars.source_id[rows]),
        "split": pa.array([str(s) for s in stars.split[rows]], pa.string()),
    }
    value[silent] = np.nan
    for j, (target, at) in enumerate(zip(fitted.targets, fitted.places, strict=True)):
        if target.classes:
            columns |= _class_columns(target, value[:, at], asked.abstain)
            silent |= np.nan_to_num(value[:, at]).max(axis=1) < asked.abstain
        else:
            columns |= _number_columns(target, value[:, at.start], error[..., j])
    lacking = np.zeros(count, bool)
    for view in asked.views:
        lacking |= ~stars.present.get(view, np.zeros(len(stars), bool))[rows]
    told = {OUTSIDE: (outside > 1) | beyond, MISSING: lacking, NOISY: faint, DIFFERENT: moved,
            ABSTAINED: silent}  # fmt: skip
    told |= {f"{UNCERTAIN} {t.name}": v for t, v in zip(fitted.targets, vague.T, strict=True)}
    columns["method"] = pa.array([fitted.method] * count, pa.string())
    columns["support"] = pa.array(support)
    columns["outside"] = pa.array(outside)
    columns["snr"] = pa.array(10.0**noise)
    columns["flags"] = pa.array(_words(told), pa.string())
    return pa.table(columns)


def _stretch(ready: Prepared, part: Part, column: int, odds: Floats) -> Floats:
    """[levels, n] by what intervals grow for the shift; see `calibrate.widening`."""
    score = part.score[:, column]
    known = np.isfinite(score)
    score, weight = score[known], ready.shift.calibration[known]
    own = np.array([np.quantile(score, level) for level in LEVELS])
    return calibrate.widening(score, weight, odds, own)


def _number_columns(target: Target, value: Floats, error: Floats) -> dict[str, pa.Array]:
    made = {target.name: target.field(value)}
    for level, name in enumerate(("", "95")):
        made[f"{target.name}_lower{name}"] = target.field(value - error[0, level])
        made[f"{target.name}_upper{name}"] = target.field(value + error[1, level])
    return {n: pa.array(np.where(np.isfinite(v), v, np.nan), from_pandas=True)
            for n, v in made.items()}  # fmt: skip


def _class_columns(target: Target, probability: Floats, abstain: float) -> dict[str, pa.Array]:
    best = np.nan_to_num(probability).argmax(axis=1)
    known = np.nan_to_num(probability, nan=-1.0).max(axis=1) >= abstain
    words = [target.classes[b] if k else None for b, k in zip(best, known, strict=True)]
    made: dict[str, pa.Array] = {target.name: pa.array(words, pa.string())}
    for i, name in enumerate(target.classes):
        made[f"{target.name}_p_{name}"] = pa.array(probability[:, i], from_pandas=True)
    return made


def _words(told: Mapping[str, NDArray[np.bool_]]) -> list[str]:
    """Names of the flags of each star, by commas."""
    names = list(told)
    rows = np.stack(list(told.values()), axis=1)
    several, place = np.unique(rows, axis=0, return_inverse=True)
    spelled = [", ".join(n for n, f in zip(names, row, strict=True) if f) for row in several]
    return [spelled[i] for i in place.reshape(-1)]


def described(fitted: Fitted) -> Columns:
    """Unit and description of every column."""
    made: dict[str, tuple[str, str]] = {
        "source_id": ("", "Gaia DR3 source_id"),
        "split": ("", "of the data set; training stars are predicted out of fold"),
        "method": ("", "head that predicted"),
        "support": ("", "reference stars within an ordinary neighbourhood of the star"),
        "outside": ("", "distance to the training stars; above 1: farther than 99 % of them"),
        "snr": ("", "median signal-to-noise ratio of an entry of the view"),
        "flags": (
            "",
            "outside training set, views missing, low S/N, shifted, abstained, "
            "uncertain LABEL (its 68 % interval is three times the ordinary one)",
        ),
    }
    for target in fitted.targets:
        if target.classes:
            made[target.name] = ("", "most probable class")
            made[f"{target.name}_p_*"] = ("", "probability of the class")
            continue
        made[target.name] = (target.unit, "predicted")
        for part, name in ((68, ""), (95, "95")):
            for side in ("lower", "upper"):
                made[f"{target.name}_{side}{name}"] = (
                    target.unit, f"{side} end of the {part} % interval",
                )  # fmt: skip
    return made


def from_files(
    files: Sequence[Path], views: Mapping[str, Mapping[str, Any]], folder: Path,
    reader: str = "", columns: str | None = None,
) -> Dataset:  # fmt: skip
    """New stars of files, read by any reader of `import` and prepared as the head's views were.

    Args:
        files: As `mmclip import` takes them.
        views: Of the head; see `fitted.views_of`.
        folder: Where the imported and the prepared data may lie for the while.
        reader, columns: As `mmclip import` takes them.

    Raises:
        MmclipError: If none of the views is in the files.
    """
    from_import = _imported(files, list(views), folder, reader, columns)
    held = [v for v, about in views.items() if _there(from_import, v, about["settings"])]
    if not held:
        raise UsageError(f"the files hold none of the views {', '.join(views)}",
                         "mmclip import says what was read of them")  # fmt: skip
    settings = PreprocessConfig(modalities=tuple(held), normalisation="none", clip=0.0, workers=1)
    todo = build.plan([from_import], settings, {v: dict(views[v]["settings"]) for v in held})
    made = build.make(todo, folder / "data" / "asked", True, lambda text: None)
    return build.open_dataset(made, tuple(held))


def _there(raw: artifacts.Artifact, view: str, settings: Mapping[str, Any]) -> bool:
    """Whether a view was read, with every column that the head knows of it."""
    name = view.partition("@")[0]
    if name not in raw.manifest.provenance:
        return False
    known = {*pq.read_schema(raw.path / paths.table(name)).names}
    modality = configured(registry.modality(view), settings)
    return modality.kind != "table" or {c.name for c in modality.columns if not c.optional} <= known


def _imported(
    files: Sequence[Path], views: list[str], folder: Path, reader: str, columns: str | None
) -> artifacts.Artifact:
    from_names = tuple(dict.fromkeys(v.partition("@")[0] for v in views))
    problems: list[Exception] = []
    tries = [from_names, *((n,) for n in from_names if len(from_names) > 1)]
    for i, names in enumerate(tries):
        try:
            settings = ImportConfig(names, columns=parse_columns(columns), reader=reader)
            return bring(list(files), settings, folder / "raw" / f"asked{i}")[0]
        except (UsageError, NotFound, IntegrityError) as error:
            problems.append(error)
    raise problems[0]


def shard_path(output: Path, shard: int, shards: int) -> Path:
    """Where shard 1..shards of a table lies: `labels.2-of-8.parquet`."""
    return output.with_name(f"{output.stem}.{shard}-of-{shards}{output.suffix}")


def write_parquet(pieces: Iterator[pa.Table], path: Path, like: pa.Schema | None = None) -> int:
    """Write blocks as they come; returns the number of stars."""
    count = 0
    with artifacts.whole(path) as unfinished:
        writer = None
        try:
            for piece in pieces:
                piece = piece if like is None else piece.cast(like)
                writer = writer or pq.ParquetWriter(unfinished, piece.schema)
                writer.write_table(piece)
                count += piece.num_rows
        finally:
            if writer is not None:
                writer.close()
    return count


def merged(output: Path, shards: int) -> pa.Table:
    """The shards of a table, joined.

    Raises:
        NotFound: Naming the first that is missing.
    """
    found = []
    for shard in range(1, shards + 1):
        path = shard_path(output, shard, shards)
        if not path.is_file():
            raise NotFound(f"there is no {path}", f"--shard {shard}/{shards}")
        found.append(pq.read_table(path))
    return pa.concat_tables(found)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for imported stars that goes when it is closed."""
    return tempfile.TemporaryDirectory(prefix="mmclip-predict-")


__all__ = ["Asked", "ask", "blocks", "described", "from_files", "table"]


def with_error(value: float, error: float) -> str:
    """A number to the second digit of its error.

    >>> with_error(5750.71, 612.3), with_error(-0.2512, 0.0831)
    ('5751 ± 612', '-0.251 ± 0.083')
    """
    digits = max(0, 1 - math.floor(math.log10(error))) if 0 < error < math.inf else 3
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def short(made: pa.Table, fitted: Fitted) -> list[dict[str, Any]]:
    """Rows for a terminal: each number with half its 68 % interval, each class with its
    probability, and the flags; the file has the rest.
    """
    kept = []
    for row in made.to_pylist():
        told: dict[str, Any] = {"source_id": row["source_id"], "split": row["split"]}
        for target in fitted.targets:
            value = row[target.name]
            if value is None:
                told[target.name] = "-"
            elif target.classes:
                told[target.name] = f"{value} ({row[f'{target.name}_p_{value}']:.2f})"
            else:
                half = (row[f"{target.name}_upper"] - row[f"{target.name}_lower"]) / 2
                told[target.name] = with_error(value, half)
        kept.append(told | {"flags": row["flags"]})
    return kept
