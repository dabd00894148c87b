"""Gaia DR4 (2 December 2026): what is announced of it; names are assumptions until it is out.

Everything here that the service's own `/tables` contradicts gives way to it (`discovery`), and each
assumption is a setting of the table `[gaia-dr4]`.

Source: ESA's announcements and draft data model of DR4: `gaia_source` is a subset of about 2
billion of 2.8 billion sources, whose flags lie in `all_source_flags`; kinds of DataLink from the
archive's public client; 250,022,127 mean RVS spectra, epoch RVS spectra of 961 samples of 0.025 nm.
"""

from mmclip.surveys.gaia.dr3 import ASTROMETRY, CORE, LABELS, PHOTOMETRY, TMASS, UNITS, WISE
from mmclip.surveys.gaia.release import Columns, Earlier, Product, Release
from mmclip.surveys.gaia.settings import Dr4Settings

PRODUCTS = {
    "xp": Product(
        kind="MEAN_SPECTRUM_XP", view="xp_coefficients", flag="has_mean_spectrum_xp",
        flags=("has_xp_continuous", "has_xp"), samples=0, bytes=13_000, share=500_000_000,
        folder="", word="XP",
    ),
    "rvs": Product(
        kind="MEAN_SPECTRUM_RVS", view="rvs", flag="has_mean_spectrum_rvs", flags=("has_rvs",),
        samples=0, bytes=19_000, share=250_022_127, folder="", word="RVS", shape="sampled",
        frame="rest frame, continuum-normalised, vacuum; grid as in the answer, else "
        "846-870 nm step 0.01 nm (assumed)",
    ),
    "photometry": Product(
        kind="EPOCH_PHOTOMETRY", view="photometry", flag="has_epoch_photometry", samples=0,
        bytes=8_000, share=2_000_000_000, folder="", word="PHOTOMETRY", shape="photometry",
    ),
    "epoch-xp": Product(
        kind="EPOCH_SPECTRUM_XP", view="xp_epochs", flag="has_epoch_spectrum_xp", samples=0,
        bytes=500_000, share=500_000_000, folder="", word="XP", shape="epochs",
    ),
    "epoch-rvs": Product(
        kind="EPOCH_SPECTRUM_RVS", view="rvs_epochs", flag="has_epoch_spectrum_rvs", samples=0,
        bytes=200_000, share=250_022_127, folder="", word="RVS", shape="epochs",
        frame="barycentric; 961 samples of 0.025 nm (assumed)",
    ),
}  # fmt: skip
JOINS = {
    "parameters": (),
    "2mass": (
        "LEFT OUTER JOIN {schema}.tmass_psc_xsc_best_neighbour AS tx ON tx.source_id = g.source_id",
        "LEFT OUTER JOIN {schema}.tmass_psc_xsc_join AS tj "
        "ON tj.clean_tmass_psc_xsc_oid = tx.clean_tmass_psc_xsc_oid",
        "LEFT OUTER JOIN gaiadr1.tmass_original_valid AS tm "
        "ON tm.designation = tj.original_psc_source_id",
    ),
    "wise": (
        "LEFT OUTER JOIN {schema}.allwise_best_neighbour AS wx ON wx.source_id = g.source_id",
        "LEFT OUTER JOIN gaiadr1.allwise_original_valid AS aw "
        "ON aw.designation = wx.original_ext_source_id",
    ),
}
DR4 = Release(
    survey="gaia-dr4",
    title="Gaia DR4",
    about="Gaia DR4: astrometry, labels, photometry, mean and epoch spectra, epoch photometry",
    source="gaiadr4.gaia_source",
    stars=2_000_000_000,
    products=PRODUCTS,
    columns=Columns(
        CORE, LABELS, (), ASTROMETRY, PHOTOMETRY, TMASS, WISE, JOINS,
        dict.fromkeys(("source_id", "random_index", *CORE, *LABELS, *ASTROMETRY, *PHOTOMETRY), "g"),
        UNITS,
    ),
    citations=("2016A&A...595A...1G",),
    cited={
        "astrometry": (), "labels": (), "2mass": ("2006AJ....131.1163S",),
        "wise": ("2010AJ....140.1868W", "2013wise.rept....1C"),
        **dict.fromkeys(PRODUCTS, ()),
    },
    epoch=2017.5,
    flags="all_source_flags",
    parameters=("ap_xp", "ap_rvs", "ap_class", "ap_chem"),
    neighbours="gaiadr4.dr3_neighbourhood",
    earlier=Earlier("DR3", "DR4"),
    settings=Dr4Settings,
    assumed=True,
)  # fmt: skip
