"""What differs from day to day, or is not confirmed, about the services: one frozen dataclass."""

from dataclasses import dataclass

SPACING = {  # s between two requests of a service
    "lamost": 1.0, "asassn": 1.0, "sparcl": 0.5, "desi": 0.2, "datalink": 0.2, "legacy": 0.5,
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """The `[fetch]` table of `--config FILE`; what worked is recorded in the manifest.

    Source of the addresses and limits: the public documentation of each service; those that
    could not be confirmed there are empty or say so.
    """

    # Gaia
    gaia_tap: str = ""  # empty: $MMCLIP_GAIA_TAP, or ESA's
    gaia_data: str = ""  # empty: $MMCLIP_GAIA_DATA, or ESA's
    gaia_bulk: str = "https://cdn.gea.esac.esa.int/Gaia/gdr3"
    data_structure: str = "DATAMODEL_GAIA"  # its synonym RAW is tried when refused
    datalink_format: str = "fits"  # fits, votable, csv or ecsv
    chunk: int = 2000  # ids a spectra request, at most 5000
    chunk_smallest: int = 100  # a failing chunk is halved down to this
    tap_chunk: int = 20000  # ids a TAP query
    gaia_true: str = "t"  # how a true flag is written in ADQL: t or True
    tap_row_limit: int = 3_000_000  # this many rows exactly is an answer cut short
    tap_patience: float = 600.0  # s without an answer before a running job is left alone
    tap_job_limit: float = 7200.0  # s a job may take
    tap_poll: float = 2.0  # s between the first two polls; grows to 30 s
    # ASAS-SN: catalogues and archives are files or URLs; their addresses are not confirmed
    asassn_catalogue_v: str = ""
    asassn_catalogue_g: str = ""
    asassn_archive_v: str = ""
    asassn_archive_g: str = ""
    asassn_curve: str = "https://asas-sn.osu.edu/variables/{id}.csv"
    asassn_key: str = "id"  # catalogue column that fills {id}
    # ASAS-SN Sky Patrol v2 (asassn:skypatrol): from its public client, not confirmed
    skypatrol: str = "http://asassn-lb01.ifa.hawaii.edu:9006"
    skypatrol_block: str = "http://{server}:9006"  # without {server}: this one alone
    skypatrol_catalogue: str = "stellar_main"
    skypatrol_id: str = "gaia_id"  # its column of Gaia DR2 ids
    asassn_heliocentric: bool = False  # JD of Sky Patrol to HJD, for the Earth's centre
    # LAMOST
    lamost_catalogue: str = ""  # empty: the release's LRS_stellar catalogue
    lamost_url: str = "https://www.lamost.org"
    lamost_spectrum: str = "{base}/openapi/{dr}/{version}/lrs/spectrum/fits?obsid={obsid}"
    lamost_id_release: str = "auto"  # dr2, dr3, or auto: tested against Gaia
    # DESI
    desi_catalogue: str = ""  # empty: the release's MWS catalogue (13 GB for DR1)
    desi_url: str = "https://data.desi.lbl.gov/public"
    desi_via: str = "sparcl"  # sparcl: star by star; coadd: whole HEALPix files
    sparcl: str = "https://astrosparcl.datalab.noirlab.edu/sparc"
    sparcl_chunk: int = 100
    # Galaxies
    desi_redshifts: str = ""  # empty: the release's table of redshifts (some 20 GB)
    desi_spectype: str = "GALAXY"  # SPECTYPE that desi-galaxies keeps
    provabgs_catalogue: str = ""  # empty: the EDR file (HDF5); a file of its kind, or FITS
    provabgs_cut: bool = True  # stellar mass and magnitudes g, r, z above 0
    legacy_cutout: str = (
        "https://www.legacysurvey.org/viewer/fits-cutout"
        "?ra={ra}&dec={dec}&layer={layer}&pixscale={pixscale}&size={size}&bands={bands}"
    )
    legacy_catalogue: str = ""  # your own list of objects: source_id or TARGETID or name, ra, dec
    legacy_size: int = 152  # pixels a side, as the data of AstroCLIP
    legacy_pixscale: float = 0.262  # arcsec a pixel
    legacy_bands: str = "grz"
    legacy_covered: float = 0.5  # of each band's pixels that must not be zero (not confirmed)
    # APOGEE
    apogee_catalogue: str = (
        "https://data.sdss.org/sas/dr17/apogee/spectro/aspcap/dr17/synspec_rev1/"
        "allStar-dr17-synspec_rev1.fits"
    )
    # Patience
    connect: float = 10.0  # s
    stall: float = 120.0  # s without a byte
    floor: float = 200.0  # bytes/s over `floor_window`, below which a trickle is given up
    floor_window: float = 60.0  # s
    tries: int = 6
    backoff: float = 2.0  # s; doubles, with full jitter
    backoff_most: float = 120.0  # s
    pace: float = 1.0  # factor on the polite spacing of requests; 0 for a server of your own
    contact: str = ""  # an address for the User-Agent
    largest: int = 40_000_000_000  # bytes of one answer
