"""Catalogues of other surveys: read from a file or an address, cut, and joined to Gaia's ids.

Words of the join are those of STILTS: 1 is the list of wanted stars, 2 is the catalogue.
"""

import gzip
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mmclip import cuts
from mmclip.arrays import splitmix64
from mmclip.config import Json
from mmclip.errors import IntegrityError, NotFound, UsageError, nearest
from mmclip.ids import best_rows, is_local, spelled
from mmclip.readers import files
from mmclip.sky import cell, separation
from mmclip.surveys import Request, Selection
from mmclip.surveys.client import checks
from mmclip.surveys.client import tap as _tap
from mmclip.surveys.client.http import BadAnswer, Check, Client
from mmclip.surveys.client.settings import Service
from mmclip.surveys.gaia import neighbours
from mmclip.surveys.gaia import settings as _gaia
from mmclip.surveys.gaia.dr3 import DR3

RULES = ("snr", "first", "last", "random", "nearest")
SENTINEL = -9990.0  # catalogues write -9999 where nothing was measured (unverified)


def local(
    client: Client,
    service: Service,
    place: str,
    check: Check | None = None,
    secret: dict[str, str] | None = None,
) -> Path:
    """A catalogue on this machine: a path as it stands, an address through the cache.

    Raises:
        NotFound: If there is no such file.
    """
    if re.match(r"https?://", place):
        return client.download(service, place, check=check, secret=secret)
    path = Path(place).expanduser()
    if not path.is_file():
        raise NotFound(
            f"there is no catalogue {path}", f"set its path under [{service.name}] of --config"
        )
    try:
        whole(path)
    except BadAnswer as error:
        raise IntegrityError(f"{path} is damaged: {error}", "get it again") from error
    return path


def fits_has(path: Path, hdu: str) -> bool:
    """Whether a FITS file has an extension of that name."""
    from astropy.io import fits

    with fits.open(path, memmap=True) as units:
        return hdu in units


def fits_columns(path: Path, wanted: dict[str, str], hdu: str | int = 1) -> dict[str, NDArray[Any]]:
    """Some columns of a FITS table, read without the rest of it.

    Args:
        path: The file; may be gzipped.
        wanted: Our name -> the file's; a column that the file lacks is left out.
        hdu: Extension by name or number.

    Raises:
        IntegrityError: If it is not such a file.
    """
    from astropy.io import fits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with fits.open(path, memmap=True) as units:
                data = units[hdu].data
                held = {n.upper(): n for n in data.dtype.names}
                return {
                    ours: _native(data[held[theirs.upper()]])
                    for ours, theirs in wanted.items()
                    if theirs.upper() in held
                }
        except Exception as error:  # astropy and zlib raise many kinds on damaged files
            raise IntegrityError(
                f"{path} has no table {hdu} that can be read ({type(error).__name__})",
                "check which file it is",
            ) from error


def _native(values: Any) -> NDArray[Any]:
    array = np.array(values)
    if array.dtype.kind in "SU":
        return np.char.strip(array.astype(str))
    return array.astype(array.dtype.newbyteorder("="))


