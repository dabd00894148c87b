"""Spectra that come one by one, as tables of the view `spectra`.

Wavelength in Angstrom in vacuum, observed frame; flux; sigma = 1 / sqrt(ivar), NaN where a pixel is
masked or has no inverse variance (its flux is NaN too). The files are read by `mmclip.readers`.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from mmclip.errors import IntegrityError
from mmclip.readers.spectra import Spectrum
from mmclip.surveys import Piece
from mmclip.surveys.client.each import Outcome
from mmclip.surveys.client.http import BadAnswer

Row = dict[str, Any]  # of the selection: source_id, chosen, the spectrum's key, and scalars
ALSO = ("redshift",)  # scalars that go beside a spectrum where there are any: for the rest frame


@contextlib.contextmanager
def asked_again() -> Iterator[None]:
    """A body that a reader finds damaged is one to ask for again.

    Raises:
        BadAnswer: In place of the reader's error.
    """
    try:
        yield
    except IntegrityError as error:
        raise BadAnswer(error.message) from error


def table(
    rows: list[tuple[int, Spectrum]], extra: dict[str, list[Any]], unit: str, frame: str
) -> pa.Table:
    """The view `spectra`: source_id, wavelength, flux, sigma as lists, and scalars beside."""
    rows_ = sorted(range(len(rows)), key=lambda i: rows[i][0])
    about = [
        ("wavelength", pa.list_(pa.float64()), {"unit": "Angstrom", "frame": frame}, 0),
        ("flux", pa.list_(pa.float32()), {"unit": unit}, 1),
        ("sigma", pa.list_(pa.float32()), {"unit": unit}, 2),
    ]
    fields = [pa.field("source_id", pa.int64())]
    arrays: list[pa.Array] = [pa.array([rows[i][0] for i in rows_], pa.int64())]
    for name, kind, metadata, place in about:
        fields.append(pa.field(name, kind, metadata=metadata))
        arrays.append(pa.array([rows[i][1][place] for i in rows_], kind))
    for name, values in extra.items():
        array = pa.array([values[i] for i in rows_])
        fields.append(pa.field(name, array.type))
        arrays.append(array)
    return pa.table(arrays, schema=pa.schema(fields))


def pieces(rows: list[Row], key: str, got: Outcome[int, Spectrum], unit: str, frame: str) -> Piece:
    """Spectra as views: `spectra` with the chosen of each star, `spectra_epochs` with all."""
    found = got.found
    have = [r for r in rows if r[key] in found]
    several = any(not r["chosen"] for r in rows)
    tables = {}
    for view, kept in (("spectra", [r for r in have if r["chosen"]]), ("spectra_epochs", have)):
        if kept and (view == "spectra" or several):
            listed = [(r["source_id"], found[r[key]]) for r in kept]
            known = [n for n in ALSO if any(r.get(n) is not None for r in kept)]
            extra = {name: [r.get(name) for r in kept] for name in (key, *known)}
            tables[view] = table(listed, extra, unit, frame)
    missing, absent = (
        tuple(
            (r["source_id"], "spectra" if r["chosen"] else "spectra_epochs", why[r[key]])
            for r in rows if r[key] in why
        )
        for why in (got.missing, got.absent)
    )  # fmt: skip
    asked = f"{len(rows)} spectra: {key} {', '.join(str(r[key]) for r in rows[:20])}"
    return Piece(tables, missing, absent, queries=(asked + ("" if len(rows) <= 20 else ", ..."),))
