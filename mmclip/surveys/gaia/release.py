"""What differs between the releases of Gaia: tables, columns, flags, spectra, numbers of stars."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Product:
    """One kind of spectrum.

    Attributes:
        kind: Its name at DataLink.
        view: Where it is stored.
        flag: Column of the main table that tells whether a star has it.
        samples: Length of a sampled spectrum; 0 for coefficients, whose number is read from the
            answer.
        bytes: About, as stored, a star.
        share: How many stars have it.
        folder: Of the bulk files.
        word: Part of the names of its files within a zip.
        unit, frame: Of a sampled spectrum.
    """

    kind: str
    view: str
    flag: str
    samples: int
    bytes: int
    share: int
    folder: str
    word: str
    unit: str = ""
    frame: str = ""


@dataclass(frozen=True)
class Columns:
    """Columns by what they are for; names are those of the release.

    Attributes:
        core: Of the main table, always fetched.
        labels, astrometry, photometry: Of the main table, by product.
        parameters: Of the table of astrophysical parameters.
        tmass, wise: Name -> column of 2MASS and AllWISE.
        joins: Product -> joins that bring its columns.
        cuttable: Column -> alias of its table: what `--where` may name.
        units: Column -> unit.
    """

    core: tuple[str, ...]
    labels: tuple[str, ...]
    parameters: tuple[str, ...]
    astrometry: tuple[str, ...]
    photometry: tuple[str, ...]
    tmass: dict[str, str]
    wise: dict[str, str]
    joins: dict[str, tuple[str, ...]]
    cuttable: dict[str, str]
    units: dict[str, str]


@dataclass(frozen=True)
class Release:
    """One data release.

    Attributes:
        survey: Name of the survey, and of its table of settings.
        title: As the archive writes it: `Gaia DR3`.
        about: What the survey gives, in a line.
        source: The main table.
        stars: Its rows; random_index runs from 0 to one less.
        products: Name of `--products` -> kind of spectrum.
        columns: See `Columns`.
        citations: Bibcodes of the release, and by product.
        epoch: Of the positions, Julian year.
    """

    survey: str
    title: str
    about: str
    source: str
    stars: int
    products: dict[str, Product]
    columns: Columns
    citations: tuple[str, ...]
    cited: dict[str, tuple[str, ...]] = field(default_factory=dict)
    epoch: float = 2016.0

    def names(self) -> tuple[str, ...]:
        """What `--products` may hold."""
        return tuple(self.cited)
