"""Both releases of Gaia keep one contract, against a service that has what each is said to have."""

import io
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.table import Table

from mmclip import artifacts
from mmclip.cli import run
from mmclip.datasets import ingest, join
from mmclip.errors import UsageError
from mmclip.ids import spelled
from mmclip.surveys import Request, apogee, gaia_dr3, gaia_dr4, id_list
from mmclip.surveys.client.http import BadAnswer, Client
from mmclip.surveys.gaia import datalink, discovery, epochs, neighbours, zero_point
from mmclip.surveys.gaia.dr3 import DR3
from mmclip.surveys.gaia.dr4 import DR4
from tests.loopback import Server, Stars, stars, tables
from tests.services import quick

COUNT = 8
REAL = dict.fromkeys(("source_id", "random_index"), "bigint") | dict.fromkeys(
    ("ra", "dec", "parallax", "parallax_error", "pmra", "pmdec", "ruwe", "ref_epoch",
     "phot_g_mean_mag", "bp_rp"), "double",
)  # fmt: skip
TABLES = tables(
    gaiadr4_prod={
        "gaia_source": REAL,
        "all_source_flags": {"source_id": "bigint", "has_mean_spectrum_xp": "unsignedByte",
                             "has_mean_spectrum_rvs": "unsignedByte",
                             "has_epoch_photometry": "boolean"},
        "ap_xp": {"source_id": "bigint", "teff_xp": "double", "chisq": "double"},
        "ap_rvs": {"source_id": "bigint", "teff_rvs": "double"},
        "dr3_neighbourhood": {"dr3_source_id": "bigint", "dr4_source_id": "bigint"},
    },
    gaiadr3={"gaia_source": REAL},
)  # fmt: skip


def rows_of(release):
    made = []
    for i, r in enumerate(stars(COUNT)):
        graded = {"has_mean_spectrum_xp": 3, "has_mean_spectrum_rvs": 1 if i % 2 else 0}
        more = {"has_epoch_photometry": "t", "teff_xp": 5000.0 + i, "teff_rvs": 5100.0 + i}
        made.append(r | more | (graded if release == "dr4" else {}))
    return made


def coefficients(release, ids):
    """One row a star as each release gives it: 55 / 55, or 48 / 44 with covariances."""
    rng = np.random.default_rng(3)
    sizes = {"bp": 55, "rp": 55} if release == "dr3" else {"bp": 48, "rp": 44}
    columns = {"source_id": np.array(ids, np.int64)}
    for band, n in sizes.items():
        columns[f"{band}_coefficients"] = rng.normal(5, 1, (len(ids), n))
        errors = rng.uniform(0.1, 0.2, (len(ids), n))
        if release == "dr3":
            columns[f"{band}_coefficient_errors"] = errors.astype("f4")
            pairs = n * (n - 1) // 2
            columns[f"{band}_coefficient_correlations"] = np.zeros((len(ids), pairs), "f4")
        else:
            i, j = np.tril_indices(n)
            triangle = 0.5 ** np.abs(i - j) * errors[:, i] * errors[:, j]
            columns[f"{band}_coefficient_covariances"] = triangle
    return columns


def rvs(release, ids):
    size = 2401 if release == "dr3" else 1201
    flux = np.ones((len(ids), size), "f4")
    made = {"source_id": np.array(ids, np.int64), "flux": flux, "flux_error": 0.01 * flux}
    if release == "dr4":
        made["wavelength"] = np.tile(np.linspace(846, 870, size), (len(ids), 1))
    return made


def photometry(ids):
    time = np.tile(np.arange(5.0) + 1700, (len(ids), 1))
    made = {"source_id": np.array(ids, np.int64)}
    for band, name in (("g_transit", "g_transit_time"), ("bp", "bp_obs_time"),
                       ("rp", "rp_obs_time")):  # fmt: skip
        made[name] = time
        made[f"{band}_flux"] = np.full(time.shape, 1000.0)
        made[f"{band}_flux_error"] = np.full(time.shape, 10.0)
        made[f"{band}_mag"] = np.full(time.shape, 12.0)
    made["variability_flag_g_reject"] = np.tile([False, True, False, False, False], (len(ids), 1))
    return made


KINDS = {
    "XP_CONTINUOUS": coefficients, "MEAN_SPECTRUM_XP": coefficients, "RVS": rvs,
    "MEAN_SPECTRUM_RVS": rvs, "EPOCH_PHOTOMETRY": lambda release, ids: photometry(ids),
}  # fmt: skip


