"""Invented tables with the names and columns of Gaia's, for a real TAP server.

Two of the stars have two 2MASS rows behind one cleaned source; DR2 numbers differ for some.
"""

import csv

from tests.loopback import stars

COUNT = 300
FLOATS = (
    "ra", "dec", "parallax", "parallax_error", "pmra", "pmdec", "ruwe", "ref_epoch",
    "teff_gspphot", "teff_gspphot_lower", "teff_gspphot_upper", "logg_gspphot",
    "logg_gspphot_lower", "logg_gspphot_upper", "mh_gspphot", "mh_gspphot_lower",
    "mh_gspphot_upper", "distance_gspphot", "azero_gspphot", "ag_gspphot", "ebpminrp_gspphot",
    "radial_velocity", "radial_velocity_error", "rv_template_teff", "grvs_mag", "vbroad",
    "rvs_spec_sig_to_noise", "ra_error", "dec_error", "pmra_error", "pmdec_error",
    "ra_dec_corr", "ra_parallax_corr", "ra_pmra_corr", "ra_pmdec_corr", "dec_parallax_corr",
    "dec_pmra_corr", "dec_pmdec_corr", "parallax_pmra_corr", "parallax_pmdec_corr",
    "pmra_pmdec_corr", "parallax_over_error", "pm", "nu_eff_used_in_astrometry", "pseudocolour",
    "ecl_lat", "ecl_lon", "l", "b", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag",
    "bp_rp", "phot_g_mean_flux", "phot_g_mean_flux_error", "phot_bp_mean_flux",
    "phot_bp_mean_flux_error", "phot_rp_mean_flux", "phot_rp_mean_flux_error",
    "phot_bp_rp_excess_factor",
)  # fmt: skip
WHOLE = (
    "source_id", "random_index", "rv_method_used", "non_single_star",
    "astrometric_params_solved",
)  # fmt: skip
FLAGS = (
    "has_xp_continuous", "has_xp_sampled", "has_rvs", "has_epoch_photometry",
    "duplicated_source", "phot_variable_flag",
)  # fmt: skip


def tables():
    """name -> (header, rows), the schema in the name."""
    rows, source = stars(COUNT), []
    for n, row in enumerate(rows):
        made = {c: row.get(c, 1.5 + n / 1000) for c in FLOATS}
        made |= {c: row.get(c, 1) for c in WHOLE} | {c: row.get(c, "f") for c in FLAGS}
        made["pseudocolour"] = "" if n % 2 else 1.5  # null for five-parameter solutions
        source.append([made[c] for c in (*WHOLE, *FLOATS, *FLAGS)])
    ids = [r["source_id"] for r in rows]
    some = ids[: COUNT // 2]
    parameters = (
        "libname_gspphot teff_gspspec logg_gspspec mh_gspspec alphafe_gspspec flags_gspspec"
    )
    parameters = ["source_id", *parameters.split(), "spectraltype_esphs", "classlabel_espels"]
    joined = [[1000 + n, f"D{n:05d}"] for n in range(len(some))]
    joined += [[1000, "D90000"], [1001, "D90001"]]
    valid = [
        [f"D{n:05d}", 10 + n / 100, 0.02, 9.5, 0.02, 9.4, 0.02, "AAA"] for n in range(len(some))
    ]
    valid += [["D90000", 15.0, 0.2, 15.0, 0.2, 15.0, 0.2, "UUU"]]
    valid += [["D90001", 15.0, 0.2, 15.0, 0.2, 15.0, 0.2, "BAA"]]
    wise = "designation w1mpro w1mpro_error w2mpro w2mpro_error w3mpro w3mpro_error w4mpro"
    wise = [*wise.split(), "w4mpro_error", "cc_flags", "ext_flag", "ph_qual"]
    return {
        "gaiadr3.gaia_source": ([*WHOLE, *FLOATS, *FLAGS], source),
        "gaiadr3.astrophysical_parameters": (
            parameters, [[i, "MARCS", 5000.0, 4.0, 0.1, 0.2, "0000", "G", "star"] for i in some]),
        "gaiadr3.tmass_psc_xsc_best_neighbour": (
            ["source_id", "clean_tmass_psc_xsc_oid", "angular_distance", "number_of_mates"],
            [[i, 1000 + n, 0.1, 0] for n, i in enumerate(some)]),
        "gaiadr3.tmass_psc_xsc_join": (
            ["clean_tmass_psc_xsc_oid", "original_psc_source_id"], joined),
        "gaiadr1.tmass_original_valid": (
            ["designation", "j_m", "j_msigcom", "h_m", "h_msigcom", "ks_m", "ks_msigcom",
             "ph_qual"], valid),
        "gaiadr3.allwise_best_neighbour": (
            ["source_id", "original_ext_source_id", "angular_distance", "number_of_mates"],
            [[i, f"W{n}", 0.2, 0] for n, i in enumerate(some)]),
        "gaiadr1.allwise_original_valid": (
            wise, [[f"W{n}", *range(9, 17), "0000", 0, "AABU"] for n in range(len(some))]),
        "gaiadr3.dr2_neighbourhood": (
            ["dr2_source_id", "dr3_source_id", "angular_distance", "magnitude_difference"],
            [[i + (7 if n % 50 == 0 else 0), i, 0.3, 0.01] for n, i in enumerate(ids)]),
    }  # fmt: skip


KEYS = {"gaiadr3.dr2_neighbourhood": "dr2_source_id", "gaiadr1.tmass_original_valid": "designation",
        "gaiadr1.allwise_original_valid": "designation"}  # fmt: skip


def write(folder):
    """CSV files and the configuration of the server; its path."""
    lines = []
    for full, (header, rows) in tables().items():
        schema, name = full.split(".")
        with (folder / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
        key = KEYS.get(full, "source_id" if "source_id" in header else "")
        lines += ["[[table]]", f'schema = "{schema}"', f'name = "{name}"', f'file = "{name}.csv"']
        lines += [f'description = "Invented rows with the columns of {full}"']
        lines += [f'key = "{key}"'] if key else []
        lines += ['ra = "ra"', 'dec = "dec"'] if "ra" in header else []
        lines.append("")
    config = folder / "tables.toml"
    config.write_text("\n".join(lines))
    return config
