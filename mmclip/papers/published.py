"""Figures of the published works, each with where it stands and what it was measured on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """The data behind a paper's figures; a number measured on others is not comparable.

    Attributes:
        rows: Objects in all and by split, as the manifest of a data artefact counts them.
        views: Names that each view may have here; all of them must be observed, not modelled.
        classes: How many classes there are; 0 where none.
        surveys: Names that each survey may have here; all of them must be among the sources.
        split: The rule of the split, where it is not one by cells of the sky.
    """

    rows: dict[str, int]
    views: tuple[tuple[str, ...], ...]
    classes: int = 0
    surveys: tuple[tuple[str, ...], ...] = ()
    split: str = ""


@dataclass(frozen=True)
class Regression:
    """One R2: from the vectors of `view`, with references from those of `fit_on`.

    `method` is that of the paper where ours is another. With `network = "mlp"` it is learnt from
    the columns of labels that `view` names, by the network of the Multimodal Universe.
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
class Derived:
    """A label made of others: the sum of factor x value, or of factor x ln value where so marked.

    Attributes:
        name: Of the new column.
        terms: (factor, names that the column may have, whether its logarithm is taken).
    """

    name: str
    terms: tuple[tuple[float, tuple[str, ...], bool], ...]


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
class Paper:
    """What a preset's paper published, and how."""

    preset: str
    title: str
    protocol: str
    conditions: Conditions
    k: int = 13
    weights: str = "uniform"
    metric: str = "cosine"
    scale: str = "none"
    regressions: tuple[Regression, ...] = ()
    accuracies: tuple[Accuracy, ...] = ()
    derived: tuple[Derived, ...] = ()


XP, RVS = ("xp_coefficients", "xp"), ("rvs",)
IMAGE, SPECTRUM = ("image",), ("spectra", "spectrum")
CURVE, META = ("photometry",), ("metadata_astrom3", "metadata")
REDSHIFT = ("z_hp", "redshift", "z")
MASS = ("provabgs_logmstar_bf", "log_mstar")


def _both(quantity: str, targets: tuple[str, ...], value: float) -> tuple[Regression, ...]:
    where = "section 3; from which view is not stated"
    return tuple(Regression(quantity, targets, v, v, value, where) for v in (XP, RVS))


def _galaxies(
    quantity: str, targets: tuple[str, ...], image: float, spectrum: float, cross: float | None,
    where: str,
) -> tuple[Regression, ...]:  # fmt: skip
    rows = [
        Regression(quantity, targets, IMAGE, IMAGE, image, where),
        Regression(quantity, targets, SPECTRUM, SPECTRUM, spectrum, where),
    ]
    if cross is not None:
        rows.append(Regression(quantity, targets, IMAGE, SPECTRUM, cross, where))
    return tuple(rows)


# arXiv:2411.08842, tables 2 and 4: by view; (mean, deviation) from scratch, then pre-trained,
# of the full set, 50, 25 and 10 %.
ASTROM3 = {
    (SPECTRUM,): ((76.278, 0.931, 77.056, 1.033), (68.072, 1.759, 71.376, 1.465),
                  (63.729, 1.637, 66.676, 2.549), (46.677, 3.486, 60.963, 2.584)),
    (META,): ((85.667, 0.858, 85.864, 0.739), (82.628, 1.048, 83.076, 1.367),
              (78.933, 2.419, 81.667, 1.332), (74.888, 1.856, 77.161, 1.476)),
    (CURVE,): ((90.724, 1.464, 91.101, 0.589), (85.197, 6.209, 89.572, 0.652),
               (78.382, 2.359, 88.580, 0.948), (84.527, 2.655, 91.264, 0.974)),
    (CURVE, SPECTRUM, META): ((94.127, 0.240, 93.501, 0.737), (91.977, 0.272, 92.174, 0.719),
                              (90.811, 1.030, 91.243, 1.254), (88.261, 1.248, 89.900, 2.000)),
}  # fmt: skip
FRACTIONS = (1.0, 0.5, 0.25, 0.1)


def _astrom3() -> tuple[Accuracy, ...]:
    found = []
    for views, numbers in ASTROM3.items():
        for fraction, (a, b, c, d) in zip(FRACTIONS, numbers, strict=True):
            found.append(Accuracy(views, fraction, "scratch", a, b, "tables 2 and 4"))
            found.append(Accuracy(views, fraction, "clip", c, d, "tables 2 and 4"))
    return tuple(found)


PAPERS = {
    p.preset: p
    for p in (
        Paper(
            "schwarz2024", "Schwarz & Buck 2024, arXiv:2410.16081",
            "k-NN, k = 13; neighbours and weights are not published: training stars, uniform",
            Conditions({"objects": 886_080, "train": 841_300, "validation": 44_780}, (XP, RVS)),
            regressions=_both("Teff", ("teff",), 0.9874)
            + _both("[alpha/M]", ("alpha_m",), 0.8488),
        ),
        Paper(
            "astroclip-cambridge", "Vrakkis 2023, reproduction of AstroCLIP",
            "k-NN, k = 16, 1/distance, Euclidean; theirs on vectors not normalised, ours on unit "
            "vectors",
            Conditions({"objects": 197_976, "train": 158_380, "test": 39_596}, (IMAGE, SPECTRUM)),
            k=16, weights="distance", metric="euclidean",
            regressions=_galaxies("redshift", REDSHIFT, 0.65, 0.87, 0.59, "table of R2")
            + _galaxies("log stellar mass", MASS, 0.57, 0.74, 0.50, "table of R2"),
        ),
        Paper(
            "astroclip", "Parker et al. 2024, arXiv:2310.03024",
            "k-NN, k = 64, 1/distance, dimensions standardised",
            Conditions({"objects": 197_976}, (IMAGE, SPECTRUM)),
            k=64, weights="distance", metric="euclidean", scale="standard",
            regressions=_galaxies("redshift", REDSHIFT, 0.79, 0.99, None, "zero-shot R2"),
        ),
        Paper(
            "astrom3", "Rizhko & Bloom 2025, arXiv:2411.08842",
            "fine-tuned end to end, five seeds, test set capped as the training set; micro "
            "accuracy. Theirs: a split and a learning rate of its own for each seed and run; "
            "ours: one split, one learning rate",
            Conditions(
                {"objects": 21_440, "train": 17_063, "validation": 2_152, "test": 2_225},
                (CURVE, SPECTRUM, META), 10,
            ),
            accuracies=_astrom3(),
        ),
    )
}  # fmt: skip