def service(release, seen):
    """A DataLink service that takes the words of its release alone."""
    word = "RAW" if release == "dr3" else "DATAMODEL_GAIA"

    def data(request, body):
        given = request.fields(body)[0]
        seen.append(given)
        if given["DATA_STRUCTURE"] != word:
            return 500, {}, f"Invalid Data Structure parameter: valid ones are: {word}".encode()
        kind = given["RETRIEVAL_TYPE"]
        ids = [int(i) for i in given["ID"].split(",")]
        table, out = Table(KINDS[kind](release, ids)), io.BytesIO()
        packed = io.BytesIO()
        table.write(out, format="fits")
        with zipfile.ZipFile(packed, "w") as file:
            file.writestr(f"{kind}_RAW.fits", out.getvalue())
        return packed.getvalue()

    return data


SURVEYS = {"dr3": gaia_dr3.SURVEY, "dr4": gaia_dr4.SURVEY}


def fetch(tmp_path, release, request, neighbours_=(), seen=None, **more):
    seen = [] if seen is None else seen
    routes = [("/data", service(release, seen)), ("/tap/tables", TABLES)]
    with Server(Stars(rows_of(release), neighbours_), routes) as server:
        given = {"gaia_tap": f"{server.url}/tap", "gaia_data": server.url} | more
        four = {k.replace("gaia_", "gaia4_"): v for k, v in given.items()}
        client = Client(**quick(tmp_path, **given, **four), cache=tmp_path / "cache")
        made = ingest.collect(SURVEYS[release], request, tmp_path / "raw" / release, False, client)
        return made, [b for _, _, b, _ in server.log]


PRODUCTS = ("xp", "rvs", "photometry", "labels")
IDS = tuple(r["source_id"] for r in stars(COUNT))


@pytest.fixture(scope="module", params=["dr3", "dr4"])
def made(request, tmp_path_factory):
    seen = []
    root = tmp_path_factory.mktemp(request.param)
    artifact, queries = fetch(root, request.param, Request(ids=IDS, products=PRODUCTS), seen=seen)
    return request.param, artifact, seen, queries


def test_every_star_and_view_comes_once(made):
    release, artifact, _, _ = made
    assert artifact.manifest.rows["missing"] == 0
    for view in ("objects", "metadata", "xp_coefficients", "photometry"):
        assert ingest.read_view(artifact, view)["source_id"].to_pylist() == list(IDS)
    has = IDS[1::2] if release == "dr4" else IDS[::2]
    assert ingest.read_view(artifact, "rvs")["source_id"].to_pylist() == list(has)
    assert artifact.manifest.provenance.keys() == {"metadata", "xp_coefficients", "rvs",
                                                   "photometry"}  # fmt: skip


def test_coefficients_are_as_many_as_the_release_has(made):
    release, artifact, _, _ = made
    xp = ingest.read_view(artifact, "xp_coefficients")
    for band, n in {"dr3": (("bp", 55), ("rp", 55)), "dr4": (("bp", 48), ("rp", 44))}[release]:
        sent = coefficients(release, IDS)
        got = {e: np.array(xp[f"{band}_coefficient{e}"].to_pylist())
               for e in ("s", "_errors", "_correlations")}  # fmt: skip
        np.testing.assert_array_equal(got["s"], sent[f"{band}_coefficients"])
        assert got["_correlations"].shape[1] == n * (n - 1) // 2
        if release == "dr4":
            # The covariances were made of correlations 1/2^|i - j|.
            i, j = np.tril_indices(n, -1)
            np.testing.assert_allclose(got["_correlations"][0], 0.5 ** np.abs(i - j), rtol=1e-5)
            first = sent[f"{band}_coefficient_covariances"][:, 0]
            np.testing.assert_allclose(got["_errors"][:, 0], np.sqrt(first), rtol=1e-6)
    learned = artifact.manifest.notes["service"]
    if release == "dr4":
        assert learned["xp_triangle"] == "covariances with their diagonal"
        assert learned["xp_coefficients"] == {"bp": 48, "rp": 44}


def test_a_spectrum_has_the_length_and_grid_of_its_release(made):
    release, artifact, _, _ = made
    table = ingest.read_view(artifact, "rvs")
    assert table.schema.field("flux").type.list_size == {"dr3": 2401, "dr4": 1201}[release]
    assert ("wavelength" in table.column_names) == (release == "dr4")


