"""Gaia DR3: its columns by what they are for, the joins that bring them, and its spectra.

Source: the archive's own table metadata (TAP_SCHEMA of Gaia DR3); numbers of stars of the release's
documentation.
"""

from mmclip.surveys.gaia.release import Columns, Product, Release

CORE = ("ra", "dec", "parallax", "parallax_error", "pmra", "pmdec", "ruwe", "ref_epoch")
LABELS = (
    "teff_gspphot", "teff_gspphot_lower", "teff_gspphot_upper",
    "logg_gspphot", "logg_gspphot_lower", "logg_gspphot_upper",
    "mh_gspphot", "mh_gspphot_lower", "mh_gspphot_upper",
    "distance_gspphot", "azero_gspphot", "ag_gspphot", "ebpminrp_gspphot",
    "radial_velocity", "radial_velocity_error", "rv_template_teff", "rv_method_used", "grvs_mag",
    "vbroad", "rvs_spec_sig_to_noise", "non_single_star", "phot_variable_flag",
)  # fmt: skip
PARAMETERS = (
    "libname_gspphot", "teff_gspspec", "logg_gspspec", "mh_gspspec", "alphafe_gspspec",
    "flags_gspspec", "spectraltype_esphs", "classlabel_espels",
)  # fmt: skip
AXES = ("ra", "dec", "parallax", "pmra", "pmdec")
ASTROMETRY = (
    "ra_error", "dec_error", "pmra_error", "pmdec_error",
    *(f"{a}_{b}_corr" for i, a in enumerate(AXES) for b in AXES[i + 1 :]),
    "parallax_over_error", "pm", "astrometric_params_solved", "nu_eff_used_in_astrometry",
    "pseudocolour", "ecl_lat", "ecl_lon", "l", "b", "duplicated_source",
)  # fmt: skip
PHOTOMETRY = (
    "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "bp_rp",
    "phot_g_mean_flux", "phot_g_mean_flux_error", "phot_bp_mean_flux", "phot_bp_mean_flux_error",
    "phot_rp_mean_flux", "phot_rp_mean_flux_error", "phot_bp_rp_excess_factor",
)  # fmt: skip
TMASS = {
    "j_m": "tm.j_m", "j_msigcom": "tm.j_msigcom", "h_m": "tm.h_m", "h_msigcom": "tm.h_msigcom",
    "ks_m": "tm.ks_m", "ks_msigcom": "tm.ks_msigcom", "tmass_ph_qual": "tm.ph_qual",
    "tmass_designation": "tm.designation", "tmass_dist": "tx.angular_distance",
    "tmass_mates": "tx.number_of_mates",
}  # fmt: skip
WISE = {
    "w1mpro": "aw.w1mpro", "w1mpro_error": "aw.w1mpro_error", "w2mpro": "aw.w2mpro",
    "w2mpro_error": "aw.w2mpro_error", "w3mpro": "aw.w3mpro", "w3mpro_error": "aw.w3mpro_error",
    "w4mpro": "aw.w4mpro", "w4mpro_error": "aw.w4mpro_error", "wise_cc_flags": "aw.cc_flags",
    "wise_ext_flag": "aw.ext_flag", "wise_ph_qual": "aw.ph_qual",
    "wise_designation": "aw.designation", "wise_dist": "wx.angular_distance",
    "wise_mates": "wx.number_of_mates",
}  # fmt: skip
JOINS = {
    "parameters": (
        "LEFT OUTER JOIN gaiadr3.astrophysical_parameters AS ap ON ap.source_id = g.source_id",
    ),
    "2mass": (
        "LEFT OUTER JOIN gaiadr3.tmass_psc_xsc_best_neighbour AS tx ON tx.source_id = g.source_id",
        "LEFT OUTER JOIN gaiadr3.tmass_psc_xsc_join AS tj "
        "ON tj.clean_tmass_psc_xsc_oid = tx.clean_tmass_psc_xsc_oid",
        "LEFT OUTER JOIN gaiadr1.tmass_original_valid AS tm "
        "ON tm.designation = tj.original_psc_source_id",
    ),
    "wise": (
        "LEFT OUTER JOIN gaiadr3.allwise_best_neighbour AS wx ON wx.source_id = g.source_id",
        "LEFT OUTER JOIN gaiadr1.allwise_original_valid AS aw "
        "ON aw.designation = wx.original_ext_source_id",
    ),
}
FLAGS = ("has_xp_continuous", "has_xp_sampled", "has_rvs", "has_epoch_photometry")
CUTTABLE = {
    **dict.fromkeys(
        ("source_id", "random_index", *CORE, *LABELS, *ASTROMETRY, *PHOTOMETRY, *FLAGS,
         "bp_g", "g_rp", "logg_gspphot", "radial_velocity", "has_mcmc_gspphot"),
        "g",
    ),
}  # fmt: skip
UNITS = {
    "ra": "deg", "dec": "deg", "parallax": "mas", "parallax_error": "mas", "pmra": "mas yr-1",
    "pmdec": "mas yr-1", "ref_epoch": "yr", "ra_error": "mas", "dec_error": "mas",
    "pmra_error": "mas yr-1", "pmdec_error": "mas yr-1", "pm": "mas yr-1", "ecl_lat": "deg",
    "ecl_lon": "deg", "l": "deg", "b": "deg", "nu_eff_used_in_astrometry": "um-1",
    "pseudocolour": "um-1", "radial_velocity": "km s-1", "radial_velocity_error": "km s-1",
    "vbroad": "km s-1", "distance_gspphot": "pc", "tmass_dist": "arcsec", "wise_dist": "arcsec",
    "dr2_match_distance_mas": "mas", "dr2_match_dmag": "mag",
    **{n: "K" for n in LABELS + PARAMETERS if n.startswith(("teff", "rv_template_teff"))},
    **{n: "dex(cm s-2)" for n in LABELS + PARAMETERS if n.startswith("logg")},
    **{n: "dex" for n in LABELS + PARAMETERS if n.startswith(("mh_", "alphafe"))},
    **{n: "mag" for n in (*LABELS, *PHOTOMETRY) if n.endswith("_mag") or n.startswith("a")},
    **{n: "e- s-1" for n in PHOTOMETRY if "_flux" in n},
    **{n: "mag" for n in (*TMASS, *WISE) if n.endswith(("_m", "msigcom")) or "mpro" in n},
    "bp_rp": "mag", "ebpminrp_gspphot": "mag",
}  # fmt: skip
PRODUCTS = {
    "xp": Product(
        kind="XP_CONTINUOUS", view="xp_coefficients", flag="has_xp_continuous", samples=0,
        bytes=13_000, share=219_197_643, folder="Spectroscopy/xp_continuous_mean_spectrum",
        word="CONTINUOUS",
    ),
    "sampled": Product(
        kind="XP_SAMPLED", view="xp", flag="has_xp_sampled", samples=343, bytes=2_800,
        share=34_468_373, folder="Spectroscopy/xp_sampled_mean_spectrum", word="SAMPLED",
        shape="sampled",
        unit="W m-2 nm-1", frame="336-1020 nm step 2 nm, vacuum",
    ),
    "rvs": Product(
        kind="RVS", view="rvs", flag="has_rvs", samples=2401, bytes=19_000, share=999_645,
        folder="Spectroscopy/rvs_mean_spectrum", word="RVS", shape="sampled",
        frame="846-870 nm step 0.01 nm, rest frame, continuum-normalised; vacuum",
    ),
    "photometry": Product(
        kind="EPOCH_PHOTOMETRY", view="photometry", flag="has_epoch_photometry", samples=0,
        bytes=4_000, share=11_754_237, folder="Photometry/epoch_photometry", word="PHOTOMETRY",
        shape="photometry",
    ),
}  # fmt: skip
DR3 = Release(
    survey="gaia-dr3",
    title="Gaia DR3",
    about="Gaia DR3: astrometry, labels, G, 2MASS and AllWISE photometry, XP and RVS spectra",
    source="gaiadr3.gaia_source",
    stars=1_811_709_771,
    products=PRODUCTS,
    columns=Columns(
        CORE, LABELS, PARAMETERS, ASTROMETRY, PHOTOMETRY, TMASS, WISE, JOINS, CUTTABLE, UNITS
    ),
    citations=("2016A&A...595A...1G", "2023A&A...674A...1G"),
    cited={
        "astrometry": ("2021A&A...649A...2L",),
        "labels": ("2023A&A...674A..26C",),
        "2mass": ("2006AJ....131.1163S",),
        "wise": ("2010AJ....140.1868W", "2013wise.rept....1C"),
        "xp": ("2023A&A...674A...2D", "2021A&A...652A..86C"),
        "sampled": ("2023A&A...674A...3M",),
        "rvs": ("2023A&A...674A...5K",),
        "photometry": ("2023A&A...674A..13E",),
    },
)
