"""What `mmclip adapt` reads: two surveys in the same units, at the same resolution."""

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from mmclip import arrays
from mmclip.arrays import Array
from mmclip.config import Chance, Range
from mmclip.cuts import where
from mmclip.datasets import split
from mmclip.datasets.build import Dataset
from mmclip.errors import UsageError
from mmclip.modalities import Statistics, continuum, normalise, restore
from mmclip.tasks.knn import target_values
from mmclip.transfer.methods import TUNINGS, TuneConfig

METHODS = ("zero-shot", *TUNINGS)
METALLICITIES = ("feh", "fe_h", "m_h", "mh")  # columns that give the default regimes
# Labels by the SP pipeline of DESI's Milky Way Survey, under the names that a table may give them.
PIPELINES = (
    (METALLICITIES, ("sp_feh", "feh_sp")),
    (("alpha_m", "alphafe", "alpha_fe"), ("sp_alphafe", "alphafe_sp")),
    (("teff",), ("sp_teff", "teff_sp")),
    (("logg",), ("sp_logg", "logg_sp")),
)


@dataclass(frozen=True)
class AdaptConfig(TuneConfig):
    """Settings of `mmclip adapt`; those of the networks are `TuneConfig`'s."""

    targets: tuple[str, ...] = ()
    methods: tuple[str, ...] = METHODS
    sizes: tuple[str, ...] = ("0", "100", "200", "500", "1000", "all")  # labelled target stars
    seeds: Annotated[int, Range(1, 10000)] = 5  # runs: which stars, initial weights, order
    seed: Annotated[int, Range(0, 2**32 - 10001)] = 42  # of the source network, and the first run
    view: str = ""  # SOURCE:TARGET where the names differ; empty: the one they share
    holdout: Chance = 0.0  # part of the target to judge on, by a hash; 0: its test split
    where: str = ""  # only these stars, of source and target: "teff > 4000 and teff < 8000"
    regimes: tuple[str, ...] = ()  # cuts to score by themselves; empty: [M/H] below and above -1
    match_resolution: str = ""  # SOURCE,TARGET as R, or FWHM with nm or A; empty: as they are
    baselines: bool = True  # mean of the labelled stars, ridge regressions
    pipeline: tuple[str, ...] = ()  # LABEL=COLUMN of the target's own labels; empty: DESI's SP
    reference: str = ""  # data set whose labels are the cloud of MMD2; empty: the judged stars'
    device: str = "auto"


@dataclass(frozen=True)
class Stars:
    """One data set as the networks read it.

    Attributes:
        source_id: [stars].
        x: [stars, L] in the source's normalised units; NaN where not observed.
        labels: [stars] each, NaN where not known.
        split: [stars].
        regimes: [stars] flags by name.
        pipeline: [stars] of each label, by the survey's own pipeline; NaN where it gives none.
        sky: [stars, 2] ra and dec in deg, NaN where unknown.
    """

    source_id: NDArray[np.int64]
    x: NDArray[np.float32]
    labels: dict[str, NDArray[np.float64]]
    split: NDArray[np.str_]
    regimes: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    pipeline: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    sky: NDArray[np.float64] | None = None

    @property
    def star(self) -> NDArray[np.int64]:
        """[stars] a number that rows of one star share, under whatever ids."""
        return same_stars(self)[0]

    @property
    def present(self) -> NDArray[np.bool_]:
        """[stars] True where the view was observed at all."""
        return np.asarray(np.isfinite(self.x).any(axis=1), np.bool_)


def same_stars(*sets: Stars) -> list[NDArray[np.int64]]:
    """A number for each row of each set, which rows of one star share; see `split.stars`."""
    ids = np.concatenate([s.source_id for s in sets])
    unknown = [np.full((len(s.source_id), 2), np.nan) for s in sets]
    at = np.concatenate([n if s.sky is None else s.sky for s, n in zip(sets, unknown, strict=True)])
    return np.split(split.stars(ids, *at.T), np.cumsum([len(s.source_id) for s in sets])[:-1])


def stars(
    data: Dataset,
    view: str,
    targets: tuple[str, ...],
    by: Statistics,
    regimes: dict[str, str],
    fwhm: Array | None = None,
    only: str = "",
) -> Stars:
    """A data set in the units of `by`, its spectra blurred by `fwhm` (Angstrom) if given.

    Stars that the cut `only` leaves out count as not observed.

    Raises:
        NotFound: If a label or a column of a regime is not there.
        UsageError: If the view is of another length than the source's.
    """
    it = data.views[view]
    if it.values.shape[1] != len(by.centre):
        alike = "prepare both with one modality, for example lrs"
        bases = [s.settings.get(n) for s in (it.statistics, by) for n in ("bases", "bases_rp")]
        if any(bases):  # releases of Gaia have other numbers of them
            most = min(n for n in bases if n)
            alike = f"prepare both alike: mmclip preprocess --set xp_coefficients.keep={most}"
        raise UsageError(
            f"{view} of {data.artifact.path} has {it.values.shape[1]} values a star, the source "
            f"{len(by.centre)}",
            alike,
        )
    values = it.values
    if fwhm is not None or not np.array_equal(it.statistics.centre, by.centre):
        physical: Array = restore(values, it.statistics)
        if fwhm is not None:
            physical = continuum.blur(axis(data, view), physical, fwhm)
        limit = float(data.artifact.manifest.config.get("clip", 0.0))
        values = normalise(physical, by)
        if limit > 0 and by.method != "none":
            values = np.clip(values, -limit, limit)
    if only:
        values = np.where(where(data.objects, only)[:, None], values, np.float32(np.nan))
    labels = {t: target_values(data, t) for t in targets}
    cuts = {name: where(data.objects, text) for name, text in regimes.items()}
    known = {"ra", "dec"} <= set(data.objects.column_names)
    at = [arrays.column(data.objects, n).astype(float) for n in ("ra", "dec")] if known else None
    return Stars(
        data.source_id,
        values,
        labels,
        data.split,
        cuts,
        sky=None if at is None else np.stack(at, 1),
    )


