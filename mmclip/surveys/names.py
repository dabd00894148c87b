"""Names of stars and clusters to positions and Gaia ids, by Sesame and SIMBAD (astroquery).

astroquery is imported only here, when a name is asked for, and given time limits of its own.
"""

import re
from dataclasses import dataclass
from typing import Any

from mmclip.errors import MissingExtra, NotFound, RemoteError
from mmclip.surveys.client.http import Client

IDS = re.compile(r"Gaia\s+(DR[234])\s+(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Named:
    """What a name stands for: ICRS position in deg, and Gaia ids by release."""

    name: str
    ra: float
    dec: float
    ids: dict[str, int]


def position(name: str, client: Client) -> tuple[float, float]:
    """RA and Dec (deg, ICRS) of a name, as Sesame knows it.

    Raises:
        NotFound: If nobody knows the name.
        RemoteError: If Sesame does not answer, or with `--offline`.
    """
    if client.offline:
        raise RemoteError(f"--offline: '{name}' cannot be looked up", "give RA,DEC,RADIUS in deg")
    from astropy.coordinates import SkyCoord, name_resolve
    from astropy.utils import data

    try:
        with data.conf.set_temp("remote_timeout", client.settings.connect):
            found = SkyCoord.from_name(name)
    except name_resolve.NameResolveError as error:
        text = str(error)
        if "Unable to find" in text:
            raise NotFound(f"Sesame knows no '{name}'", "give RA,DEC,RADIUS in deg") from error
        raise RemoteError(f"Sesame did not answer: {text[:200]}", "give RA,DEC in deg") from error
    return float(found.ra.deg) % 360.0, float(found.dec.deg)


def identify(name: str, client: Client) -> Named:
    """The Gaia ids that SIMBAD has for a name, and its position.

    Raises:
        NotFound: If SIMBAD has no such object, or no Gaia id of it.
        RemoteError: If it does not answer, or with `--offline`.
        MissingExtra: If astroquery is not installed.
    """
    if client.offline:
        raise RemoteError(f"--offline: '{name}' cannot be looked up", "give its source_id")
    simbad = _simbad(client)
    try:
        table = simbad.query_objectids(name)
    except Exception as error:  # astroquery raises those of requests, pyvo and its own
        raise RemoteError(
            f"SIMBAD did not answer: {type(error).__name__}", "give its source_id"
        ) from error
    written = [] if table is None else [str(v) for v in table[table.colnames[0]]]
    ids = {m[1].upper(): int(m[2]) for text in written if (m := IDS.fullmatch(text.strip()))}
    if not ids:
        raise NotFound(f"SIMBAD has no Gaia id of '{name}'", "give its source_id")
    ra, dec = position(name, client)
    return Named(name, ra, dec, ids)


def _simbad(client: Client) -> Any:
    try:
        from astroquery.simbad import Simbad
    except ImportError as error:
        raise MissingExtra("names need astroquery", "pip install astroquery") from error
    simbad = Simbad()
    simbad.TIMEOUT = client.settings.stall
    return simbad
