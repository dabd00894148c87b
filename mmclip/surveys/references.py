"""References and acknowledgements of what the surveys give; keys are ADS bibcodes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Reference:
    """One publication; what is unknown stays empty."""

    author: str
    title: str
    journal: str
    year: int
    volume: str = ""
    pages: str = ""
    doi: str = ""


AA, MN, AJ, RAA = "Astronomy and Astrophysics", "Monthly Notices of the Royal Astronomical "\
    "Society", "The Astronomical Journal", "Research in Astronomy and Astrophysics"  # fmt: skip
DR3 = "Gaia Data Release 3. "
REFERENCES = {
    "2016A&A...595A...1G": Reference(
        "{Gaia Collaboration} and Prusti, T. and others", "The Gaia mission", AA, 2016, "595",
        "A1", "10.1051/0004-6361/201629272"),
    "2023A&A...674A...1G": Reference(
        "{Gaia Collaboration} and Vallenari, A. and others",
        DR3 + "Summary of the content and survey properties", AA, 2023, "674", "A1",
        "10.1051/0004-6361/202243940"),
    "2021A&A...649A...2L": Reference(
        "Lindegren, L. and others", "Gaia Early Data Release 3. The astrometric solution", AA,
        2021, "649", "A2", "10.1051/0004-6361/202039709"),
    "2023A&A...674A..26C": Reference(
        "Creevey, O. L. and others", DR3 + "Astrophysical parameters inference system (Apsis). I. "
        "Methods and content overview", AA, 2023, "674", "A26", "10.1051/0004-6361/202243688"),
    "2023A&A...674A...2D": Reference(
        "De Angeli, F. and others",
        DR3 + "Processing and validation of BP/RP low-resolution spectral data", AA, 2023, "674",
        "A2", "10.1051/0004-6361/202243680"),
    "2021A&A...652A..86C": Reference(
        "Carrasco, J. M. and others", "Internal calibration of Gaia BP/RP low-resolution spectra",
        AA, 2021, "652", "A86", "10.1051/0004-6361/202141249"),
    "2023A&A...674A...3M": Reference(
        "Montegriffo, P. and others",
        DR3 + "External calibration of BP/RP low-resolution spectroscopic data", AA, 2023, "674",
        "A3", "10.1051/0004-6361/202243880"),
    "2023A&A...674A...5K": Reference(
        "Katz, D. and others", DR3 + "Properties and validation of the radial velocities", AA,
        2023, "674", "A5", "10.1051/0004-6361/202244220"),
    "2006AJ....131.1163S": Reference(
        "Skrutskie, M. F. and others", "The Two Micron All Sky Survey (2MASS)", AJ, 2006, "131",
        "1163", "10.1086/498708"),
    "2010AJ....140.1868W": Reference(
        "Wright, E. L. and others", "The Wide-field Infrared Survey Explorer (WISE): Mission "
        "Description and Initial On-orbit Performance", AJ, 2010, "140", "1868",
        "10.1088/0004-6256/140/6/1868"),
    "2013wise.rept....1C": Reference(
        "Cutri, R. M. and others",
        "Explanatory Supplement to the AllWISE Data Release Products", "", 2013),
    "2014ApJ...788...48S": Reference(
        "Shappee, B. J. and others", "The Man behind the Curtain: X-Rays Drive the UV through NIR "
        "Variability in the 2013 Active Galactic Nucleus Outburst in NGC 2617",
        "The Astrophysical Journal", 2014, "788", "48", "10.1088/0004-637X/788/1/48"),
    "2017PASP..129j4502K": Reference(
        "Kochanek, C. S. and others", "The All-Sky Automated Survey for Supernovae (ASAS-SN) Light "
        "Curve Servers v1.0", "Publications of the Astronomical Society of the Pacific", 2017,
        "129", "104502", "10.1088/1538-3873/aa80d9"),
    "2018MNRAS.477.3145J": Reference(
        "Jayasinghe, T. and others",
        "The ASAS-SN catalogue of variable stars I: The Serendipitous Survey", MN, 2018, "477",
        "3145", "10.1093/mnras/sty838"),
    "2023MNRAS.519.5271C": Reference(
        "Christy, C. T. and others", "The ASAS-SN catalogue of variable stars X: Discovery of "
        "116 000 new variable stars using g-band photometry", MN, 2023, "519", "5271",
        "10.1093/mnras/stac3801"),
    "2012RAA....12.1197C": Reference(
        "Cui, X.-Q. and others", "The Large Sky Area Multi-Object Fiber Spectroscopic Telescope "
        "(LAMOST)", RAA, 2012, "12", "1197", "10.1088/1674-4527/12/9/003"),
    "2012RAA....12..723Z": Reference(
        "Zhao, G. and others", "LAMOST spectral survey: An overview", RAA, 2012, "12", "723",
        "10.1088/1674-4527/12/7/002"),
    "2024AJ....168...58D": Reference(
        "{DESI Collaboration} and others",
        "The Early Data Release of the Dark Energy Spectroscopic Instrument", AJ, 2024, "168",
        "58", "10.3847/1538-3881/ad3217"),
    "2025arXiv250314745D": Reference(
        "{DESI Collaboration} and others",
        "Data Release 1 of the Dark Energy Spectroscopic Instrument", "arXiv e-prints", 2025, "",
        "arXiv:2503.14745"),
    "2023ApJ...947...37C": Reference(
        "Cooper, A. P. and others", "Overview of the DESI Milky Way Survey",
        "The Astrophysical Journal", 2023, "947", "37", "10.3847/1538-4357/acb3c0"),
    "2024MNRAS.533.1012K": Reference(
        "Koposov, S. E. and others",
        "DESI Early Data Release Milky Way Survey value-added catalogue", MN, 2024, "533", "1012",
        "10.1093/mnras/stae1842"),
    "2025arXiv250514787K": Reference(
        "Koposov, S. E. and others", "DESI Data Release 1: Stellar Catalogue", "arXiv e-prints",
        2025, "", "arXiv:2505.14787"),
    "2019AJ....157..168D": Reference(
        "Dey, A. and others", "Overview of the DESI Legacy Imaging Surveys", AJ, 2019, "157", "168",
        "10.3847/1538-3881/ab089d"),
    "2023ApJ...945...16H": Reference(
        "Hahn, C. and others",
        "The DESI PRObabilistic Value-added Bright Galaxy Survey (PROVABGS) Mock Challenge",
        "The Astrophysical Journal", 2023, "945", "16", "10.3847/1538-4357/ac8983"),
    "2017AJ....154...94M": Reference(
        "Majewski, S. R. and others",
        "The Apache Point Observatory Galactic Evolution Experiment (APOGEE)", AJ, 2017, "154",
        "94", "10.3847/1538-3881/aa784d"),
    "2022ApJS..259...35A": Reference(
        "{Abdurro'uf} and others", "The Seventeenth Data Release of the Sloan Digital Sky Surveys: "
        "Complete Release of MaNGA, MaStar, and APOGEE-2 Data",
        "The Astrophysical Journal Supplement Series", 2022, "259", "35",
        "10.3847/1538-4365/ac4414"),
}  # fmt: skip

# Our words; the full texts that the surveys ask for stand at the addresses.
THANKS = {
    "gaia-dr3": (
        "This work uses data of the European Space Agency mission Gaia, processed by the Gaia Data "
        "Processing and Analysis Consortium (DPAC).",
        "https://www.cosmos.esa.int/web/gaia-users/credits",
    ),
    "demo": (
        "This work uses data of the European Space Agency mission Gaia, of 2MASS, and of "
        "SDSS-IV/APOGEE.",
        "https://www.cosmos.esa.int/web/gaia-users/credits",
    ),
    "asassn": (
        "This work uses light curves of the All-Sky Automated Survey for Supernovae (ASAS-SN).",
        "https://asas-sn.osu.edu",
    ),
    "lamost": (
        "This work uses spectra of the Guoshoujing Telescope (LAMOST), operated by the National "
        "Astronomical Observatories, Chinese Academy of Sciences.",
        "https://www.lamost.org",
    ),
    "desi": (
        "This work uses public data of the Dark Energy Spectroscopic Instrument (DESI).",
        "https://data.desi.lbl.gov/doc/acknowledgments/",
    ),
    "desi-galaxies": (
        "This work uses public data of the Dark Energy Spectroscopic Instrument (DESI).",
        "https://data.desi.lbl.gov/doc/acknowledgments/",
    ),
    "provabgs": (
        "This work uses public data of the Dark Energy Spectroscopic Instrument (DESI).",
        "https://data.desi.lbl.gov/doc/acknowledgments/",
    ),
    "legacy": (
        "This work uses images of the DESI Legacy Imaging Surveys (DECaLS, BASS and MzLS).",
        "https://www.legacysurvey.org/acknowledgment/",
    ),
    "apogee": (
        "This work uses data of the Sloan Digital Sky Survey IV (APOGEE-2).",
        "https://www.sdss.org/collaboration/citing-sdss/",
    ),
}
PRODUCT_THANKS = {
    "2006AJ....131.1163S": (
        "It uses data products of the Two Micron All Sky Survey, a joint project of the University "
        "of Massachusetts and IPAC/Caltech, funded by NASA and the NSF.",
        "https://irsa.ipac.caltech.edu/data/2MASS/docs/releases/allsky/doc/sec1_7.html",
    ),
    "2010AJ....140.1868W": (
        "It uses data products of WISE and NEOWISE (UCLA, JPL/Caltech, University of Arizona), "
        "funded by NASA.",
        "https://irsa.ipac.caltech.edu/Missions/wise.html",
    ),
}


def key(bibcode: str) -> str:
    """A BibTeX key of a bibcode: letters and digits only."""
    return "".join(c for c in bibcode if c.isalnum())


def entry(bibcode: str) -> str:
    """A BibTeX entry; for a bibcode that is not known here one with its address alone."""
    url = f"https://ui.adsabs.harvard.edu/abs/{bibcode.replace('&', '%26')}"
    known = REFERENCES.get(bibcode)
    if known is None:
        return f"@misc{{{key(bibcode)},\n  note = {{{bibcode}}},\n  adsurl = {{{url}}}\n}}"
    fields = {
        "author": known.author, "title": f"{{{known.title}}}", "journal": known.journal,
        "year": str(known.year), "volume": known.volume, "pages": known.pages, "doi": known.doi,
        "adsurl": url,
    }  # fmt: skip
    lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value]
    kind = "article" if known.journal else "techreport"
    return f"@{kind}{{{key(bibcode)},\n" + ",\n".join(lines) + "\n}"


def thanks(surveys: list[str], bibcodes: list[str]) -> list[str]:
    """Acknowledgements of surveys and of the catalogues they brought along, each once."""
    texts = [THANKS[s] for s in surveys if s in THANKS]
    texts += [PRODUCT_THANKS[b] for b in bibcodes if b in PRODUCT_THANKS]
    return [f"{text} (full text: {address})" for text, address in dict.fromkeys(texts)]
