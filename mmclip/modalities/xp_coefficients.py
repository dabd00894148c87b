"""Gaia XP continuous spectra: coefficients of BP and RP over their first ones.

Source: Schwarz & Buck 2024 (arXiv:2410.16081), section 2: every coefficient is divided by the
first; the first is log-scaled and z-scaled; the others are left as they are, because their size
says how much they matter. Each band is divided by its own first coefficient.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.arrays import Array, lists
from mmclip.config import Json, Size, Whole
from mmclip.errors import UsageError
from mmclip.modalities import Column, Columns, Export, Modality, Number, Prepared, multimodal
from mmclip.modalities.robust import padded
from mmclip.modalities.settings import one_of

BANDS = ("bp", "rp")
BLOCK = 256  # stars whose matrices are held at once
DOUBLE: Number = "float64"
SINGLE: Number = "float32"
RAW = tuple(
    Column(f"{band}_coefficient{what}", unit, f"{band.upper()} {meaning}", 0, optional, (), number)
    for band in BANDS
    for what, unit, meaning, optional, number in (
        ("s", "archive", "basis-function coefficients, archive's internal flux", False, DOUBLE),
        ("_errors", "archive", "their 1-sigma errors", True, SINGLE),
        ("_correlations", "", "their correlations: strictly lower triangle, row by row", True,
         SINGLE),
    )
)  # fmt: skip


@dataclass(frozen=True)
class CoefficientSettings:
    """How coefficients are scaled."""

    bases: Size = 55  # coefficients of a band; taken from the data unless given
    divide: str = "own"  # by the first of the own band | bp: of BP for both | none
    first: str = "log10"  # of the first coefficient: log10 | raw
    others: str = "raw"  # raw | z: each entry over the training split too
    keep: Whole = 0  # coefficients of a band that are kept; 0: all
    correlations: bool = False  # keep those of the errors for training: 27 times the values
    bases_rp: Whole = 0  # of RP where it has another number (Gaia DR4); 0: as many as BP

    def sizes(self) -> tuple[int, int]:
        """Coefficients of BP and of RP."""
        return self.bases, self.bases_rp or self.bases

    def kept(self) -> tuple[int, int]:
        """Coefficients of BP and of RP that are kept."""
        bp, rp = self.sizes()
        return (min(self.keep, bp), min(self.keep, rp)) if self.keep else (bp, rp)


def prepare(columns: Columns, settings: CoefficientSettings) -> Prepared:
    """Coefficients relative to the first ([rows, kept BP + kept RP]), BP then RP.

    Args:
        columns: `bp_coefficients`, `rp_coefficients` [rows, bases]; their errors, and the
            correlations of these (strictly lower triangle, row by row), are optional.

    Returns:
        First of each band as log10, others over the first; errors to first order in the errors
        of the numerator alone; if they are to be kept, the correlations of the raw coefficients
        [rows, sum of kept (kept - 1) / 2], NaN where unknown. Rejected: a band that is missing, not
        finite, or whose first coefficient is not positive.
    """
    parts, errors = [], []
    reasons = np.full(len(lists(columns["bp_coefficients"])), "", object)
    first_bp = None
    for band, bases, kept in zip(BANDS, settings.sizes(), settings.kept(), strict=True):
        values, problem = _band(columns[f"{band}_coefficients"], bases)
        given = columns.get(f"{band}_coefficient_errors")
        error = np.full_like(values, np.nan) if given is None else _band(given, bases)[0]
        first = values[:, 0]
        problem = np.where((problem == "") & ~(first > 0), "first coefficient <= 0", problem)
        first_bp = first if first_bp is None else first_bp
        scaled, scaled_error = _scaled(values, error, first, first_bp, settings)
        parts.append(scaled[:, :kept])
        errors.append(scaled_error[:, :kept])
        named = np.array([f"{band.upper()}: {p}" if p else "" for p in problem], object)
        reasons = np.where(reasons == "", named, reasons)
    known = any(columns.get(f"{band}_coefficient_errors") is not None for band in BANDS)
    return Prepared(
        np.concatenate(parts, axis=1).astype(np.float32),
        np.concatenate(errors, axis=1).astype(np.float32) if known else None,
        reasons,
        _correlations(columns, len(reasons), settings.kept())
        if settings.correlations and known
        else None,
    )


def _correlations(columns: Columns, rows: int, kept: tuple[int, int]) -> NDArray[np.float32] | None:
    """Those of the kept coefficients of both bands; the first rows of a triangle are a prefix."""
    names = [f"{band}_coefficient_correlations" for band in BANDS]
    if any(columns.get(n) is None for n in names):
        return None
    bands = [
        padded(lists(columns[n]), np.arange(rows), k * (k - 1) // 2)
        for n, k in zip(names, kept, strict=True)
    ]
    return np.concatenate(bands, axis=1).astype(np.float32)


def _band(given: Any, bases: int) -> tuple[Array, NDArray[np.object_]]:
    rows = lists(given)
    values = padded(rows, np.arange(len(rows)), bases)
    problem = np.full(len(rows), "", object)
    problem[~np.isfinite(values).all(axis=1)] = "a coefficient is missing"
    problem[rows.lengths == 0] = "no coefficients"
    other = (rows.lengths != bases) & (rows.lengths > 0)
    problem[other] = [f"{n} coefficients, not {bases}" for n in rows.lengths[other]]
    return values, problem


def _scaled(
    values: Array, error: Array, first: Array, first_bp: Array, settings: CoefficientSettings
) -> tuple[Array, Array]:
    divisor = {"own": first, "bp": first_bp, "none": np.ones_like(first)}[settings.divide]
    with np.errstate(invalid="ignore", divide="ignore"):
        out = values / np.where(divisor > 0, divisor, np.nan)[:, None]
        out_error = error / np.where(divisor > 0, divisor, np.nan)[:, None]
        if settings.first == "log10":
            out[:, 0] = np.log10(np.where(first > 0, first, np.nan))
            out_error[:, 0] = error[:, 0] / (np.where(first > 0, first, np.nan) * np.log(10))
        else:
            out[:, 0], out_error[:, 0] = first, error[:, 0]
    return out, out_error


def correlation_matrix(lower: Array, size: int) -> Array:
    """Correlations as stored in the archive -> full symmetric matrices [rows, size, size].

    Args:
        lower: [rows, size (size - 1) / 2], strictly lower triangle row by row; the unit diagonal
            is not stored.
    """
    full = np.zeros((len(lower), size, size))
    i, j = np.tril_indices(size, -1)
    full[:, i, j] = lower
    full += full.transpose(0, 2, 1)
    full[:, np.arange(size), np.arange(size)] = 1.0
    return full


def redraw(
    values: Array, errors: Array, correlations: Array, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Coefficients drawn anew within their covariance, for augmentation ([rows, size]).

    Args:
        values, errors: [rows, size]; raw coefficients of one band and their 1-sigma errors.
        correlations: [rows, size (size - 1) / 2] as in the archive.
        rng: Where the randomness comes from.

    Returns:
        values + e L z with L the Cholesky factor of the correlation matrix and z normal; a matrix
        that float32 rounding left indefinite gets the nearest factor with eigenvalues >= 0.
    """
    made = tied(packed(correlations, values.shape[1]), rng.standard_normal(values.shape), np)
    return np.asarray(values + errors * made)