def text_columns(path: Path) -> dict[str, NDArray[Any]]:
    """Every column of a CSV as text (`,` or `|`, plain or gzipped); names in lower case.

    Raises:
        IntegrityError: If it is no text.
    """
    import csv

    with path.open("rb") as packed:
        opened = gzip.open if packed.read(2) == b"\x1f\x8b" else open
    with (
        files.reading(path.name, "CSV"),
        opened(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file,
    ):
        first = file.readline()
        delimiter = "|" if first.count("|") > first.count(",") else ","
        names = [n.strip().lower() for n in next(csv.reader([first], delimiter=delimiter))]
        if any("\ufffd" in n or not n.isprintable() for n in names):
            raise IntegrityError(f"{path.name} is no text: its first line names no columns")
        rows = [r for r in csv.reader(file, delimiter=delimiter) if len(r) == len(names)]
    columns = list(zip(*rows, strict=True)) if rows else [() for _ in names]
    return {n: np.array(c, dtype=object) for n, c in zip(names, columns, strict=True)}


def numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Text or numbers as float64; what is no number, and sentinels, become NaN."""
    if values.dtype.kind in "iuf":
        found = values.astype(np.float64)
    else:
        found = np.array([_number(v) for v in values], np.float64)
    found[found <= SENTINEL] = np.nan
    return found


def _number(text: Any) -> float:
    try:
        return float(text)
    except (TypeError, ValueError):
        return float("nan")


def gaia_ids(values: NDArray[Any]) -> NDArray[np.int64]:
    """Gaia ids of a column of integers or text (`EDR3 123`, `123`); 0 where there is none.

    Raises:
        IntegrityError: If the column holds floats, in which ids lose their last digits.
    """
    if values.dtype.kind in "iu":
        return np.where(values > 0, values, 0).astype(np.int64)
    if values.dtype.kind == "f":
        raise IntegrityError(
            "the catalogue holds Gaia ids as floats: their last digits are lost",
            "take the catalogue as its survey publishes it",
        )
    return np.array([_gaia_id(str(v)) for v in values], np.int64)


def _gaia_id(text: str) -> int:
    release, number = spelled(text) or ("", 0)
    return number if 0 < number < 2**63 and release in ("", "DR3", "EDR3") else 0


def inside(request: Request, table: pa.Table) -> NDArray[np.bool_]:
    """Rows of a catalogue (source_id, ra, dec, ...) within the cuts of a request."""
    kept = np.ones(table.num_rows, bool)
    if request.cone:
        ra, dec, radius = request.cone
        here = separation(ra, dec, table["ra"].to_numpy(), table["dec"].to_numpy())
        kept &= np.nan_to_num(here, nan=1e9) <= radius * 3600
    if request.healpix:
        order, pixels = request.healpix
        width = 2**35 * 4 ** (12 - order)
        ids = table["source_id"].to_numpy()
        # A Gaia id begins with its pixel; any other object's is that of its position.
        cells = cell(order, *(numbers(table[n].to_numpy()) for n in ("ra", "dec")))
        kept &= np.isin(np.where(is_local(ids), cells, ids // width), pixels)
    if request.where:
        kept &= cuts.where(table, request.where)
    return kept


def best(
    source_id: NDArray[np.int64],
    rule: str,
    seed: int,
    score: NDArray[Any] | None,
    key: NDArray[Any],
) -> NDArray[np.int64]:
    """For each source_id the row that a rule calls best, in order of source_id.

    Args:
        source_id: [rows].
        rule: `snr` (highest score), `nearest` (lowest score), `first`, `last`, or `random`: a
            choice that depends on seed, source_id and key alone, not on what else is fetched.
        seed: Of `random`.
        score: [rows], NaN where unknown; needed by `snr` and `nearest`.
        key: [rows] of integers that name the rows, for `random` and to break ties.

    Raises:
        UsageError: If the rule needs a score that the catalogue lacks.
    """
    place = np.arange(len(source_id))
    if rule in ("snr", "nearest"):
        if score is None:
            raise UsageError(f"--choose {rule}: this catalogue has no such column", "--choose last")
        values = np.where(np.isfinite(score), score, -np.inf if rule == "snr" else np.inf)
        rank = -values if rule == "snr" else values
    elif rule == "random":
        rank = _mixed(source_id, key, seed)
    else:
        rank = place if rule == "first" else -place
    return best_rows(source_id, rank, key)


def _mixed(source_id: NDArray[np.int64], key: NDArray[Any], seed: int) -> NDArray[np.uint64]:
    """A well-mixed number for each (source_id, key, seed)."""
    with np.errstate(over="ignore"):
        x = source_id.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x ^= key.astype(np.uint64) + np.uint64(seed % 2**63) * np.uint64(0xD1B54A32D192ED03)
    return splitmix64(x)


def select(
    request: Request, client: Client, table: pa.Table, rule: str, score: str = "", key: str = ""
) -> Selection:
    """Join a catalogue to the wanted stars.

    Args:
        request: Cuts or ids, `find`, `join`, `choose`, `seed`.
        client: For DR2 ids and `--adql`, which go through Gaia's TAP service.
        table: source_id int64 (0 where unknown), ra, dec, labels and keys.
        rule: The survey's own rule for several rows of a star.
        score: Column that the rules `snr` and `nearest` compare.
        key: Column that names a row.

    Returns:
        One row a star, rising by source_id; with `--find all` one row an epoch, `chosen` marking
        the best. Notes hold the rule and every count.

    Raises:
        UsageError: On an unknown rule.
    """
    rule = request.choose or rule
    if rule not in RULES:
        raise UsageError(f"--choose '{rule}': {nearest(rule, list(RULES))}", "")
    ids = table["source_id"].to_numpy()
    notes: Json = {
        "catalogue_rows": len(ids), "without_gaia_id": int((ids <= 0).sum()),
        "find": request.find, "join": request.join, "choose": rule,
    }  # fmt: skip
    table = table.filter(pa.array((ids > 0) & inside(request, table)))
    wanted, lost, queries, new = _wanted(request, client)
    if wanted is not None:
        table = table.filter(pc.is_in(table["source_id"], pa.array(wanted)))
    if new:  # the stars keep the ids of the survey that selected them
        table = _renamed(table, new)
        wanted = np.unique(np.array([new.get(i, i) for i in (*new,)], np.int64))
    ids = table["source_id"].to_numpy()
    names = table[key].to_numpy(zero_copy_only=False) if key else np.arange(len(ids))
    numbers_ = names if names.dtype.kind in "iu" else np.arange(len(ids))
    scores = numbers(table[score].to_numpy(zero_copy_only=False)) if score else None
    rows = best(ids, rule, request.seed, scores, numbers_)
    notes |= {"matched_rows": len(ids), "matched": len(rows), "ambiguous": _several(ids)}
    if request.sample is not None and request.sample < len(rows):
        rng = np.random.default_rng(request.seed)
        rows = np.sort(rng.choice(rows, request.sample, replace=False))
        rows = rows[np.argsort(ids[rows], kind="stable")]
    if request.find == "all":
        chosen = np.isin(np.arange(len(ids)), rows)
        rows = np.flatnonzero(np.isin(ids, ids[rows]))
        rows = rows[np.lexsort((numbers_[rows], ids[rows]))]
        made = table.take(pa.array(rows)).append_column("chosen", pa.array(chosen[rows]))
    else:
        made = table.take(pa.array(rows)).append_column(
            "chosen", pa.array(np.ones(len(rows), bool))
        )
    return _joined(request, made, wanted, lost, queries, notes)


def _several(ids: NDArray[np.int64]) -> int:
    _, counts = np.unique(ids, return_counts=True)
    return int((counts > 1).sum())


def _wanted(
    request: Request, client: Client
) -> tuple[NDArray[np.int64] | None, list[tuple[int, str]], list[str], dict[int, int]]:
    """Wanted stars, in the ids of DR3 that catalogues have; queries; and DR3 -> DR4 if followed."""
    lost: list[tuple[int, str]] = []
    if request.adql is not None:
        service = _gaia.of(client).tap
        answer = _tap.run(client, service, request.adql.strip().rstrip(";"))
        return np.unique(_tap.source_ids(answer)), lost, [request.adql], {}
    others = neighbours.others(DR3, request)
    if not (request.ids or others):
        return None, lost, [], {}
    ids = np.array(request.ids, np.int64)
    queries: list[str] = []
    new: dict[int, int] = {}
    for pair, given in others.items():
        mapped = neighbours.convert(client, DR3, pair, given)
        lost += mapped.lost
        queries.append(neighbours.text(*pair))
        ids = np.concatenate([ids, mapped.table["source_id"].to_numpy()])
        if pair[1] == "DR4" and request.follows:
            three, four = (mapped.table[n].to_pylist() for n in ("source_id", "dr4_source_id"))
            new = dict(zip(three, four, strict=True))
    return np.unique(ids), lost, queries, new


def _renamed(table: pa.Table, new: dict[int, int]) -> pa.Table:
    """The rows under their ids of DR4, with `dr3_source_id` beside."""
    old = table["source_id"]
    given = [new.get(i, i) for i in old.to_pylist()]
    at = table.column_names.index("source_id")
    made = table.set_column(at, "source_id", pa.array(given, pa.int64()))
    return made.append_column("dr3_source_id", old)


def _joined(
    request: Request,
    made: pa.Table,
    wanted: NDArray[np.int64] | None,
    lost: list[tuple[int, str]],
    queries: list[str],
    notes: Json,
) -> Selection:
    """Apply `--join`, and account for wanted stars that the catalogue does not have."""
    unmatched: list[int] = []
    if wanted is not None:
        here = set(made["source_id"].to_pylist())
        unmatched = [i for i in wanted.tolist() if i not in here]
        notes["unmatched"] = len(unmatched)
    if request.join != "1and2" and wanted is None:
        raise UsageError(f"--join {request.join} needs a list of wanted stars", "--ids FILE")
    if request.join in ("all1", "1not2"):
        base = made.slice(0, 0) if request.join == "1not2" else made
        blank = {f.name: pa.nulls(len(unmatched), f.type) for f in made.schema}
        blank["source_id"] = pa.array(unmatched, pa.int64())
        blank["chosen"] = pa.array(np.ones(len(unmatched), bool))
        extra = pa.table([blank[f.name] for f in made.schema], schema=made.schema)
        made = pa.concat_tables([base, extra]).sort_by("source_id")
        missing: list[tuple[int, str]] = lost
    else:
        missing = [*lost, *((i, "not in the catalogue") for i in unmatched)]
    if request.follows:
        return Selection(made, tuple(queries), (), tuple(missing), notes)
    return Selection(made, tuple(queries), tuple(missing), (), notes)


def table_of(columns: dict[str, NDArray[Any]], units: dict[str, str]) -> pa.Table:
    """Columns as Arrow, NaN as null, units in the field metadata."""
    fields, arrays = [], []
    for name, values in columns.items():
        if values.dtype.kind == "f":
            array = pa.array(values.astype(np.float64), mask=~np.isfinite(values))
        elif values.dtype.kind in "OU":
            array = pa.array([str(v) if str(v).strip() else None for v in values], pa.string())
        elif values.dtype.kind in "iu":
            array = pa.array(values.astype(np.int64))
        else:
            array = pa.array(values)
        unit = units.get(name)
        fields.append(pa.field(name, array.type, metadata={"unit": unit} if unit else None))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def objects(selected: pa.Table, private: tuple[str, ...] = ()) -> pa.Table:
    """The table `objects` of a catalogue survey: the chosen row of each star."""
    table = selected.filter(selected["chosen"])
    return table.drop_columns([n for n in (*private, "chosen") if n in table.column_names])


def whole(path: Path) -> None:
    """A catalogue that came over the network: FITS or text, packed or not."""
    with path.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            checks.gzipped(path)
