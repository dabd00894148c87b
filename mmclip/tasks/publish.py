"""Answers as HATS catalogues keyed by source_id, that lsdb opens and joins with Gaia's."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa

from mmclip import artifacts
from mmclip.artifacts import Artifact, Manifest, paths
from mmclip.artifacts.workspace import Workspace
from mmclip.datasets import hats, tables
from mmclip.errors import MmclipError, NotFound, UsageError
from mmclip.tasks.predict import catalogue, run

KINDS = ("vectors", "head", "generated", "map")
PLAIN = {"vectors": paths.VECTORS, "map": paths.PLACES}  # kinds that are one table
POSITIONS = ["source_id", "ra", "dec"]


@dataclass(frozen=True)
class Published:
    """What was written: rows, pixels, and the bytes of the files."""

    rows: int
    pixels: int
    bytes: int


def publish(
    space: Workspace,
    source: Artifact | Path,
    folder: Path,
    label: str,
    data: Artifact | None = None,
) -> Published:
    """Write an answer as a HATS catalogue; only ids and positions are held at once.

    Args:
        space: Where the data set behind the answer lies, which has the positions.
        source: Vectors, a head, generated spectra, a map; or a Parquet file with `source_id`, such
            as the scores that `mmclip outliers -o` wrote.
        folder: Of the catalogue, which must not be there.
        label: Its name.
        data: Data set that has the positions; None: the one that the answer was made from.

    Raises:
        UsageError: If the answer has no `source_id`, or a row has no place on the sky.
        NotFound: If the data set behind it is gone.
        MmclipError: If the folder is not empty.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MmclipError(f"{folder} exists already", "give a new directory with --hats")
    behind = data or (source if isinstance(source, Path) else data_of(space, source))
    positions = None
    if isinstance(behind, Artifact):
        file = artifacts.checked(behind, paths.OBJECTS)
        if set(POSITIONS) <= set(tables.names(file)):
            positions = tables.read(file, POSITIONS)
    with _files(space, source) as files, artifacts.assembling(folder) as temporary:
        _check(files, positions)
        about = properties(source.manifest if isinstance(source, Artifact) else None, behind)
        rows = hats.write(files, temporary, label, positions, about=about)
        written = list((temporary / "dataset").rglob("Npix=*.parquet"))
        made = Published(rows, len(written), sum(f.stat().st_size for f in written))
    return made


def _check(files: list[Path], positions: pa.Table | None) -> None:
    names = tables.names(files[0])
    if "source_id" not in names:
        raise UsageError(
            f"{files[0]} has no column source_id (it has: {', '.join(names[:8])})",
            "publish a table of stars",
        )
    if positions is None and not {"ra", "dec"} <= set(names):
        raise UsageError(f"{files[0]} has no ra and dec", "--data DATA, which has the positions")


def data_of(space: Workspace, artifact: Artifact) -> Artifact:
    """The data set that an answer goes back to.

    Raises:
        NotFound: If it is gone.
    """
    kinds = [p["kind"] for p in artifact.manifest.parents]
    for kind in ("data", "vectors", "decoder"):
        if kind in kinds:
            parent = space.parent(artifact, kind)
            return parent if kind == "data" else data_of(space, parent)
    raise NotFound(f"{artifact.path} does not say which data set it is of", "--data DATA")


@contextmanager
def _files(space: Workspace, source: Artifact | Path) -> Iterator[list[Path]]:
    """The Parquet files of an answer; those of a head are predicted first."""
    if isinstance(source, Path):
        yield [source]
        return
    kind = source.manifest.kind
    if kind in PLAIN:
        yield [artifacts.checked(source, PLAIN[kind])]
    elif kind == "generated":
        names = [n for n in source.manifest.files if re.fullmatch(r"part-\d+\.parquet", n)]
        yield [artifacts.checked(source, n) for n in sorted(names)]
    elif kind == "head":
        with catalogue.scratch() as folder:
            asked = run.asked(space, source, None, [], None, Path(folder), None, None)
            file = Path(folder) / "labels.parquet"
            catalogue.write_parquet(catalogue.blocks(asked), file)
            yield [file]
    else:
        raise UsageError(
            f"{source.path} is a {kind} artefact, which is no table of stars",
            "publish vectors, a head, a map or generated spectra",
        )


def properties(manifest: Manifest | None, behind: Artifact | Path) -> dict[str, str]:
    """Citations and provenance as lines of `hats.properties`."""
    now = datetime.now(UTC)
    found = {"hats_creation_date": now.strftime("%Y-%m-%dT%H:%MUTC")}
    manifest = manifest or (behind.manifest if isinstance(behind, Artifact) else None)
    if manifest is None:
        return found
    bibcodes = dict.fromkeys(c for s in manifest.surveys for c in s.get("citations", ()))
    releases = [" ".join([s["name"], s.get("release", "")]).strip() for s in manifest.surveys]
    views = [f"{view} {how}" for view, how in sorted(manifest.provenance.items())]
    found |= {
        "bib_reference": " ".join(bibcodes),
        "prov_progenitor": "; ".join(releases),
        "mmclip_kind": manifest.kind,
        "mmclip_fingerprint": manifest.fingerprint,
        "mmclip_provenance": "; ".join(views),
        "mmclip_parents": "; ".join(f"{p['kind']} {p['fingerprint']}" for p in manifest.parents),
    }
    modelled = artifacts.modelled(manifest.provenance)
    if modelled:
        found["obs_description"] = f"MODELLED, not observed: {', '.join(modelled)}"
    return {key: " ".join(value.split()) for key, value in found.items() if value}
