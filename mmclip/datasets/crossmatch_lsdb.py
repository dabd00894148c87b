"""HATS catalogues that outgrow one machine, matched by lsdb on Dask.

`mmclip.datasets.crossmatch` holds both catalogues in memory; here each pixel is a task of its own,
with the margin of the right catalogue around it, so that no pair is lost at a border.
"""

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from mmclip.artifacts import unwritable
from mmclip.errors import IntegrityError, MissingExtra, MmclipError, NotFound, UsageError

DISTANCE = "_dist_arcsec"


@dataclass(frozen=True)
class Matched:
    """What was written.

    Attributes:
        rows: Pairs.
        left: Rows of the left catalogue.
        again: Pairs whose right row another pair has too; None if it has no `source_id`.
    """

    rows: int
    left: int
    again: int | None


def match(
    left: Path,
    right: Path,
    out: Path,
    radius_arcsec: float = 1.0,
    on: str | None = None,
    bare: bool = False,
    cluster: str | None = None,
    workers: int = 2,
) -> Matched:
    """Write the pairs of two HATS catalogues as a third.

    Each left row is given its nearest right row within the radius; unlike in
    `mmclip.datasets.crossmatch` two left rows may be given the same. A right column whose name the
    left has too is called `NAME_right`; the separation is in `_dist_arcsec`.

    Args:
        left, right: HATS catalogues or collections.
        out: Directory of the new catalogue, which must not be there yet.
        radius_arcsec: Largest separation; not above the margin of `right`.
        on: A column to join on instead, such as source_id; its rows must lie together on the sky.
        bare: Match although `right` has no margin; pairs across borders of its pixels are lost.
        cluster: Address of a Dask scheduler; None starts one on this machine.
        workers: Processes of that one.

    Raises:
        MissingExtra: If lsdb is not installed.
        NotFound: If a directory is no HATS catalogue.
        UsageError: If `right` has no margin, or one that is too small, or a column is not there.
        MmclipError: If `out` is there, or a task failed.
    """
    if out.exists():
        raise MmclipError(f"{out} exists already", "give a new directory with -o")
    if not 0 < radius_arcsec < 3600:
        raise UsageError(f"a radius of {radius_arcsec} arcsec is not meant", "0 to 3600 arcsec")
    lsdb = _lsdb()
    part = out.with_name(f".tmp-{out.name}")
    shutil.rmtree(part, ignore_errors=True)
    with _client(cluster, workers):
        one, other = _open(lsdb, left), _open(lsdb, right)
        if other.margin is None and not bare:
            raise UsageError(
                f"{right} has no margin: pairs across borders of its pixels would be lost",
                "give the collection that holds its margin, exchange both, or add --no-margin",
            )
        with warnings.catch_warnings():
            if bare:  # what lsdb warns of was asked for
                warnings.filterwarnings("ignore", "Right catalog", RuntimeWarning)
            pairs = _pairs(one, other, radius_arcsec, on)
        try:
            pairs.write_catalog(
                part, catalog_name=out.name, as_collection=False, progress_bar=False
            )
            os.replace(part, out)
        except OSError as error:
            raise unwritable(out, error) from error
        except (ValueError, KeyError, RuntimeError) as error:
            raise MmclipError(f"{left} and {right} were not matched: {error}") from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        own, theirs = list(one.columns), list(other.columns)
    given = "source_id_right" if "source_id" in own else "source_id"
    return _counted(out, len(one), given if on is None and "source_id" in theirs else None)


def _lsdb() -> Any:
    try:
        import lsdb
    except ImportError as error:
        raise MissingExtra(
            "matching HATS catalogues needs lsdb", "pip install 'mmclip[hats]'"
        ) from error
    return lsdb


@contextlib.contextmanager
def _client(cluster: str | None, workers: int) -> Iterator[None]:
    from dask import distributed

    connect: Any = distributed.Client  # without types of its own
    try:
        client: Any = (
            connect(cluster, timeout=20)
            if cluster
            else connect(n_workers=workers, threads_per_worker=1, dashboard_address=None)
        )
    except (OSError, ValueError) as error:
        raise NotFound(
            f"there is no Dask scheduler at {cluster}: {error}", "--dask tcp://HOST:8786"
        ) from error
    with client:
        yield


def _open(lsdb: Any, path: Path) -> Any:
    try:
        return lsdb.open_catalog(path)
    except FileNotFoundError as error:
        raise NotFound(
            f"{path} is no HATS catalogue", "mmclip fetch --hats and mmclip export write some"
        ) from error
    except (ValueError, OSError) as error:
        raise IntegrityError(f"{path} cannot be read as HATS: {error}") from error


def _pairs(one: Any, other: Any, radius_arcsec: float, on: str | None) -> Any:
    names = {"suffixes": ("", "_right"), "suffix_method": "overlapping_columns"}
    if on is None:
        held = other.margin  # one without stars is false
        margin = held.hc_structure.catalog_info.margin_threshold if held is not None else None
        if margin is not None and radius_arcsec > margin:
            raise UsageError(
                f"a radius of {radius_arcsec:g} arcsec is more than the margin, {margin:g} arcsec",
                f"--radius {margin:g}",
            )
        return one.crossmatch(
            other, radius_arcsec=radius_arcsec, n_neighbors=1, log_changes=False, **names
        )
    for catalogue in (one, other):
        if on not in catalogue.columns:
            held = ", ".join(catalogue.columns)
            raise UsageError(f"{catalogue.name} has no column '{on}' (it has: {held})", "--on NAME")
    return one.join(other, left_on=on, right_on=on, log_changes=False, **names)


def _counted(out: Path, left: int, given: str | None) -> Matched:
    """Pairs, and how many share what they were given, from the files written; only ids are held."""
    files = sorted((out / "dataset").rglob("*.parquet"))
    rows = sum(pq.read_metadata(f).num_rows for f in files)
    if given is None:
        return Matched(rows, left, None)
    held = np.concatenate([pq.ParquetFile(f).read([given])[given].to_numpy() for f in files])
    return Matched(rows, left, rows - len(np.unique(held)))
