"""What differs between the releases of Gaia: tables, columns, flags, spectra, numbers of stars."""

from dataclasses import dataclass, field

from mmclip.surveys.gaia.settings import Settings


@dataclass(frozen=True)
class Product:
    """One kind of spectrum.

    Attributes:
        kind: Its name at DataLink.
        view: Where it is stored.
        flag: Column that tells whether a star has it; empty if none does.
        samples: Length of a sampled spectrum; 0 where it is read from the answer.
        bytes: About, as stored, a star.
        share: How many stars have it.
        folder: Of the bulk files.
        word: Part of the names of its files within a zip.
        unit, frame: Of a sampled spectrum.
        shape: coefficients, sampled, photometry (points in time), or epochs (many rows a star).
        flags: Other names that the flag may have, where the release is assumed.
        alias: Table of the flag: g (the main one) or f (`Release.flags`).
        graded: The flag is a number, of which 0 means no.
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
    shape: str = "coefficients"
    flags: tuple[str, ...] = ()
    alias: str = "g"
    graded: bool = False

    @property
    def has(self) -> str:
        """The flag with the alias of its table."""
        return f"{self.alias}.{self.flag}"


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
class Earlier:
    """A release before, whose ids a table of neighbours maps to those of the later one."""

    old: str
    new: str

    @property
    def column(self) -> str:
        """Of the old ids: `dr2_source_id`."""
        return f"{self.old.lower()}_source_id"

    @property
    def into(self) -> str:
        """Of the new ids: `dr3_source_id`."""
        return f"{self.new.lower()}_source_id"


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
        flags: Table of flags beside the main one; empty if there is none.
        parameters: Tables of labels of an assumed release.
        neighbours: Table of the ids of the release before, `earlier`.
        settings: Class of its settings.
        assumed: Names are assumptions, to be compared with the service's own list.
        origin, scale: Julian date that times are counted from, and their time scale.
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
    flags: str = ""
    parameters: tuple[str, ...] = ()
    neighbours: str = "gaiadr3.dr2_neighbourhood"
    earlier: Earlier = Earlier("DR2", "DR3")
    settings: type[Settings] = Settings
    assumed: bool = False
    origin: float = 2_455_197.5
    scale: str = "TCB"

    @property
    def ids(self) -> str:
        """Release of its source_ids: `DR3`."""
        return self.earlier.new

    def names(self) -> tuple[str, ...]:
        """What `--products` may hold."""
        return tuple(self.cited)
