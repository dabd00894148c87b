"""Numbers that break things: every stage counts them by reason or says so in one sentence."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import readers
from mmclip.arrays import lists
from mmclip.cli import output, run
from mmclip.cuts import where
from mmclip.datasets.labels import read_labels
from mmclip.errors import FAILED, INTEGRITY, OK, PARTIAL, USAGE, MmclipError, UsageError
from mmclip.modalities import metadata_astrom3, photometry, rvs, xp, xp_coefficients
from mmclip.readers import tables
from mmclip.surveys import Fetched, id_list
from mmclip.surveys.demo import table
from tests.conftest import fetch_made, made_stars

LARGE = 5937083312263887616  # Gaia DR3: 19 digits; as a float 5937083312263888000
WAVE = np.arange(336.0, 1021.0, 2.0)


def planck(count=6):
    """Relative Planck spectra of 5,000 K."""
    flux = WAVE**-5 / np.expm1(14.388e6 / (WAVE * 5000))
    return np.tile(flux / np.median(flux), (count, 1))


def spoilt(change):
    """A spectrum after a change, among whole ones: (values, reason) of it, and of the whole."""
    flux = planck()
    error = 0.01 * flux
    change(flux[2], error[2])
    made = xp.MODALITY.prepare({"flux": flux, "flux_error": error})
    np.testing.assert_allclose(made.values[0], made.values[-1])  # the others are as before
    assert made.reasons[0] == made.reasons[-1] == ""
    assert not np.isinf(made.values[made.reasons == ""]).any()
    return made.values[2], made.reasons[2]


def at(where_, value, error=None):
    """Set some pixels of the flux, and perhaps of the error."""

    def change(flux, sigma):
        flux[where_] = value
        if error is not None:
            sigma[where_] = error

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (at(slice(None), np.nan), "half of the pixels"), (at(slice(None), np.inf), "half of the"),
        (at(slice(None), -1.0), "not positive"), (at(slice(None), 0.0), "not positive"),
        (at(slice(None), 1.0, 0.0), "half of the pixels"),
        (at(slice(None), 1.0, -1.0), "half of the pixels"),
        (at(slice(None), 1.0, np.inf), "half of the pixels"),
        (at(slice(200), np.nan), "half of the pixels"), (at(slice(5), np.inf), ""),
        (at(slice(None), 3.0, 0.1), ""), (at(50, 1e300), ""), (at(50, -1e300), ""),
    ],
)  # fmt: skip
def test_spectra_of_impossible_numbers_are_rejected_by_reason(change, reason):
    with np.errstate(over="ignore"):
        values, why = spoilt(change)
    assert reason in why
    assert (why == "") == (reason == "")
    if why == "":
        assert np.isfinite(values).sum() > 150


def test_a_constant_spectrum_is_one_everywhere():
    values, _ = spoilt(at(slice(None), 7.5, 0.1))
    np.testing.assert_allclose(values, 1.0)


@pytest.mark.parametrize("first", [0.0, -3.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("band", ["bp", "rp"])
def test_a_first_coefficient_that_is_no_flux_is_rejected(band, first):
    columns = {f"{b}_coefficients": lists(np.ones((3, 55)) * 5) for b in ("bp", "rp")}
    spoilt_rows = np.ones((3, 55)) * 5
    spoilt_rows[1, 0] = first
    columns[f"{band}_coefficients"] = lists(spoilt_rows)
    made = xp_coefficients.MODALITY.prepare(columns)
    assert [bool(r) for r in made.reasons] == [False, True, False]
    assert np.isfinite(made.values[[0, 2]]).all()


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        (lambda f: f * 0 + 1, True), (lambda f: f * np.nan, False), (lambda f: f * np.inf, False),
        (lambda f: np.where(np.arange(len(f)) == 7, np.inf, f), True),
    ],
)  # fmt: skip
def test_rvs_spectra_of_impossible_numbers(change, kept):
    flux = np.ones((3, 2401)) + 0.01 * np.sin(np.arange(2401) / 9)
    with np.errstate(invalid="ignore"):
        flux[1] = change(flux[1])
    made = rvs.MODALITY.prepare({"flux": flux, "flux_error": np.full_like(flux, 0.01)})
    assert made.reasons[0] == made.reasons[2] == ""
    assert (made.reasons[1] == "") is kept
    assert not np.isinf(made.values[made.reasons == ""]).any()


@pytest.mark.parametrize(
    ("time", "flux"),
    [
        ([], []), ([1.0], [2.0]), ([np.nan] * 30, np.arange(30.0)), (np.arange(30.0), [5.0] * 30),
        (np.arange(30.0), [np.nan] * 30), (np.arange(30.0), [np.inf] * 30),
        ([3.0] * 30, np.arange(30.0)),
    ],
)  # fmt: skip
def test_light_curves_of_impossible_numbers_are_rejected_by_reason(time, flux):
    good = np.sort(np.random.default_rng(0).uniform(0, 900, 60))
    times, fluxes = [good, np.asarray(time, float)], [1 + np.sin(good), np.asarray(flux, float)]
    errors = [np.full(len(t), 0.1) for t in times]
    made = photometry.MODALITY.prepare(
        {"time": lists(times), "flux": lists(fluxes), "error": lists(errors)}
    )
    assert made.reasons[0] == ""
    assert made.reasons[1] in (
        "fewer than 5 points", "flux does not vary (MAD = 0)", "all points at one time",
    )  # fmt: skip


def test_a_parallax_that_is_no_distance_is_no_absolute_magnitude():
    names = [c.name for c in metadata_astrom3.MODALITY.columns]
    columns = {n: np.full(5, 2.0) for n in names}
    columns["parallax"] = np.array([2.0, 0.0, -1.0, np.nan, np.inf])
    with np.errstate(all="ignore"):
        made = metadata_astrom3.MODALITY.prepare(columns)
    kept = made.values[made.reasons == ""]
    assert made.reasons[0] == ""
    assert not np.isinf(kept).any()


# Wavelengths and times in any order


def spectrum_table(order):
    wave = np.linspace(4000.0, 8000.0, 400)[order]
    return {"wavelength": [wave], "flux": [wave / 5000], "object_name": ["a"]}


@pytest.mark.parametrize("name", ["falling", "shuffled", "doubled"])
def test_an_unsorted_or_repeated_wavelength_is_sorted_or_refused(name, tmp_path):
    order = {
        "falling": np.arange(400)[::-1], "shuffled": np.random.default_rng(0).permutation(400),
        "doubled": np.sort(np.r_[np.arange(400), np.arange(100, 120)]),
    }[name]  # fmt: skip
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table(spectrum_table(order)), path)
    try:
        made = readers.read(path, "spectra")
    except MmclipError:
        return
    if made["reason"][0].as_py():
        return
    wave = np.asarray(made["wavelength"][0].as_py())
    flux = np.asarray(made["flux"][0].as_py())
    assert (np.diff(wave) >= 0).all()
    np.testing.assert_allclose(flux / wave, flux[0] / wave[0], rtol=1e-5)  # pairs stay together


# Ids of 19 digits


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits", ".vot", ".ecsv"])
def test_ids_of_19_digits_survive_every_writer_and_reader(tmp_path, suffix):
    ids = [LARGE, LARGE + 1, 4295806720, 2**63 - 1]
    path = tmp_path / f"x{suffix}"
    output.write([{"source_id": i, "teff": 5000.0 + n} for n, i in enumerate(ids)], path)
    assert tables.read(path)["source_id"].to_pylist() == ids
    assert read_labels(path)["source_id"].to_pylist() == ids
    assert list(id_list.read(path).dr3) == ids


def test_ids_of_19_digits_are_text_in_json(tmp_path, capsys):
    rows = [{"source_id": LARGE, "neighbour_id": LARGE + 1}]
    output.write(rows, tmp_path / "x.json")
    output.rows(rows, "", True, None)
    for text in ((tmp_path / "x.json").read_text(), capsys.readouterr().out):
        found = json.loads(text)
        assert found == {"source_id": str(LARGE), "neighbour_id": str(LARGE + 1)}


def test_conditions_on_ids_of_19_digits_are_exact():
    stars = pa.table({"source_id": [LARGE, LARGE + 1]})
    assert where(stars, f"source_id = {LARGE}").tolist() == [True, False]


@pytest.mark.parametrize(
    "written", ["5.93708E+18", "5937083312263887616.0", "5.937083312263888e18"]
)
def test_ids_that_went_through_a_spreadsheet_are_refused(tmp_path, written):
    path = tmp_path / "x.csv"
    path.write_text(f"source_id,teff,j_m\n{written},5000,9\n4295806720,5100,9\n")
    for reader in (read_labels, id_list.read, lambda p: readers.read(p, "metadata")):
        with pytest.raises(UsageError, match="float"):
            reader(path)


@pytest.mark.parametrize("suffix", [".parquet", ".fits", ".vot", ".ecsv"])
def test_a_column_of_ids_in_floats_is_refused(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    output.write([{"source_id": float(LARGE), "teff": 5000.0}], path)
    for reader in (read_labels, id_list.read):
        with pytest.raises(UsageError, match="float"):
            reader(path)


# The stages on sets of stars that are no sets


def constant(fetched):
    """All stars have the same spectrum and magnitudes."""
    for name in ("xp", "metadata"):
        held = fetched.tables[name]
        same = {"source_id": held["source_id"]}
        for column in held.column_names[1:]:
            same[column] = held[column].take(pa.array([0] * len(held)))
        fetched.tables[name] = pa.table(same, schema=held.schema)
    return fetched


def with_objects(fetched, **columns):
    """Other labels."""
    objects = fetched.tables["objects"]
    for name, values in columns.items():
        if name in objects.column_names:
            objects = objects.drop_columns([name])
        objects = objects.append_column(name, pa.array(values))
    fetched.tables["objects"] = objects
    return fetched


N = 120
POPULATIONS = {
    "ordinary": lambda: made_stars(N),
    "one star": lambda: made_stars(1),
    "four stars": lambda: made_stars(4),
    "one class": lambda: with_objects(made_stars(N), **{"class": ["ROT"] * N}),
    "no class": lambda: with_objects(made_stars(N), **{"class": pa.nulls(N, pa.string())}),
    "rare classes": lambda: with_objects(made_stars(N), **{"class": [f"C{i}" for i in range(N)]}),
    "empty names": lambda: with_objects(made_stars(N), **{"class": [""] * N}),
    "constant": lambda: constant(made_stars(N)),
    "labels unknown": lambda: with_objects(made_stars(N), teff=np.full(N, np.nan)),
    "labels infinite": lambda: with_objects(made_stars(N), teff=np.full(N, np.inf)),
    "labels constant": lambda: with_objects(made_stars(N), teff=np.full(N, 5000.0)),
}
STAGES = (
    ["embed"],
    ["knn", "--target", "teff", "-k", "100000", "--bootstrap", "5"],
    ["knn", "--target", "class", "-k", "3", "--bootstrap", "5"],
    ["outliers", "--top", "100000"],
    ["outliers", "--class", "ROT"],
    ["outliers", "--class", "no such class"],
    ["cluster", "-k", "100000"],
    ["cluster", "--method", "dbscan"],
    ["cluster", "--method", "hdbscan"],
    ["classify", "--seeds", "1", "--method", "zero-shot,head"],
    ["search", "--query-id", "1"],
    ["search", "--query-id", str(LARGE)],
    ["info"], ["verify"],
)  # fmt: skip
SMALL = ["--set", "width=16", "--set", "dimension=8", "--set", "generator_epochs=0",
         "--batch", "16", "--epochs", "1"]  # fmt: skip
DOCUMENTED = {OK, FAILED, USAGE, PARTIAL, INTEGRITY}


def said(capsys, arguments):
    """Exit code of a command; an exception that is no MmclipError fails the test here."""
    capsys.readouterr()
    code = run(arguments)
    shown = capsys.readouterr()
    assert code in DOCUMENTED, (arguments, code)
    if code:
        assert "mmclip: " in shown.err, arguments
    assert "Traceback" not in shown.err + shown.out
    return code


@pytest.mark.parametrize("population", POPULATIONS)
def test_every_stage_answers_or_says_why_not(population, tmp_path, capsys):
    fetch_made(tmp_path, POPULATIONS[population]())
    w = ["-w", str(tmp_path)]
    assert said(capsys, ["preprocess", *w]) == OK
    trained = said(capsys, ["train", *SMALL, *w])
    codes = {" ".join(stage): said(capsys, [*stage, *w]) for stage in STAGES}
    if trained == OK:
        assert codes["embed"] == OK
        answer = ["search", "--from", "xp", "--to", "metadata", "-k", "100000"]
        vectors = next((tmp_path / "vectors").glob("[!.]*"))
        some = str(pq.read_table(vectors / "vectors.parquet")["source_id"][0])
        assert said(capsys, [*answer, "--query-id", some, *w]) == OK
    assert codes["search --query-id 1"] == USAGE
    if population == "ordinary":
        assert trained == codes["knn --target teff -k 100000 --bootstrap 5"] == OK
        assert codes["outliers --class no such class"] == USAGE


def test_no_star_at_all_is_said_at_the_first_stage(tmp_path, capsys):
    empty = made_stars(3)
    none = Fetched({n: t.slice(0, 0) for n, t in empty.tables.items()}, empty.provenance)
    with pytest.raises(UsageError, match="no objects"):
        fetch_made(tmp_path, none)
    for stage in (["preprocess"], ["train"], *STAGES):
        if stage != ["info"]:
            assert said(capsys, [*stage, "-w", str(tmp_path)]) == USAGE


def test_stars_that_are_all_rejected_are_counted(tmp_path, capsys):
    fetched = made_stars(N)
    xp_ = fetched.tables["xp"]
    flux = np.full((N, 343), np.nan, "f4")
    flux[: N // 2] = -1.0
    fetched.tables["xp"] = table(
        {"source_id": xp_["source_id"].to_numpy(), "flux": flux, "flux_error": np.ones_like(flux)}
    )
    fetch_made(tmp_path, fetched)
    w = ["-w", str(tmp_path)]
    code = said(capsys, ["preprocess", *w])
    if code == OK:
        made = next((tmp_path / "data").glob("[!.]*"))
        counts = json.loads((made / "manifest.json").read_text())["rows"]
        assert counts["rejected xp: median flux is not positive"] == N // 2
        assert counts["rejected xp: fewer than half of the pixels are good"] == N // 2
    assert said(capsys, ["train", *SMALL, *w]) in (USAGE, FAILED)