def packed(correlations: Array, size: int) -> NDArray[np.float64]:
    """Cholesky factors of one band, their lower triangles row by row.

    A star whose correlations are not all known gets the unit matrix: independent errors.

    Returns:
        [rows, size (size + 1) / 2]
    """
    i, j = np.tril_indices(size)
    out = np.zeros((len(correlations), len(i)))
    out[:, np.flatnonzero(i == j)] = 1.0
    known = np.flatnonzero(np.isfinite(correlations).all(axis=1))
    for start in range(0, len(known), BLOCK):
        part = known[start : start + BLOCK]
        out[part] = _factor(correlation_matrix(correlations[part], size))[:, i, j]
    return out


def tied(factors: Any, draw: Any, xp: ModuleType) -> Any:
    """Independent normal numbers [rows, size] -> normal numbers of these correlations.

    Args:
        factors: See `packed`.
        draw: [rows, size]
        xp: NumPy or PyTorch, whose arrays these are.
    """
    made, at = [], 0
    for count in range(1, draw.shape[1] + 1):
        made.append((factors[:, at : at + count] * draw[:, :count]).sum(1))
        at += count
    return xp.stack(made, 1)


def prepared_factors(correlations: Array, settings: CoefficientSettings) -> NDArray[np.float32]:
    """`packed` of both bands side by side, from the correlations that `prepare` kept."""
    made, at = [], 0
    for kept in settings.kept():
        pairs = kept * (kept - 1) // 2
        made.append(packed(correlations[:, at : at + pairs], kept))
        at += pairs
    return np.concatenate(made, axis=1).astype(np.float32)