def test_epoch_photometry_is_a_light_curve_in_three_bands(made):
    _, artifact, _, _ = made
    row = ingest.read_view(artifact, "photometry").to_pylist()[0]
    assert sorted(row["band"]) == ["BP"] * 5 + ["G"] * 4 + ["RP"] * 5  # one in G was rejected
    # The archive counts days from 2010-01-01T00:00 (JD 2455197.5) in TCB.
    assert row["time"][0] == 2_455_197.5 + 1700
    assert row["time_system"] == "TCB"
    assert row["error"][0] == pytest.approx(2.5 / np.log(10) * 0.01, rel=1e-6)


def test_each_release_is_asked_in_its_own_words(made):
    release, artifact, seen, queries = made
    assert {g["RELEASE"] for g in seen} == {f"Gaia {release.upper()}"}
    kinds = {"dr3": {"XP_CONTINUOUS", "RVS"}, "dr4": {"MEAN_SPECTRUM_XP", "MEAN_SPECTRUM_RVS"}}
    assert {g["RETRIEVAL_TYPE"] for g in seen} == kinds[release] | {"EPOCH_PHOTOMETRY"}
    asked = b"\n".join(queries).decode("utf-8", "replace")
    assert ("gaiadr4_prod.gaia_source" in asked) == (release == "dr4")
    objects = ingest.read_view(artifact, "objects")
    if release == "dr4":
        assert objects["teff_xp"].to_pylist() == [5000.0 + i for i in range(COUNT)]
        assert artifact.manifest.surveys[0]["ids"] == "DR4"
        told = artifact.manifest.notes["service"]["gaia-dr4"]
        assert told["schema"] == "gaiadr4_prod"
        assert "radial_velocity" in told["lacking"]
        assert told["flags"]["rvs"] == "f.has_mean_spectrum_rvs"
    else:
        assert "ids" not in artifact.manifest.surveys[0]


def test_either_release_is_preprocessed_with_its_own_number_of_coefficients(made, capsys):
    release, artifact, _, _ = made
    root = artifact.path.parents[1]
    command = ["preprocess", "--raw", release, "--modalities", "xp_coefficients", "--name",
               f"of-{release}", "-w", str(root)]  # fmt: skip
    assert run(command) == 0, capsys.readouterr().err
    values = pq.read_table(root / "data" / f"of-{release}" / "xp_coefficients.parquet")
    assert values.schema.field("values").type.list_size == {"dr3": 110, "dr4": 48 + 44}[release]


def test_the_zero_point_of_a_parallax_is_subtracted(monkeypatch):
    table = pa.table(
        {"source_id": [1, 2], "parallax": [2.0, 3.0], "phot_g_mean_mag": [12.0, 5.0],
         "nu_eff_used_in_astrometry": [1.5, 1.5], "pseudocolour": [None, None],
         "ecl_lat": [10.0, 10.0], "astrometric_params_solved": [31, 31]}
    )  # fmt: skip
    table = table.set_column(4, "pseudocolour", pa.array([None, None], pa.float64()))
    monkeypatch.setattr(zero_point, "_package", lambda g, *more: -0.03 + 0 * g)
    made = zero_point.add(table)
    # Corrected = catalogue - zero point; outside 6 < G < 21 there is none.
    assert made["parallax_corrected"].to_pylist() == [2.03, None]
    assert zero_point.add(table.drop_columns(["ecl_lat"])).num_columns == 6


def test_a_release_that_is_not_out_is_told_in_one_sentence(tmp_path):
    with Server(Stars([]), [("/tap/tables", tables(gaiadr3={"gaia_source": REAL}))]) as server:
        client = Client(**quick(tmp_path, gaia4_tap=f"{server.url}/tap"), cache=tmp_path / "c")
        with pytest.raises(UsageError, match="the service has no Gaia DR4") as caught:
            gaia_dr4.SURVEY.select(Request(), client)
    assert "[gaia-dr4]" in caught.value.hint


def test_a_list_of_tables_with_entities_is_refused(tmp_path):
    body = b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><tableset>&a;</tableset>'
    with Server(Stars([]), [("/tap/tables", body)]) as server:
        client = Client(**quick(tmp_path, gaia4_tap=f"{server.url}/tap"), cache=tmp_path / "c")
        with pytest.raises(Exception, match="document type"):
            discovery.listed(client, DR4)


def test_flags_may_be_graded_or_true_and_lie_in_either_table(tmp_path):
    for kind, condition in (("unsignedByte", "f.has_rvs > 0"), ("boolean", "f.has_rvs = 't'")):
        held = {"gaia_source": REAL, "all_source_flags": {"source_id": "long", "has_rvs": kind}}
        with Server(Stars([]), [("/tap/tables", tables(gaiadr4=held))]) as server:
            client = Client(**quick(tmp_path, gaia4_tap=f"{server.url}/tap"), cache=tmp_path / kind)
            release = discovery.settle(client, DR4)
        text = discovery_query(release)
        assert condition in text
        assert "JOIN gaiadr4.all_source_flags AS f ON f.source_id = g.source_id" in text


