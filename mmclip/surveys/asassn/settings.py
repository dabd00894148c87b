"""Where ASAS-SN's catalogues, archives and services are."""

from dataclasses import dataclass

from mmclip.surveys.client.settings import Service

SERVICE = Service("asassn", 1.0)
BLOCKS = Service("asassn", 1.0, smaller=r"servers? temporarily unavailable")


@dataclass(frozen=True)
class Settings:
    """The table `[asassn]` of the settings file.

    Catalogues and archives are files or URLs; their addresses are not confirmed.
    """

    catalogue_v: str = ""
    catalogue_g: str = ""
    archive_v: str = ""
    archive_g: str = ""
    curve: str = "https://asas-sn.osu.edu/variables/{id}.csv"
    key: str = "id"  # catalogue column that fills {id}
    # Sky Patrol v2 (asassn:skypatrol): from its public client, not confirmed
    skypatrol: str = "http://asassn-lb01.ifa.hawaii.edu:9006"
    skypatrol_block: str = "http://{server}:9006"  # without {server}: this one alone
    skypatrol_catalogue: str = "stellar_main"
    skypatrol_id: str = "gaia_id"  # its column of Gaia DR2 ids
    heliocentric: bool = False  # JD of Sky Patrol to HJD, for the Earth's centre

    def catalogue(self, band: str) -> str:
        """Of the band `v` or `g`; empty if there is none."""
        return {"v": self.catalogue_v, "g": self.catalogue_g}[band]

    def archive(self, band: str) -> str:
        """Of light curves of the band `v` or `g`; empty if there is none."""
        return {"v": self.archive_v, "g": self.archive_g}[band]