def redraw_prepared(
    values: Any, errors: Any, factors: Any, draw: Any, xp: ModuleType,
    settings: CoefficientSettings,
) -> Any:  # fmt: skip
    """What `prepare` makes of coefficients drawn anew, from what it made of the observed ones.

    Args:
        values, errors: [rows, kept BP + kept RP] as `prepare` gives them.
        factors: [rows, ...] of `prepared_factors`.
        draw: As many normal numbers as values; times 1/2 for half of the errors.
        xp: NumPy or PyTorch, whose arrays all these are.

    Returns:
        Of a band with the first coefficient c0: log10 of the new c0, and the other new ones over
        it. A first coefficient that would fall below a tenth of itself stays there.
    """
    made, share, log = [], 1.0, settings.first == "log10"
    at, tie = 0, 0
    for band, kept in zip(BANDS, settings.kept(), strict=True):
        own, width = slice(at, at + kept), kept * (kept + 1) // 2
        step = errors[:, own] * tied(factors[:, tie : tie + width], draw[:, own], xp)
        at, tie = at + kept, tie + width
        first = values[:, own][:, 0]
        change = step[:, 0] * np.log(10) if log else step[:, 0] / xp.where(first > 0, first, 1.0)
        grown = xp.clip(1 + change, 0.1, None)
        if settings.divide == "own" or (settings.divide == "bp" and band == "bp"):
            share = grown[:, None]
        new = (values[:, own] + step) / share
        new[:, 0] = first + xp.log10(grown) if log else first * grown
        made.append(new)
    return xp.concatenate(made, axis=1)


def _factor(matrices: Array) -> Array:
    try:
        return np.asarray(np.linalg.cholesky(matrices))
    except np.linalg.LinAlgError:
        pass
    if len(matrices) > 1:
        return np.concatenate([_factor(m[None]) for m in matrices])
    value, vector = np.linalg.eigh(matrices)
    root = vector * np.sqrt(np.maximum(value, 0.0))[:, None, :]
    return np.asarray(np.linalg.qr(root.swapaxes(1, 2))[1].swapaxes(1, 2))  # a triangle again


def labels(settings: CoefficientSettings) -> list[str]:
    """Names of the prepared values."""
    pairs = zip(BANDS, settings.kept(), strict=True)
    return [f"{band.upper()} {k}" for band, kept in pairs for k in range(kept)]


def anchors(settings: CoefficientSettings) -> NDArray[np.int64]:
    """The two first coefficients are z-scaled; the others are kept, unless all are to be."""
    bp, rp = settings.kept()
    own = np.arange(bp + rp)
    return own if settings.others == "z" else np.where((own == 0) | (own == bp), own, -1)


def detect(columns: Columns, given: Mapping[str, Any]) -> Json:
    """The number of coefficients of a band, unless it was given."""
    bp, rp = (lists(columns[f"{band}_coefficients"]).lengths.max(initial=0) for band in BANDS)
    found = {} if "bases" in given or bp == 0 else {"bases": int(bp)}
    if "bases" not in given and "bases_rp" not in given and rp not in (0, bp):
        found["bases_rp"] = int(rp)
    return found


def _length(column: str, settings: CoefficientSettings) -> int:
    size = settings.sizes()[BANDS.index(column[:2])]
    return size * (size - 1) // 2 if column.endswith("correlations") else size


def configure(settings: CoefficientSettings) -> Modality:
    """The modality under these settings.

    Raises:
        UsageError: If a setting is not one of the known ones.
    """
    one_of("xp_coefficients.divide", settings.divide, ("own", "bp", "none"))
    one_of("xp_coefficients.first", settings.first, ("log10", "raw"))
    one_of("xp_coefficients.others", settings.others, ("raw", "z"))
    if not 0 <= settings.keep <= settings.bases or settings.bases < 1:
        raise UsageError(
            f"xp_coefficients: keep = {settings.keep} of {settings.bases} cannot be",
            "--set xp_coefficients.keep=30",
        )
    columns = [replace(c, length=_length(c.name, settings)) for c in RAW]
    return Modality(
        name="xp_coefficients",
        title="Gaia XP coefficients",
        columns=tuple(
            c for c in columns if settings.correlations or not c.name.endswith("correlations")
        ),
        labels=partial(labels, settings),
        unit="over the first coefficient (the first: log10)",
        prepare=partial(prepare, settings=settings),
        encoder="mlp",
        kind="spectrum",
        decoder="metadata",  # coefficients have no wavelengths
        normalisation="z",
        anchors=partial(anchors, settings),
        raw=RAW,
        export=Export(
            "spectral_coefficients",
            tuple(f"{b}_coefficient{what}" for what in ("s", "_errors") for b in BANDS),
            multimodal.coefficients,
            "source_id",
        ),
        settings=settings,
        configure=configure,
        detect=detect,
        factors=partial(prepared_factors, settings=settings),
        redraw=partial(redraw_prepared, settings=settings),
    )


MODALITY = configure(CoefficientSettings())
