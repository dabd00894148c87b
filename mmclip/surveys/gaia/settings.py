"""Addresses and habits of Gaia's archive that are not confirmed, or differ from day to day."""

import os
from dataclasses import dataclass, replace
from typing import Annotated

from mmclip.config import Count, Range
from mmclip.surveys.client.http import Client
from mmclip.surveys.client.settings import Service

TAP = "https://gea.esac.esa.int/tap-server/tap"
DATA = "https://gea.esac.esa.int/data-server"
DATALINK = Service("datalink", 0.2)
BULK = Service("bulk")


@dataclass(frozen=True)
class Settings:
    """The table `[gaia-dr3]` of the settings file; what worked is recorded in the manifest."""

    tap: str = ""  # empty: $MMCLIP_GAIA_TAP, or ESA's
    data: str = ""  # empty: $MMCLIP_GAIA_DATA, or ESA's
    bulk: str = "https://cdn.gea.esac.esa.int/Gaia/gdr3"
    data_structure: str = "RAW"  # its synonym DATAMODEL_GAIA is tried when refused
    format: str = "fits"  # of spectra: fits, votable, csv or ecsv
    chunk: Annotated[int, Range(1, 5000)] = 2000  # ids a spectra request, at most 5000
    chunk_smallest: Count = 100  # a failing chunk is halved down to this
    true: str = "t"  # how a true flag is written in ADQL: t or True
    provider: str = "esa"  # of XP spectra: esa (DataLink) or aip (TAP, $MMCLIP_AIP_TOKEN)
    aip: str = "https://gaia.aip.de/tap"
    zero_point: bool = False  # add parallax_zero_point and parallax_corrected (with astrometry)
    linking: str = ""  # LINKING_PARAMETER of DataLink; empty: not sent, ids are source_ids
    schema: str = ""


@dataclass(frozen=True)
class Dr4Settings(Settings):
    """The table `[gaia-dr4]`: what is not published yet, as it is announced."""

    bulk: str = ""  # empty: the layout of the bulk files is not public
    data_structure: str = "DATAMODEL_GAIA"  # its synonym RAW is tried when refused
    schema: str = "gaiadr4"  # of its tables; another that has the release's name is found


def of(client: Client, kind: type[Settings] = Settings) -> Settings:
    """The settings of a release with the addresses of the services filled in."""
    own = client.of(kind)
    tap = own.tap or os.environ.get("MMCLIP_GAIA_TAP", TAP)
    data = own.data or os.environ.get("MMCLIP_GAIA_DATA", DATA)
    return replace(own, tap=tap.rstrip("/"), data=data.rstrip("/"))
