"""Legacy Survey cutouts: images in g, r, z around the positions of objects, one request each.

For more than about 10,000 objects the survey asks that its bulk files be taken instead; those are
read by `mmclip import --as image`.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip import ids as identity
from mmclip.config import Json, Part, Positive, Size
from mmclip.errors import IntegrityError, UsageError
from mmclip.modalities.image import MODALITY
from mmclip.modalities.tables import raw_table
from mmclip.readers import tables, views
from mmclip.surveys import (
    Acknowledgement,
    Outline,
    Piece,
    Request,
    Selection,
    Step,
    Survey,
    catalogue,
    galaxies,
)
from mmclip.surveys.client import checks
from mmclip.surveys.client.answers import HTML, Absent
from mmclip.surveys.client.each import each
from mmclip.surveys.client.http import BadAnswer, Client
from mmclip.surveys.client.settings import Service
from mmclip.surveys.gaia import match, selection
from mmclip.surveys.gaia.dr3 import DR3
from mmclip.surveys.probe import Answer, Finding, find

SERVICE = Service("legacy", 0.5, absent=r"no ?overlap")
RELEASE = "dr9"
BLOCK = 200  # cutouts a step: 55 MB of 152 x 152 pixels
LARGEST = 1024  # pixels a side
MANY = 10_000  # objects from which the bulk files are the better way
INSIDE, OUTSIDE = (180.0, 10.0), (270.0, 0.0)  # deg; the other one lies in the plane of the Galaxy
NO_IMAGE = 3  # pages instead of an image after which there is none


@dataclass(frozen=True)
class Settings:
    """The table `[legacy]` of the settings file."""

    cutout: str = (
        "https://www.legacysurvey.org/viewer/fits-cutout"
        "?ra={ra}&dec={dec}&layer={layer}&pixscale={pixscale}&size={size}&bands={bands}"
    )
    catalogue: str = ""  # your own list of objects: source_id or TARGETID or name, ra, dec
    size: Size = 152  # pixels a side, as the data of AstroCLIP
    pixscale: Positive = 0.262  # arcsec a pixel
    bands: str = "grz"
    covered: Part = 0.5  # of each band's pixels that must not be zero (not confirmed)


def layer(request: Request) -> str:
    """`ls-dr9` of `dr9`, `ls-dr10-south` of `dr10-south`.

    Raises:
        UsageError: If it is no release.
    """
    wanted = request.release or RELEASE
    if wanted == "dr10-north" or not re.fullmatch(r"dr\d{1,2}(-north|-south)?", wanted, re.ASCII):
        raise UsageError(
            f"'{wanted}' is no release of the Legacy Survey", "--survey legacy:dr9 or legacy:dr10"
        )
    return f"ls-{wanted}"


def address(settings: Settings, layer: str, ra: float, dec: float) -> str:
    """Where one cutout is; positions to 0.4 mas."""
    return settings.cutout.format(
        ra=f"{ra:.7f}", dec=f"{dec:.7f}", layer=layer, pixscale=f"{settings.pixscale:g}",
        size=settings.size, bands=settings.bands,
    )  # fmt: skip


def listed(client: Client, place: str) -> dict[str, NDArray[Any]]:
    """Objects of the user's own list: ids by Gaia, by TARGETID or by name, and positions.

    Raises:
        UsageError: If it has no positions.
    """
    path = catalogue.local(client, SERVICE, place, catalogue.whole)
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
    found = selection.select(DR3, replace(request, products=("labels",)), client)
    ids = found.table["source_id"].to_numpy().astype(np.int64)
    parts = match.positions(client, ids)
    made = pa.concat_tables(parts).select(["source_id", "ra", "dec"]) if parts else found.table
    made = made.sort_by("source_id").append_column("chosen", pa.array([True] * made.num_rows))
    queries = (*found.queries, match.BY_ID)
    return Selection(made, queries, found.missing, found.absent, found.notes)


def select(request: Request, client: Client) -> Selection:
    """Objects with positions: of the survey that is followed, of the user's list, or of Gaia."""
    settings = client.of(Settings)
    name = layer(request)
    if not 0 < settings.size <= LARGEST:
        raise UsageError(f"[legacy] size = {settings.size}", f"1 to {LARGEST} pixels")
    if request.known or settings.catalogue:
        known = galaxies.followed(request)
        held = known if request.known else listed(client, settings.catalogue)
        held = {n: held[n] for n in ("source_id", "ra", "dec")}
        if request.known:  # they go by their positions, under the ids they came with
            request = replace(request, ids=tuple(k[0] for k in request.known), dr4_ids=())
        table = catalogue.table_of(held, {"ra": "deg", "dec": "deg"})
        found = catalogue.select(request, client, table, "first")
    else:
        found = placed(request, client)
    if found.table.num_rows > MANY:
        client.say(f"{found.table.num_rows} cutouts one by one: the bulk files are the better way")
    notes = found.notes | {
        "layer": name, "bands": settings.bands, "pixscale": settings.pixscale,
        "size": settings.size,
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
    if bands == 1 and pixels.shape == (size, size):  # one band comes as an image, not as a cube
        pixels = pixels[None]
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


def _block(request: Request, client: Client, rows: list[Json]) -> Callable[[], Piece]:
    settings, name = client.of(Settings), layer(request)
    count = len(settings.bands)

    def one(n: int) -> NDArray[np.float32]:
        url = address(settings, name, rows[n]["ra"], rows[n]["dec"])
        check = _checked(count, settings.size)
        path = client.download(SERVICE, url, check=check, html=True)
        return cutout(path, count, settings.size)

    def get() -> Piece:
        got = each(client, range(len(rows)), one)
        found = got.found
        why = {n: uncovered(p, settings.bands, settings.covered) for n, p in found.items()}
        outside = {n: f"outside the footprint: {w}" for n, w in got.absent.items()}
        gone = outside | {n: w for n, w in why.items() if w}
        missing = tuple((rows[n]["source_id"], "image", w) for n, w in got.missing.items())
        absent = tuple((rows[n]["source_id"], "image", w) for n, w in sorted(gone.items()))
        have = [(rows[n]["source_id"], found[n]) for n in sorted(found) if not why[n]]
        made = {"image": table(have, settings, name)} if have else {}
        return Piece(made, missing, absent, (f"{len(rows)} cutouts of {name}",))

    return get


def table(
    images: list[tuple[int, NDArray[np.float32]]], settings: Settings, layer: str
) -> pa.Table:
    """The view `image`: source_id, pixels band by band and row by row, and their shape."""
    about = {
        "unit": "nanomaggies", "bands": settings.bands, "layer": layer,
        "pixscale": f"{settings.pixscale:g} arcsec",
    }  # fmt: skip
    flat = np.concatenate([p.ravel() for _, p in images])
    lengths = np.cumsum([0, *(p.size for _, p in images)])
    pixels = pa.LargeListArray.from_arrays(pa.array(lengths), pa.array(flat))
    columns = {"image": pixels, "shape": [list(p.shape) for _, p in images]}
    return raw_table(MODALITY, [i for i, _ in images], columns, {"image": about})


def outline(request: Request, client: Client) -> Outline:
    """One request an object."""
    settings = client.of(Settings)
    rows = len(request.ids) or request.sample
    size = 4 * len(settings.bands) * settings.size**2 + 5760
    url = settings.cutout.format(
        ra="RA", dec="DEC", layer=layer(request), pixscale=settings.pixscale,
        size=settings.size, bands=settings.bands,
    )  # fmt: skip
    return Outline((f"GET {url}  for each object",), rows, None if rows is None else rows * size)


def probe(client: Client) -> list[Finding]:
    """One small cutout inside the footprint, and one outside."""
    settings = replace(client.of(Settings), size=16)

    def inside() -> Answer:
        url = address(settings, "ls-dr9", *INSIDE)
        path = client.download(SERVICE, url, html=True, fresh=True)
        shape = cutout(path, len(settings.bands), settings.size).shape
        return Answer(True, f"an image of {shape}")

    def outside() -> Answer:
        try:
            client.download(SERVICE, address(settings, "ls-dr9", *OUTSIDE), html=True, fresh=True)
        except Absent as absent:
            return Answer(True, absent.words)
        return Answer(False, "an image came")

    return [
        find("legacy", "a cutout is a cube of FITS", inside),
        find("legacy", "outside the footprint the service says so", outside),
    ]


SURVEY = Survey(
    name="legacy",
    title="DESI Legacy Imaging Surveys: cutouts in g, r, z",
    release=RELEASE,
    citations=("2019AJ....157..168D",),
    select=select,
    steps=steps,
    outline=outline,
    products={"image": ()},
    settings=Settings,
    probe=probe,
    references=Path(__file__).with_name("references.bib"),
    acknowledgements=(
        Acknowledgement(
            "This work uses images of the DESI Legacy Imaging Surveys (DECaLS, BASS and MzLS).",
            "https://www.legacysurvey.org/acknowledgment/",
        ),
    ),
)
