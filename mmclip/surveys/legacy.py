"""Legacy Survey cutouts: images in g, r, z around the positions of objects, one request each.

For more than about 10,000 objects the survey asks that its bulk files be taken instead; those are
read by `mmclip import --as image`.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import ids as identity
from mmclip.errors import IntegrityError, UsageError
from mmclip.modalities.image import MODALITY
from mmclip.modalities.tables import raw_table
from mmclip.readers import tables, views
from mmclip.surveys import Outline, Piece, Request, Selection, Step, Survey, catalogue, galaxies
from mmclip.surveys.client import checks, tap
from mmclip.surveys.client.each import each
from mmclip.surveys.client.http import HTML, BadAnswer, Client
from mmclip.surveys.client.settings import Settings

RELEASE = "dr9"
BLOCK = 200  # cutouts a step: 55 MB of 152 x 152 pixels
LARGEST = 1024  # pixels a side
MANY = 10_000  # objects from which the bulk files are the better way
NO_IMAGE = 3  # pages instead of an image after which there is none


def layer(request: Request) -> str:
    """`ls-dr9` of `dr9`, `ls-dr10-south` of `dr10-south`.

    Raises:
        UsageError: If it is no release.
    """
    wanted = request.release or RELEASE
    if not re.fullmatch(r"dr\d{1,2}(-north|-south)?", wanted, re.ASCII):
        raise UsageError(
            f"'{wanted}' is no release of the Legacy Survey", "--survey legacy:dr9 or legacy:dr10"
        )
    return f"ls-{wanted}"


def address(settings: Settings, layer: str, ra: float, dec: float) -> str:
    """Where one cutout is; positions to 0.4 mas."""
    return settings.legacy_cutout.format(
        ra=f"{ra:.7f}", dec=f"{dec:.7f}", layer=layer, pixscale=f"{settings.legacy_pixscale:g}",
        size=settings.legacy_size, bands=settings.legacy_bands,
    )  # fmt: skip


def listed(client: Client, place: str) -> dict[str, NDArray]:
    """Objects of the user's own list: ids by Gaia, by TARGETID or by name, and positions.

    Raises:
        UsageError: If it has no positions.
    """
    path = catalogue.local(client, "legacy", place, catalogue.whole)
    table = tables.read(path)
    gaia, names, reasons = identity.identify(table, None, path.stem)
    own = identity.columns(table, None)[1]
    survey = "desi" if own and own.lower() == "targetid" else path.stem
    ids = np.array(
        [0 if why else one or identity.local_id(survey, name)
         for one, name, why in zip(gaia.to_pylist(), names.to_pylist(), reasons, strict=True)],
        np.int64,
    )  # fmt: skip
    ra, dec = (a.to_numpy(zero_copy_only=False) for a in views.position(table))
    if not np.isfinite(ra).any():
        raise UsageError(f"{path} has no positions", "columns ra and dec, in deg")
    return {"source_id": np.where(np.isfinite(ra), ids, 0), "ra": ra, "dec": dec}


def placed(request: Request, client: Client) -> Selection:
    """Stars that Gaia selects or knows, with Gaia's positions (epoch 2016.0)."""
    from mmclip.surveys import gaia_dr3

    found = gaia_dr3.select(replace(request, products=("labels",)), client)
    ids = found.table["source_id"].to_numpy()
    size = client.settings.tap_chunk
    parts = [
        tap.run(client, client.settings.gaia_tap, catalogue.BY_ID, ("source_id", ids[n : n + size]))
        for n in range(0, len(ids), size)
    ]
    made = pa.concat_tables(parts).select(["source_id", "ra", "dec"]) if parts else found.table
    made = made.sort_by("source_id").append_column("chosen", pa.array([True] * made.num_rows))
    queries = (*found.queries, catalogue.BY_ID)
    return Selection(made, queries, found.missing, found.absent, found.notes)


def select(request: Request, client: Client) -> Selection:
    """Objects with positions: of the survey that is followed, of the user's list, or of Gaia."""
    settings = client.settings
    name = layer(request)
    if not 0 < settings.legacy_size <= LARGEST:
        raise UsageError(f"legacy_size = {settings.legacy_size}", f"1 to {LARGEST} pixels")
    if request.known or settings.legacy_catalogue:
        known = galaxies.followed(request)
        held = known if request.known else listed(client, settings.legacy_catalogue)
        held = {n: held[n] for n in ("source_id", "ra", "dec")}
        table = catalogue.table_of(held, {"ra": "deg", "dec": "deg"})
        found = catalogue.select(request, client, table, "first")
    else:
        found = placed(request, client)
    if found.table.num_rows > MANY:
        client.say(f"{found.table.num_rows} cutouts one by one: the bulk files are the better way")
    notes = found.notes | {
        "layer": name, "bands": settings.legacy_bands, "pixscale": settings.legacy_pixscale,
        "size": settings.legacy_size,
    }  # fmt: skip
    return Selection(found.table, found.queries, found.missing, found.absent, notes)


