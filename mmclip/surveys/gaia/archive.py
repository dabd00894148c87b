"""A release of Gaia as a survey: chunks of the catalogue, then chunks of each kind of spectrum."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mmclip.surveys import Acknowledgement, Piece, Request, Step, Survey
from mmclip.surveys.client import tap
from mmclip.surveys.client.each import blocks
from mmclip.surveys.client.http import Client
from mmclip.surveys.gaia import aip, bulk, datalink, discovery, objects, probe, query, selection
from mmclip.surveys.gaia import settings as _settings
from mmclip.surveys.gaia.release import Product, Release

THANKS = (
    Acknowledgement(
        "This work uses data of the European Space Agency mission Gaia, processed by the Gaia Data "
        "Processing and Analysis Consortium (DPAC).",
        "https://www.cosmos.esa.int/web/gaia-users/credits",
    ),
    Acknowledgement(
        "It uses data products of the Two Micron All Sky Survey, a joint project of the University "
        "of Massachusetts and IPAC/Caltech, funded by NASA and the NSF.",
        "https://irsa.ipac.caltech.edu/data/2MASS/docs/releases/allsky/doc/sec1_7.html",
        "2006AJ....131.1163S",
    ),
    Acknowledgement(
        "It uses data products of WISE and NEOWISE (UCLA, JPL/Caltech, University of Arizona), "
        "funded by NASA.",
        "https://irsa.ipac.caltech.edu/Missions/wise.html",
        "2010AJ....140.1868W",
    ),
)


def survey(release: Release) -> Survey:
    """The survey of a release."""
    return Survey(
        name=release.survey,
        title=release.about,
        release=release.title.split()[-1],
        citations=release.citations,
        select=partial(selection.select, release),
        steps=partial(steps, release),
        outline=partial(query.outline, release),
        products=release.cited,
        settings=release.settings,
        ids=release.ids,
        probe=partial(probe.probe, release),
        references=Path(__file__).with_name("references.bib"),
        acknowledgements=THANKS,
    )


def steps(release: Release, request: Request, client: Client, selected: pa.Table) -> list[Step]:
    """Catalogue chunks, then chunks of each kind of spectrum."""
    release = discovery.settle(client, release)
    settings = _settings.of(client, release.settings)
    ids = selected["source_id"].to_numpy()
    size = min(client.settings.tap_chunk, 5 * settings.chunk)
    work = [
        Step(f"objects-{n:05d}", _catalogue_step(release, request, client, selected, chunk))
        for n, chunk in enumerate(blocks(ids, size))
    ]
    for name in query.spectra(release, request):
        product = release.products[name]
        has = np.ones(len(ids), bool)
        if product.flag:
            has = selection.truth(selected[product.flag])
        if request.bulk and product.folder:
            work += bulk.steps(client, product, ids, has)
            continue
        chunk_size = min(settings.chunk, datalink.MOST)
        for n, chunk in enumerate(blocks(ids[has], chunk_size)):
            get = _spectra_step(release, client, product, chunk)
            work.append(Step(f"{product.view}-{n:05d}", get))
        work.append(Step(f"{product.view}-unpublished", _unpublished(product, ids[~has])))
    return work


def _unpublished(product: Product, ids: NDArray[np.int64]) -> Callable[[], Piece]:
    absent = tuple((i, product.view, "not_published") for i in ids.tolist())
    return lambda: Piece({}, absent=absent)


def _catalogue_step(
    release: Release,
    request: Request,
    client: Client,
    selected: pa.Table,
    ids: NDArray[np.int64],
) -> Callable[[], Piece]:
    settings = _settings.of(client, release.settings)
    listed = bool(query.named(request) or request.adql)
    where, top = ("", "") if listed else query.condition(release, request, settings)

    def ask(chunk: NDArray[np.int64]) -> tuple[pa.Table, str]:
        if listed or top:
            text = query.catalogue(release, request, None)
            return tap.run(client, settings.tap, text, ("source_id", chunk)), text
        span = f"g.source_id BETWEEN {chunk[0]} AND {chunk[-1]}"
        text = query.catalogue(release, request, f"({where}) AND {span}")
        return tap.run(client, settings.tap, text), text

    def patiently(chunk: NDArray[np.int64]) -> list[tuple[pa.Table, str]]:
        try:
            return [ask(chunk)]
        except tap.TooHard:
            if len(chunk) < 2:
                raise
        middle = len(chunk) // 2
        return patiently(chunk[:middle]) + patiently(chunk[middle:])

    def get() -> Piece:
        answers = patiently(ids)
        table = pa.concat_tables([t for t, _ in answers], promote_options="permissive")
        return objects.split(release, client, table, ids, answers[0][1], selected)

    return get


def _spectra_step(
    release: Release, client: Client, product: Product, ids: NDArray[np.int64]
) -> Callable[[], Piece]:
    settings = _settings.of(client, release.settings)

    def get() -> Piece:
        if settings.provider == "aip":
            return aip.spectra(client, settings.aip.rstrip("/"), product, ids)
        got = datalink.gather(client, product, ids.tolist(), release)
        table, lost = got.table, dict(got.missing)
        if table.num_rows:
            table, bad = datalink.finish(table, product, client.learned)
            lost |= bad
        missing = tuple((i, product.view, reason) for i, reason in sorted(lost.items()))
        absent = tuple((i, product.view, reason) for i, reason in sorted(got.absent.items()))
        asked = f"DataLink {product.kind}: {len(ids)} ids from {ids[0]} to {ids[-1]}"
        tables = {product.view: table} if table.num_rows else {}
        return Piece(tables, missing, absent, (asked,))

    return get