def pipeline(data: Dataset, settings: AdaptConfig) -> dict[str, NDArray[np.float64]]:
    """The survey's own labels [stars], by the label they stand beside.

    Raises:
        UsageError: If the setting `pipeline` is not LABEL=COLUMN.
        NotFound: If it names a column that is not there.
    """
    columns = {}
    for text in settings.pipeline:
        label, given, column = text.partition("=")
        if not given or label.strip() not in settings.targets:
            raise UsageError(
                f"--pipeline '{text}' is not LABEL=COLUMN of one of {', '.join(settings.targets)}",
                "--pipeline fe_h=sp_feh",
            )
        columns[label.strip()] = column.strip()
    there = data.objects.column_names
    if not settings.pipeline:
        for label in settings.targets:
            names = [c for known, own in PIPELINES if label in known for c in own if c in there]
            columns |= {label: names[0]} if names else {}
    return {label: target_values(data, column) for label, column in columns.items()}


def cloud(data: Dataset, targets: tuple[str, ...]) -> NDArray[np.float64]:
    """[stars, 2] the first two labels of the stars that have both.

    Raises:
        NotFound: If a label is not there.
        UsageError: If fewer than two stars have both.
    """
    both = np.stack([target_values(data, t) for t in targets[:2]], axis=1)
    found: NDArray[np.float64] = both[np.isfinite(both).all(axis=1)]
    if len(found) < 2:
        both_names = " and ".join(targets[:2])
        raise UsageError(
            f"{data.artifact.path} has {len(found)} star(s) with {both_names}",
            "--reference another",
        )
    return found


def axis(data: Dataset, view: str) -> Array:
    """Wavelengths of a view in Angstrom, under the settings it was prepared with.

    Raises:
        UsageError: If the view has none.
    """
    modality = data.modality(view)
    if modality.axis is None or modality.axis_unit not in ("nm", "Angstrom"):
        raise UsageError(f"{view} has no wavelength axis to match resolutions on", "leave it out")
    found = np.asarray(modality.axis(), np.float64)
    return found * 10 if modality.axis_unit == "nm" else found


def width(text: str, wavelength: Array) -> Array:
    """FWHM in Angstrom at each wavelength: `1800` is R, `0.25nm` and `2.5A` are widths.

    Raises:
        UsageError: If the text is none of these.
    """
    text = text.strip()
    unit = {"nm": 10.0, "A": 1.0}.get(text.lstrip("0123456789.e+-"))
    try:
        number = float(text.rstrip("nmA"))
    except ValueError:
        number = float("nan")
    if not number > 0:
        raise UsageError(f"'{text}' is no resolution", "--match-resolution 1800,4000 or 2.5A,3.1A")
    if unit is None:
        return wavelength / number
    return np.full(len(wavelength), number * unit)


def blurs(resolutions: str, wavelength: Array) -> tuple[Array, Array]:
    """FWHM (Angstrom) by which to blur source and target so that both resolve alike.

    Args:
        resolutions: `SOURCE,TARGET`, see `width`.
        wavelength: [L], which both share.

    Raises:
        UsageError: If the text is not of that form.
    """
    parts = resolutions.split(",")
    if len(parts) != 2:
        raise UsageError(f"--match-resolution '{resolutions}' is not SOURCE,TARGET", "1800,4000")
    source, target = (width(p, wavelength) for p in parts)
    return (
        continuum.matching_fwhm(wavelength, source, target),
        continuum.matching_fwhm(wavelength, target, source),
    )


def default_regimes(data: Dataset, targets: tuple[str, ...]) -> dict[str, str]:
    """Metal-poor and metal-rich, by the first metallicity column there is; none without one."""
    names = data.objects.column_names
    for column in (*targets, *METALLICITIES):
        if column in METALLICITIES and column in names:
            return {"metal-poor": f"{column} < -1", "metal-rich": f"{column} >= -1"}
    return {}


def evaluated(target: Stars, settings: AdaptConfig) -> NDArray[np.bool_]:
    """[stars] of the target to judge on: its test split, or a hashed part of it."""
    if settings.holdout <= 0:
        return np.asarray(target.split == "test", np.bool_)
    uniform = split.mix(target.star, settings.seed).astype(np.float64) / 2.0**64
    return np.asarray(uniform < settings.holdout, np.bool_)


def sizes(settings: AdaptConfig, pool: int) -> list[int]:
    """Numbers of labelled stars to try, no larger than there are.

    Raises:
        UsageError: If one is not a number, or none is left.
    """
    wanted = set()
    for text in settings.sizes:
        if text.strip() != "all" and not text.strip().isdigit():
            raise UsageError(f"--sizes: '{text}' is no number", "--sizes 0,100,200,all")
        wanted.add(pool if text.strip() == "all" else int(text))
    found = sorted(n for n in wanted if n <= pool and (n == 0 or n >= 4))
    if not found:
        raise UsageError(f"only {pool} labelled target stars", "--sizes 0,all")
    return found