def steps(request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """The positions, then the cutouts of each block of objects."""
    table = catalogue.objects(selected)
    work = [Step("objects", lambda: Piece({"objects": table}))]
    if request.products and "image" not in request.products:
        return work
    rows = [r for r in table.select(["source_id", "ra", "dec"]).to_pylist() if r["ra"] is not None]
    for n in range(0, len(rows), BLOCK):
        work.append(Step(f"image-{n // BLOCK:05d}", _block(request, client, rows[n : n + BLOCK])))
    return work


def cutout(path: Path, bands: int, size: int) -> NDArray[np.float32]:
    """The pixels of a cutout, [bands, size, size], nanomaggies.

    Raises:
        BadAnswer: If it is damaged.
        IntegrityError: If it is an image of another shape.
    """
    from astropy.io import fits

    checks.fits(path)
    with fits.open(path, memmap=False) as units:
        pixels = np.asarray(units[0].data, np.float32)
    if pixels.shape != (bands, size, size):
        raise IntegrityError(f"a cutout of {pixels.shape} instead of {(bands, size, size)}", "")
    return pixels


def uncovered(pixels: NDArray[np.float32], bands: str, least: float) -> str:
    """Why a cutout shows no sky of the survey, or "": outside the footprint pixels are zero."""
    seen = (np.isfinite(pixels) & (pixels != 0)).mean(axis=(1, 2))
    few = [b for b, share in zip(bands, seen, strict=True) if share < least]
    return f"outside the footprint in {','.join(few)}" if few else ""


def _checked(bands: int, size: int) -> Callable[[Path], None]:
    """A check that takes a page or nothing for the answer if it comes time after time."""
    pages: Counter[str] = Counter()

    def check(path: Path) -> None:
        with path.open("rb") as file:
            head = file.read(2000)
        if not head or HTML.match(head):
            pages["no image"] += 1
            if pages["no image"] >= NO_IMAGE:
                raise IntegrityError("a page instead of an image, time after time", "")
            raise BadAnswer("a page or nothing instead of an image")
        cutout(path, bands, size)

    return check


def _block(request: Request, client: Client, rows: list[dict[str, Any]]) -> Callable[[], Piece]:
    settings, name = client.settings, layer(request)
    count = len(settings.legacy_bands)

    def one(n: int) -> NDArray[np.float32]:
        url = address(settings, name, rows[n]["ra"], rows[n]["dec"])
        check = _checked(count, settings.legacy_size)
        path = client.download("legacy", url, check=check, html=True)
        return cutout(path, count, settings.legacy_size)

    def get() -> Piece:
        found, lost = each(client, range(len(rows)), one)
        why = {
            n: uncovered(p, settings.legacy_bands, settings.legacy_covered)
            for n, p in found.items()
        }
        missing = tuple((rows[n]["source_id"], "image", w) for n, w in lost.items())
        absent = tuple((rows[n]["source_id"], "image", w) for n, w in why.items() if w)
        have = [(rows[n]["source_id"], found[n]) for n in sorted(found) if not why[n]]
        made = {"image": table(have, settings, name)} if have else {}
        return Piece(made, missing, absent, (f"{len(rows)} cutouts of {name}",))

    return get


def table(images: list[tuple[int, NDArray]], settings: Settings, layer: str) -> pa.Table:
    """The view `image`: source_id, pixels band by band and row by row, and their shape."""
    about = {
        "unit": "nanomaggies", "bands": settings.legacy_bands, "layer": layer,
        "pixscale": f"{settings.legacy_pixscale:g} arcsec",
    }  # fmt: skip
    flat = np.concatenate([p.ravel() for _, p in images])
    lengths = np.cumsum([0, *(p.size for _, p in images)])
    pixels = pa.LargeListArray.from_arrays(pa.array(lengths), pa.array(flat))
    columns = {"image": pixels, "shape": [list(p.shape) for _, p in images]}
    return raw_table(MODALITY, [i for i, _ in images], columns, {"image": about})


def outline(request: Request, settings: Settings) -> Outline:
    """One request an object."""
    rows = len(request.ids) or request.sample
    size = 4 * len(settings.legacy_bands) * settings.legacy_size**2 + 5760
    url = settings.legacy_cutout.format(
        ra="RA", dec="DEC", layer=layer(request), pixscale=settings.legacy_pixscale,
        size=settings.legacy_size, bands=settings.legacy_bands,
    )  # fmt: skip
    return Outline((f"GET {url}  for each object",), rows, None if rows is None else rows * size)


SURVEY = Survey(
    name="legacy",
    title="DESI Legacy Imaging Surveys: cutouts in g, r, z",
    release=RELEASE,
    citations=("2019AJ....157..168D",),
    select=select,
    steps=steps,
    outline=outline,
    products={"image": ()},
)
