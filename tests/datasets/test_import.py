"""`mmclip import`: the artefact it writes, what it counts, and what it says."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import artifacts
from mmclip import ids as identity
from mmclip.cli import run
from mmclip.datasets import import_files
from mmclip.errors import INTEGRITY, PARTIAL, USAGE
from tests import made_files
from tests.cli.test_cli import ask
from tests.conftest import fetch_made, made_stars
from tests.shared import shared


def bring(capsys, root, *arguments):
    """Exit code and standard error of one import."""
    code, _, err = ask(capsys, "import", *arguments, "-w", root)
    return code, err


def view(root, name, of="spectra"):
    """A table of a raw artefact."""
    return pq.read_table(root / "raw" / name / f"{of}.parquet")


def note(root, name):
    """The notes of a manifest."""
    return json.loads((root / "raw" / name / "manifest.json").read_text())["notes"]


@pytest.fixture
def files(tmp_path):
    """A directory with three spectra, one bad file and one damaged one."""
    folder = tmp_path / "spectra"
    (folder / "more").mkdir(parents=True)
    (folder / "a.fits.gz").write_bytes(made_files.lamost_old())
    (folder / "more" / "b.fits.gz").write_bytes(made_files.lamost_old(OBSID=101006, SNRG=3.0))
    (folder / "sky.fits.gz").write_bytes(made_files.lamost_old(OBSID=7, FIBERTYP="Sky"))
    (folder / "cut.fits.gz").write_bytes(made_files.lamost_old()[:900])
    (folder / ".hidden.fits").write_bytes(b"")
    (folder / "notes.md").write_text("not data")
    return folder


def test_bad_files_and_stars_are_counted_by_reason_and_skipped(files, tmp_path, capsys):
    code, err = bring(capsys, tmp_path, files, "--as", "spectra", "--name", "l")
    assert code == PARTIAL
    assert "fibre type Sky is no star: 1" in err
    assert "cut.fits.gz is not whole" in err
    table = view(tmp_path, "l")
    assert table.num_rows == 2
    ledger = view(tmp_path, "l", "ledger")
    assert sorted(ledger["status"].to_pylist()) == ["missing"] * 2 + ["received"] * 2
    assert set(ledger["file"].to_pylist()) == {
        "a.fits.gz", "more/b.fits.gz", "sky.fits.gz", "cut.fits.gz"
    }  # fmt: skip
    assert artifacts.faults(artifacts.read(tmp_path / "raw" / "l")) == []


def test_objects_hold_names_positions_and_labels(files, tmp_path, capsys):
    bring(capsys, tmp_path, files, "--as", "spectra", "--name", "l")
    rows = view(tmp_path, "l", "objects").to_pylist()
    assert sorted(r["object_name"] for r in rows) == ["101005", "101006"]
    assert {(r["ra"], r["dec"]) for r in rows} == {(10.5, -1.25)}
    assert {r["snrg"] for r in rows} == {55.5, 3.0}
    for row in rows:
        assert row["source_id"] == identity.local_id("lamost", row["object_name"])
    assert note(tmp_path, "l")["ids"] == {
        "gaia_dr3": 0, "local": 2, "rule": note(tmp_path, "l")["ids"]["rule"]
    }  # fmt: skip


def test_a_catalogue_of_ids_gives_gaia_ids(files, tmp_path, capsys):
    table = tmp_path / "ids.csv"
    table.write_text("obsid,gaia_source_id\n101005,4295806720\n999,34361129088\n")
    bring(capsys, tmp_path, files, "--as", "spectra", "--name", "l", "--ids", table)
    ids = dict(zip(*(view(tmp_path, "l", "objects")[c].to_pylist()
                     for c in ("object_name", "source_id")), strict=True))  # fmt: skip
    assert ids["101005"] == 4295806720
    assert identity.is_local(np.array([ids["101006"]])).all()
    assert note(tmp_path, "l")["ids"]["gaia_dr3"] == 1


def test_the_same_command_again_does_nothing(files, tmp_path, capsys):
    command = (capsys, tmp_path, files, "--as", "spectra", "--name", "l")
    bring(*command)
    place = tmp_path / "raw" / "l"
    before = (place / "manifest.json").stat().st_mtime_ns
    code, err = bring(*command)
    assert code == PARTIAL
    assert "imported before" in err
    assert (place / "manifest.json").stat().st_mtime_ns == before
    (files / "c.fits").write_bytes(made_files.lamost_new())
    code, err = bring(*command)
    assert code != 0
    assert "exists already" in err


def test_the_better_row_of_an_object_is_kept(tmp_path, capsys):
    for name, snr in (("x", 20.0), ("y", 70.0), ("z", 50.0)):
        (tmp_path / f"{name}.fits").write_bytes(made_files.lamost_old(compress=False, SNRG=snr))
    every = [tmp_path / f"{n}.fits" for n in "xyz"]
    assert bring(capsys, tmp_path, *every, "--as", "spectra", "--name", "best")[0] == 0
    ledger = view(tmp_path, "best", "ledger")
    assert view(tmp_path, "best").num_rows == 1
    assert ledger["status"].to_pylist().count("repeated") == 2
    code, err = bring(capsys, tmp_path, *every, "--as", "spectra", "--repeats", "refuse")
    assert code == USAGE
    assert "2 rows repeat an object" in err


def test_one_row_takes_the_highest_score_then_the_first():
    table = pa.table({"source_id": [5, 3, 5, 5], "v": [0, 1, 2, 3], "_score": [1.0, 0, 9, 9]})
    best, left = import_files.one_row(table, "best", "made")
    assert best.to_pydict() == {"source_id": [3, 5], "v": [1, 2]}
    assert left == [5, 5]
    assert import_files.one_row(table, "first", "made")[0]["v"].to_pylist() == [1, 0]


STARS = "name,ra,dec,teff,class\nRR Lyr,291.366,42.784,6125,RRAB\nV1,10,20,,RRC\n"
CURVES = "name,time,mag,mag_err\nRR Lyr,1,7.5,0.01\nRR Lyr,2,7.9,0.01\nV2,1,12,0.1\n"


def test_views_are_added_to_an_import(tmp_path, capsys):
    (tmp_path / "stars.csv").write_text(STARS)
    (tmp_path / "curves.csv").write_text(CURVES)
    assert (
        bring(capsys, tmp_path, tmp_path / "stars.csv", "--as", "metadata", "--name", "s")[0] == 0
    )
    first = artifacts.read(tmp_path / "raw" / "s").manifest
    code, _ = bring(capsys, tmp_path, tmp_path / "curves.csv", "--as", "lightcurve", "--into", "s")
    assert code == 0
    both = artifacts.read(tmp_path / "raw" / "s")
    assert both.manifest.provenance == {"metadata": "observed", "photometry": "observed"}
    assert both.manifest.fingerprint != first.fingerprint
    assert artifacts.faults(both) == []
    objects = view(tmp_path, "s", "objects")
    assert sorted(objects["object_name"].to_pylist()) == ["RR Lyr", "V1", "V2"]
    row = next(r for r in objects.to_pylist() if r["object_name"] == "RR Lyr")
    assert (row["teff"], row["class"], row["ra"]) == (6125, "RRAB", 291.366)
    curves = view(tmp_path, "s", "photometry")
    assert set(curves["source_id"].to_pylist()) < set(objects["source_id"].to_pylist())
    code, err = bring(
        capsys, tmp_path, tmp_path / "curves.csv", "--as", "photometry", "--into", "s"
    )
    assert code == 0
    assert "imported before" in err


def test_modelled_rows_are_called_so_and_never_mixed(tmp_path, capsys):
    (tmp_path / "curves.csv").write_text(CURVES)
    more = ("--as", "photometry", "--provenance")
    code, err = bring(capsys, tmp_path, tmp_path / "curves.csv", *more, "modelled", "--name", "m")
    assert code == 0
    assert "MODELLED" in err
    (tmp_path / "other.csv").write_text(CURVES.replace("V2", "V3"))
    code, err = bring(capsys, tmp_path, tmp_path / "other.csv", *more, "observed", "--into", "m")
    assert code == USAGE
    assert "is modelled" in err
    assert artifacts.read(tmp_path / "raw" / "m").manifest.provenance == {"photometry": "modelled"}


def test_several_views_of_one_file(tmp_path, capsys):
    path = shared("galaxies", "sdss_legacy_pairs", "sdss_legacy_pairs.parquet")
    code, _ = bring(capsys, tmp_path, path, "--as", "spectra", "--as", "image", "--name", "g")
    assert code == 0
    images, spectra = view(tmp_path, "g", "image"), view(tmp_path, "g")
    assert images["source_id"].equals(spectra["source_id"])
    assert pa.types.is_fixed_size_list(images.schema.field("image").type)
    raw = pq.read_table(path)
    by_name = dict(zip(raw["objid"].to_pylist(), raw["redshift"].to_pylist(), strict=True))
    for row in view(tmp_path, "g", "objects").to_pylist():
        assert row["redshift"] == by_name[row["object_name"]]


def test_two_libraries_join_on_the_name_of_the_star(tmp_path, capsys):
    for name in ("miles", "stelib"):
        path = shared("spectra", "stellar_libraries", f"{name}.parquet")
        code, _ = bring(
            capsys, tmp_path, path, "--as", "spectra", "--air", "--survey", "star",
            "--id-column", "star_key", "--name", name,
        )  # fmt: skip
        assert code == 0
    ids = [set(view(tmp_path, n, "objects")["source_id"].to_pylist()) for n in ("miles", "stelib")]
    pairs = shared("spectra", "stellar_libraries", "pairs_miles_stelib.parquet")
    assert len(ids[0] & ids[1]) == pq.read_metadata(pairs).num_rows == 91
    # H beta of MILES: in air 4861.3, in vacuum 1.36 Angstrom more
    wave = np.array(view(tmp_path, "miles")["wavelength"][0].as_py())
    in_air = 3540.5 + 0.9 * np.arange(4300)
    at = np.searchsorted(in_air, 4861.3)
    assert wave[at] - in_air[at] == pytest.approx(1.36, abs=0.01)


def test_an_imported_view_goes_through_preprocess(tmp_path, capsys):
    path = shared("spectra", "calspec_gaia_pairs", "pairs.parquet")
    assert bring(capsys, tmp_path, path, "--as", "xp", "--name", "cal")[0] == 0
    assert ask(capsys, "preprocess", "--raw", "cal", "-w", tmp_path)[0] == 0
    data = pq.read_table(tmp_path / "data" / "cal" / "objects.parquet")
    raw = pq.read_table(path)
    errors = raw["xp_flux_error"].to_pylist()
    assert sum(data["has_xp"].to_pylist()) == sum(e is not None for e in errors) == 34


@pytest.mark.parametrize(
    ("place", "view_name", "rows"),
    [
        (("spectra", "gaia_xp", "xp_bright_labelled.parquet"), "xp_coefficients", 30),
        (("spectra", "gaia_xp", "xp_symbiotic_pn.parquet"), "xp_coefficients", 456),
        (("spectra", "gaia_rvs", "rvs_examples.parquet"), "rvs", 6),
        (("spectra", "lamost_lrs", "lamost_dr8_lrs_repeats.parquet"), "spectra", 220),
        (("spectra", "stellar_libraries", "mastar_examples.parquet"), "spectra", 7),
        (("spectra", "templates", "kesseli2017_sdss_templates.parquet"), "spectra", 324),
        (("spectra", "templates", "spex_ultracool_standards.parquet"), "spectra", 30),
        (("variables", "linear_catalogue", "linear_catalogue.parquet"), "metadata", 6146),
        (("variables", "asassn_gaia", "gaia_dr3_variables_20k.parquet"), "metadata", 20000),
    ],
)  # fmt: skip
def test_real_tables_are_imported_whole(place, view_name, rows, tmp_path, capsys):
    path = shared(*place)
    kind = "xp" if view_name == "xp_coefficients" else view_name
    code, err = bring(capsys, tmp_path, path, "--as", kind, "--name", "t")
    assert code == 0, err
    table = view(tmp_path, "t", view_name)
    assert table.num_rows == rows
    source = pq.read_table(path)
    if "source_id" in source.column_names:
        assert set(table["source_id"].to_pylist()) == set(source["source_id"].to_pylist())
    if view_name == "xp_coefficients":
        assert table.schema.field("bp_coefficients").type.list_size == 55


def test_mixed_time_systems_are_noticed(tmp_path, capsys):
    path = shared("variables", "debosscher_hip_ogle", "debosscher.parquet")
    code, err = bring(capsys, tmp_path, path, "--as", "lightcurve", "--name", "d")
    assert code == 0
    assert "mix time systems" in err
    assert note(tmp_path, "d")["times"]["JD"] == 465  # as the README of the data states


def test_types_that_disagree_between_files_are_reconciled():
    parts = [
        pa.table({"source_id": [1], "z": pa.array([2], pa.int16()), "name": ["a"]}),
        pa.table({"source_id": [1], "z": pa.array([0.5]), "name": [7]}),
        pa.table({"source_id": [2], "z": pa.nulls(1), "other": [True]}),
    ]
    assert import_files.unite(parts).to_pydict() == {
        "source_id": [1, 2], "z": [2.0, None], "name": ["a", None], "other": [None, True]
    }  # fmt: skip


def test_large_integers_never_become_floats():
    parts = [pa.table({"source_id": [1], "n": [2**60 + 1]}),
             pa.table({"source_id": [2], "n": [0.5]})]  # fmt: skip
    assert import_files.unite(parts)["n"].to_pylist() == [str(2**60 + 1), "0.5"]


BAD = [
    (("nothing.fits", "--as", "spectra"), USAGE, "no file nothing.fits", "mmclip import"),
    (("STARS", "--as", "spectrra"), USAGE, "did you mean 'spectra'", "--as"),
    (("STARS", "--as", "spectra"), USAGE, "no flux column", "--columns"),
    (("STARS", "--as", "metadata", "--columns", "j_m"), USAGE, "not TARGET=NAME", "--columns"),
    (("STARS", "--as", "metadata", "--columns", "j_m=tef"), USAGE, "'teff'", "columns:"),
    (("STARS", "--as", "metadata", "--id-column", "nme"), USAGE, "'name'", ""),
    (("STARS", "--as", "metadata", "--provenance", "real"), USAGE, "'real'", "observed"),
    (("STARS", "--as", "metadata", "--repeats", "merge"), USAGE, "light curves", "photometry"),
    (("STARS", "--as", "metadata", "--into", "none"), USAGE, "no raw artefact 'none'", ""),
    (("STARS", "--as", "metadata", "--name", "../x"), USAGE, "cannot name", "letters"),
    (("BOMB", "--as", "spectra"), INTEGRITY, "unpacks from", ""),
    (("PICKLE", "--as", "spectra"), USAGE, "is a pickle", ".parquet"),
    (("FLOATS", "--as", "metadata"), USAGE, "read as floats", "int64"),
    (("EMPTY", "--as", "metadata"), USAGE, "holds no file", "known"),
]


@pytest.mark.parametrize(("arguments", "code", "says", "hint"), BAD, ids=lambda v: str(v)[:50])
def test_bad_input_gets_one_clear_sentence(arguments, code, says, hint, tmp_path, capsys):
    import gzip
    import pickle

    (tmp_path / "STARS").write_text(STARS)
    (tmp_path / "BOMB").write_bytes(gzip.compress(bytes(70 << 20), 9))
    (tmp_path / "PICKLE").write_bytes(pickle.dumps([1]))
    (tmp_path / "FLOATS").write_text("source_id,mag\n4.6e18,1\n")
    (tmp_path / "EMPTY").mkdir()
    first = tmp_path / arguments[0]
    given = [first if first.exists() else arguments[0], *arguments[1:]]
    got, err = bring(capsys, tmp_path / "w", *given)
    assert got == code, err
    assert says in err
    assert hint in err
    assert "Traceback" not in err
    assert not list((tmp_path / "w").rglob("*.parquet"))


def test_a_fetched_artefact_is_not_added_to(tmp_path, capsys):
    fetch_made(tmp_path, made_stars(20))
    (tmp_path / "stars.csv").write_text(STARS)
    code, err = bring(
        capsys, tmp_path, tmp_path / "stars.csv", "--as", "metadata", "--into", "made"
    )
    assert code == USAGE
    assert "was fetched" in err


def test_a_link_that_leads_out_of_a_directory_is_not_followed(tmp_path, capsys):
    (tmp_path / "secret.csv").write_text(STARS)
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "a.csv").write_text(STARS)
    (inside / "b.csv").symlink_to(tmp_path / "secret.csv")
    assert bring(capsys, tmp_path, inside, "--as", "metadata", "--name", "i")[0] == 0
    assert set(view(tmp_path, "i", "ledger")["file"].to_pylist()) == {"a.csv"}


def test_the_order_of_files_does_not_change_the_artefact(files, tmp_path, capsys):
    every = sorted(files.rglob("[ab]*.fits.gz"))
    for name, given in (("one", every), ("two", every[::-1])):
        assert run(["import", *map(str, given), "--as", "spectra", "--name", name,
                    "-w", str(tmp_path)]) == 0  # fmt: skip
    one, two = view(tmp_path, "one"), view(tmp_path, "two")
    assert str(one.to_pylist()) == str(two.to_pylist())  # as text: NaN differs from itself


def test_a_file_that_is_no_table_is_named(tmp_path, capsys):
    (tmp_path / "a.fits").write_text("hello\n")
    assert run(["import", str(tmp_path / "a.fits"), "--as", "spectra", "-w", str(tmp_path)]) == 5
    assert "a.fits: a text without a row of values" in capsys.readouterr().err
    assert not (tmp_path / "raw" / "a").exists()