def discovery_query(release):
    from mmclip.surveys.gaia import query, settings

    return query.selecting(release, Request(sample=5, products=("rvs",)), settings.Dr4Settings())


def test_the_second_provider_gives_the_same_coefficients_and_gets_its_token(tmp_path, monkeypatch):
    monkeypatch.setenv("MMCLIP_AIP_TOKEN", "s3cret")
    sent = coefficients("dr3", IDS)

    class Spectra(Stars):
        def answer(self, query, uploaded):
            assert "gaiadr3.xp_continuous_mean_spectrum" in query
            out = io.BytesIO()
            Table(sent)[[i in uploaded for i in IDS]].write(out, format="votable")
            return out.getvalue()

    with Server(Spectra([])) as aip, Server(Stars(rows_of("dr3"))) as esa:
        client = Client(
            **quick(tmp_path, gaia_tap=f"{esa.url}/tap", gaia_provider="aip",
                    gaia_aip=f"{aip.url}/tap"), cache=tmp_path / "c",
        )  # fmt: skip
        request = Request(ids=IDS, products=("xp",))
        made = ingest.collect(gaia_dr3.SURVEY, request, tmp_path / "raw" / "g", False, client)
        assert {h.get("Authorization") for *_, h in aip.log} == {"Token s3cret"}
        assert {h.get("Authorization") for *_, h in esa.log} == {None}
    xp = ingest.read_view(made, "xp_coefficients")
    got = np.array(xp["bp_coefficients"].to_pylist())
    np.testing.assert_array_equal(got, sent["bp_coefficients"])
    assert "s3cret" not in (made.path / "manifest.json").read_text()


def test_correlations_that_hold_their_diagonal_lose_it():
    lower = [1.0, 0.5, 1.0, 0.25, 0.4, 1.0]  # of 3 coefficients, row by row
    table = pa.table(
        {"source_id": [1], "bp_coefficients": [[1.0, 2.0, 3.0]], "rp_coefficients": [[1.0] * 3],
         "bp_coefficient_correlations": [lower]}
    )  # fmt: skip
    learned = {}
    made, _ = datalink.finish(table, DR4.products["xp"], learned)
    found = made["bp_coefficient_correlations"].to_pylist()[0]
    np.testing.assert_allclose(found, [0.5, 0.25, 0.4], rtol=1e-6)
    assert learned["xp_triangle"] == "correlations with their diagonal"


# -- ids across releases


def near(old, new, far, dmag):
    return {"dr3_source_id": old, "dr4_source_id": new, "angular_distance": far,
            "magnitude_difference": dmag}  # fmt: skip


NEAR = [
    near(1, 11, 0.2, 0.0), near(2, 12, 5.0, 1.5), near(2, 13, 60.0, 0.01), near(4, 16, 5.0, None),
    near(4, 17, 6.0, None), near(6, 11, 90.0, 3.0),
]  # fmt: skip


def test_ids_of_dr3_go_to_dr4_with_every_doubt_counted():
    found = neighbours.choose(np.array([1, 2, 4, 5, 6]), pa.Table.from_pylist(NEAR), "DR3", "DR4")
    assert found.table["source_id"].to_pylist() == [11, 13]
    assert found.table["dr3_n_candidates"].to_pylist() == [1, 2]
    assert found.counts == {
        "mapped": 2,
        "split": 1,
        "ambiguous": 1,
        "merged": 1,
        "without_neighbour": 1,
    }
    back = neighbours.choose(np.array([11, 13]), pa.Table.from_pylist(NEAR), "DR4", "DR3")
    assert back.table["source_id"].to_pylist() == [1, 2]
    assert back.table["dr4_source_id"].to_pylist() == [11, 13]


def test_every_spelling_of_a_release_parses():
    assert spelled("Gaia DR4 123") == ("DR4", 123)
    found = id_list.parse(["5", "Gaia DR3 7", "Gaia DR4 9", "DR2 3"])
    assert found.given(Request(), "DR3") == Request(ids=(5, 7), dr4_ids=(9,), dr2_ids=(3,))
    assert found.given(Request(), "DR4") == Request(ids=(5, 9), dr3_ids=(7,), dr2_ids=(3,))


