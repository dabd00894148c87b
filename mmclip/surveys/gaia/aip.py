"""Gaia@AIP as a second provider of DR3: XP spectra by TAP, where ESA's DataLink is down.

Source: the service's own pages: table `gaiadr3.xp_continuous_mean_spectrum`, 26 columns, arrays;
a token in the header `Authorization`. Its limits of rows and time are not confirmed.
"""

from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from mmclip.errors import UsageError
from mmclip.surveys import Piece
from mmclip.surveys.client import tap
from mmclip.surveys.client.http import Client, credential
from mmclip.surveys.gaia import datalink
from mmclip.surveys.gaia.release import Product

TABLES = {"XP_CONTINUOUS": "gaiadr3.xp_continuous_mean_spectrum"}


def enter(client: Client, service: str) -> None:
    """Send the token of `$MMCLIP_AIP_TOKEN` or the keyring with every request to the service."""
    if token := credential("aip"):
        client.tokens[urlsplit(service).netloc] = f"Token {token}"


def query(product: Product) -> str:
    """The query for the spectra of uploaded ids.

    Raises:
        UsageError: If the provider has no such product.
    """
    if product.kind not in TABLES:
        raise UsageError(
            f"Gaia@AIP gives no {product.kind}", 'provider = "esa" under [gaia-dr3] of --config'
        )
    return (
        "SELECT x.*\nFROM tap_upload.ids AS u\n"
        f"JOIN {TABLES[product.kind]} AS x ON x.source_id = u.source_id"
    )


def spectra(client: Client, service: str, product: Product, ids: NDArray[np.int64]) -> Piece:
    """Spectra of one chunk of ids; what does not come is missing."""
    enter(client, service)
    asked = query(product)
    answer = tap.run(client, service, asked, ("source_id", ids))
    table = datalink.one_each(client, [answer], ids.tolist())
    lost = dict.fromkeys(ids.tolist(), "not_returned")
    if table.num_rows:
        table, bad = datalink.finish(table, product, client.learned)
        here = set(table["source_id"].to_pylist())
        lost = {i: r for i, r in lost.items() if i not in here} | bad
    missing = tuple((i, product.view, reason) for i, reason in sorted(lost.items()))
    return Piece({product.view: table} if table.num_rows else {}, missing, queries=(asked,))
