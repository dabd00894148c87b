"""Every file name of an artefact, and of the work that leads to one; docs/formats.md explains them.

Names stand here once and are used from here, so that the format can be read off this page. A name
that depends on a view, a shard or a number is a function of it.
"""

# Of every artefact
MANIFEST = "manifest.json"
CONFIG = "config.toml"  # the resolved settings, as `--config` reads them
SHAPE = "shape.json"  # what a network must know to be built before its weights are read
METRICS = "metrics.jsonl"  # a line an evaluation during training
MODEL = "model.safetensors"

# raw: what was fetched or imported. A view is one table, or shards in a folder of its name.
OBJECTS = "objects.parquet"
LEDGER = "ledger.parquet"  # what became of each object asked for
SOURCES = "sources.parquet"  # the files that were imported
QUERIES = "queries.adql"
SELECTION = "selection.parquet"
SELECTION_NOTES = "selection.json"
STEPS = "steps"  # the ledger entry of each step of a fetch
HATS = "hats"
PARQUET = ".parquet"

# data: prepared views
REJECTS = "rejects.parquet"
CORRELATIONS = "correlations"  # column of the errors' correlations

# vectors and indexes
VECTORS = "vectors.parquet"
VECTORS_OF_SHARD = "vectors.safetensors"
FAISS = ".faiss"
IDS = ".ids"  # source_ids of a part of an index, int64 little-endian

# adapters, encoders, maps, reports
NETWORKS = "networks.safetensors"
ENCODER = "encoder.safetensors"
HEAD = "head.json"  # a head that predicts labels, its numbers beside it
HEAD_ARRAYS = "head.safetensors"
FEATURES = "features.safetensors"  # of a decoder that reads the views themselves
RUNS = "runs.parquet"
PREDICTIONS = "predictions.parquet"
SCORES = "scores.parquet"
REFERENCE = "reference.parquet"  # stars in a label plane that others are held against
PLACES = "places.parquet"
UMAP = "umap.json"
REPORT = "index.html"
BEST = "best.toml"  # settings that a search found best

# Unfinished work
LOCK = "lock"
DONE = "done.json"  # the artefact that the work became
LATEST = "latest.json"  # names the newest checkpoint
LEARNED = "learned.json"  # what a fetch was told by the service
RETRY = "retry.json"  # what a fetch asks for again

# Caches beside artefacts
MAPPED = ".mapped"
MAPPED_OBJECTS = "objects.arrow"
TEMPORARY = ".tmp-"
HELD = ".held"  # beside a locked file, where the file system has no locks
SCRATCH = ".scratch-"


def table(view: str) -> str:
    """The rows of a view (or of the objects) in one file."""
    return f"{view}{PARQUET}"


def statistics(view: str) -> str:
    """Centre and scale of the entries of a prepared view."""
    return f"{view}.statistics.json"


def correlations(view: str) -> str:
    """Correlations of the errors of a prepared view."""
    return f"{view}.{CORRELATIONS}{PARQUET}"


def index(view: str) -> str:
    """The FAISS index over the vectors of a view."""
    return f"index/{view}{FAISS}"


def index_notes(view: str) -> str:
    """What the index of a view is, and its measured recall."""
    return f"index/{view}.json"


def index_part(view: str, number: int | str) -> str:
    """One part of an index over many vectors artefacts (`*`: all); its ids lie beside it."""
    digits = number if isinstance(number, str) else f"{number:05d}"
    return f"{view}/part-{digits}{FAISS}"


def trained(view: str) -> str:
    """The empty trained index that every part of a view's index is a copy of."""
    return f"{view}/trained{FAISS}"


def block(view: str, number: int) -> str:
    """Stem of the files of one prepared block of a view."""
    return f"{view}-{number:05d}"


def array(stem: str, name: str) -> str:
    """One array of a prepared block, or one mapped column of a file."""
    return f"{stem}.{name}.npy"


def mapped(name: str) -> str:
    """An array that follows from an artefact, beside it."""
    return f"{name}.npy"


def signed(name: str) -> str:
    """The sum of a mapped file, signed by who wrote it."""
    return f"{name}.sum"


def scratch(name: str) -> str:
    """An array that is worked on and does not fit in memory; `*` for all of them."""
    return f"{SCRATCH}{name}.npy"


def state(step: int | str) -> str:
    """The tensors of a checkpoint; `*` for all of them."""
    number = step if isinstance(step, str) else f"{step:09d}"
    return f"state-{number}.safetensors"


def partial(mark: str) -> str:
    """A directory of unfinished work, named by what determines its result."""
    return f".partial-{mark}"


def shards(name: str) -> str:
    """The directory that holds the shards of an artefact until they are joined."""
    return f".parts-{name}"


def shard(number: int | str, count: int | str) -> str:
    """Shard 1..count of an artefact."""
    return f"{number}-of-{count}"