def test_dr3_ids_are_mapped_when_dr4_is_asked(tmp_path):
    old = [near(100 + i, s, 1.0, 0.0) for i, s in enumerate(IDS[:3])]
    request = Request(dr3_ids=(100, 101, 102, 999), products=("labels",))
    made, _ = fetch(tmp_path, "dr4", request, old)
    objects = ingest.read_view(made, "objects")
    assert objects["source_id"].to_pylist() == list(IDS[:3])
    assert objects["dr3_source_id"].to_pylist() == [100, 101, 102]
    assert made.manifest.notes["dr3_mapped"] == 3
    ledger = pq.read_table(made.path / "ledger.parquet").to_pylist()
    assert [r["source_id"] for r in ledger if r["status"] == "missing"] == [999]


def test_a_catalogue_of_dr3_follows_stars_of_dr4_under_their_ids(tmp_path):
    from tests.surveys.test_catalogues import BIG, apogee_file

    apogee_file(tmp_path / "allStar.fits")
    rows = [near(BIG, 500, 1.0, 0.0), near(BIG + 1, 600, 1.0, 0.0)]
    with Server(Stars([], rows)) as server:
        client = Client(
            **quick(tmp_path, gaia_tap=f"{server.url}/tap",
                    apogee_catalogue=str(tmp_path / "allStar.fits")), cache=tmp_path / "c",
        )  # fmt: skip
        request = Request(dr4_ids=(500, 600, 700), follows="gaia-dr4")
        made = ingest.collect(apogee.SURVEY, request, tmp_path / "raw" / "apogee", False, client)
    objects = ingest.read_view(made, "objects")
    assert objects["source_id"].to_pylist() == [500, 600]
    assert objects["dr3_source_id"].to_pylist() == [BIG, BIG + 1]
    assert made.manifest.surveys[0]["ids"] == "DR4"


def test_raw_data_of_two_releases_do_not_join(tmp_path):
    one, _ = fetch(tmp_path, "dr3", Request(ids=IDS, products=("labels",)))
    two, _ = fetch(tmp_path, "dr4", Request(ids=IDS, products=("labels",)))
    with pytest.raises(UsageError, match="different releases of Gaia"):
        join.objects([one, two])
    assert artifacts.faults(two) == []


# -- the other layouts


def test_epoch_photometry_with_a_row_a_point_is_the_same_light_curve():
    table = pa.table(
        {"source_id": [5] * 4, "band": ["G", "RP", "BP", "G"], "time": [3.0, 1.0, 2.0, 4.0],
         "mag": [12.0, 11.5, 12.5, 12.1], "flux": [100.0] * 4, "flux_error": [1.0] * 4,
         "rejected_by_variability": [False, False, False, True]}
    )  # fmt: skip
    made = epochs.view(table, DR3.origin, "TCB").to_pylist()
    assert made[0]["band"] == ["RP", "BP", "G"]
    assert made[0]["time"] == [2_455_198.5, 2_455_199.5, 2_455_200.5]
    with pytest.raises(BadAnswer, match="epoch photometry"):
        epochs.view(pa.table({"source_id": [1], "x": [1.0]}), 0.0, "TCB")


def test_spectra_of_different_lengths_are_stored_as_they_are():
    product = DR4.products["rvs"]
    table = pa.table({"source_id": [1, 2], "flux": [[1.0] * 5, [1.0] * 7],
                      "flux_error": [[0.1] * 5, [0.1] * 7]})  # fmt: skip
    learned = {}
    made, bad = datalink.finish(table, product, learned)
    assert [len(r["flux"]) for r in made.to_pylist()] == [5, 7]
    assert bad == {}
    assert learned == {"rvs_samples": [5, 7]}


def test_epoch_spectra_keep_a_row_a_transit(tmp_path):
    product = DR4.products["epoch-rvs"]
    flux = [[1.0, 2.0]] * 4
    sent = pa.table({"source_id": [7, 5, 5, 9], "transit_id": [1, 3, 2, 1], "flux": flux})
    client = Client(**quick(tmp_path), cache=tmp_path / "c")
    table = datalink.one_each(client, [sent, sent], [5, 7])  # an answer that came twice
    made, bad = datalink.finish(table, product)
    rows = [(r["source_id"], r["transit_id"]) for r in made.to_pylist()]
    assert rows == [(5, 2), (5, 3), (7, 1)]
    assert bad == {}
    assert b"barycentric" in made.schema.field("flux").metadata[b"frame"]


def test_a_dry_run_of_dr4_names_what_is_assumed(capsys):
    assert run(["fetch", "--survey", "gaia-dr4", "--sample", "5", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "gaiadr4.gaia_source" in out
    assert "RETRIEVAL_TYPE=MEAN_SPECTRUM_XP" in out
