"""Galaxies: PROVABGS and DESI by TARGETID, cutouts of the Legacy Survey, and all of them joined."""

import io
import json
import urllib.parse

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from mmclip.cli import run
from mmclip.datasets import ingest
from mmclip.errors import IntegrityError, PartialResult, RemoteError, UsageError
from mmclip.ids import local_id
from mmclip.surveys import Request, desi_galaxies, id_list, legacy, provabgs
from mmclip.surveys.client.http import BadAnswer
from tests.loopback import Server, Stars, stars
from tests.services import archive
from tests.surveys.test_catalogues import FIRST, client_of, coadd_file, collect

h5py = pytest.importorskip("h5py", reason="the extra 'mmu' is not installed")
SIZE = 24


def own(target):
    return local_id("desi", str(target))


# -- PROVABGS


def provabgs_file(path, targets, compound=True, **more):
    """The published columns: a compound table, or a dataset a column as in other HDF5 files."""
    count = len(targets)
    columns = {
        "TARGETID": np.array(targets, "i8"), "RA": np.linspace(150, 151, count),
        "DEC": np.linspace(2, 3, count), "Z_HP": np.linspace(0.1, 0.4, count).astype("f4"),
        "MAG_G": np.full(count, 19.0), "MAG_R": np.full(count, 18.0),
        "MAG_Z": np.full(count, 17.5), "PROVABGS_LOGMSTAR_BF": np.linspace(9, 11, count),
        "PROVABGS_THETA_BF": np.arange(count * 12.0).reshape(count, 12),
        "PROVABGS_MCMC": np.zeros((count, 100, 13), "f4"), **more,
    }  # fmt: skip
    with h5py.File(path, "w") as file:
        if not compound:
            for name, values in columns.items():
                file[name] = values
            return
        kinds = [(n, v.dtype, v.shape[1:]) for n, v in columns.items()]
        rows = np.zeros(count, kinds)
        for name, values in columns.items():
            rows[name] = values
        file["BGS_ANY_full.provabgs.sv3.v0"] = rows


@pytest.mark.parametrize("compound", [True, False])
def test_provabgs_keeps_galaxies_of_the_usual_cut(tmp_path, compound):
    mass = np.array([9.0, -999.0, 10.0, 11.0])
    targets = [FIRST + 3, FIRST + 2, FIRST + 1, FIRST]
    provabgs_file(
        tmp_path / "p.hdf5", targets, compound, PROVABGS_LOGMSTAR_BF=mass,
        MAG_Z=np.array([17.0, 17.0, 0.0, 17.0]),
    )  # fmt: skip
    client = client_of(tmp_path, provabgs_catalogue=str(tmp_path / "p.hdf5"))
    found = collect(provabgs.SURVEY, tmp_path, Request(), client)
    objects = {r["targetid"]: r for r in ingest.read_view(found, "objects").to_pylist()}
    assert set(objects) == {FIRST + 3, FIRST}
    assert objects[FIRST]["source_id"] == own(FIRST)
    assert objects[FIRST]["provabgs_logmstar_bf"] == 11.0
    assert objects[FIRST]["z_hp"] == pytest.approx(0.4)
    assert objects[FIRST]["theta_bf_11"] == 47.0
    notes = found.manifest.notes
    assert (notes["catalogue_rows"], notes["cut"]) == (4, 2)
    assert notes["lacking"] == ["z_mw", "tage_mw", "avg_sfr"]
    everything = client_of(
        tmp_path, provabgs_catalogue=str(tmp_path / "p.hdf5"), provabgs_cut=False
    )
    assert provabgs.select(Request(), everything).table.num_rows == 4


def test_a_cone_and_a_cell_hold_for_galaxies_too(tmp_path):
    provabgs_file(tmp_path / "p.hdf5", FIRST + np.arange(11))
    client = client_of(tmp_path, provabgs_catalogue=str(tmp_path / "p.hdf5"))
    near = provabgs.select(Request(cone=(150.0, 2.0, 0.2)), client).table
    assert sorted(near["targetid"].to_pylist()) == [FIRST, FIRST + 1]  # 0.14 deg apart
    # (150, 2.5) lies in the base pixel that spans RA 135 to 225 deg at the equator: number 6.
    assert provabgs.select(Request(healpix=(0, (6,))), client).table.num_rows == 11
    assert provabgs.select(Request(healpix=(0, (7,))), client).table.num_rows == 0


def test_files_that_are_no_provabgs_are_refused(tmp_path):
    with h5py.File(tmp_path / "x.hdf5", "w") as file:
        file["TARGETID"] = np.arange(3)
        file["RA"] = np.arange(2.0)
    with h5py.File(tmp_path / "y.hdf5", "w") as file:
        file["TARGETID"] = h5py.ExternalLink("/etc/passwd", "/x")
    with h5py.File(tmp_path / "z.hdf5", "w") as file:
        file["TARGETID"] = np.arange(3.0) + 2.0**55
    (tmp_path / "w.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    for name in "xyzw":
        client = client_of(tmp_path, provabgs_catalogue=str(tmp_path / f"{name}.hdf5"))
        with pytest.raises(IntegrityError):
            provabgs.select(Request(), client)


def test_ids_of_desi_targets_are_understood(tmp_path):
    assert id_list.parse([f"TARGETID {FIRST}", f"DESI {FIRST}", "5"]).dr3 == (own(FIRST), 5)
    (tmp_path / "t.csv").write_text(f"TARGETID,Z\n{FIRST},0.1\n{FIRST + 1},0.2\n")
    assert id_list.read(tmp_path / "t.csv").dr3 == (own(FIRST), own(FIRST + 1))


# -- DESI galaxies


def redshifts(path, rows):
    """A table of redshifts: (target, z, spectype, objtype, status, zwarn, primary)."""
    target, z, kind, what, status, warn, primary = map(np.array, zip(*rows, strict=True))
    count = len(rows)
    columns = [
        fits.Column("TARGETID", "K", array=target), fits.Column("Z", "D", array=z),
        fits.Column("SPECTYPE", "6A", array=kind), fits.Column("OBJTYPE", "3A", array=what),
        fits.Column("COADD_FIBERSTATUS", "J", array=status),
        fits.Column("ZWARN", "K", array=warn), fits.Column("ZCAT_PRIMARY", "L", array=primary),
        fits.Column("TARGET_RA", "D", array=np.linspace(150, 151, count)),
        fits.Column("TARGET_DEC", "D", array=np.linspace(2, 3, count)),
        fits.Column("SURVEY", "7A", array=["main"] * count),
        fits.Column("PROGRAM", "6A", array=["bright"] * count),
        fits.Column("HEALPIX", "J", array=np.full(count, 12345)),
    ]  # fmt: skip
    table = fits.BinTableHDU.from_columns(columns, name="ZCATALOG")
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(path)


def test_desi_galaxies_by_coadds_are_the_sound_ones_with_their_redshift(tmp_path):
    redshifts(
        tmp_path / "z.fits",
        [
            (FIRST, 0.30, "GALAXY", "TGT", 0, 0, False), (FIRST, 0.31, "GALAXY", "TGT", 0, 0, True),
            (FIRST + 1, 0.2, "GALAXY", "TGT", 0, 4, True),
            (FIRST + 2, 0.0, "STAR", "TGT", 0, 0, True),
            (FIRST + 3, 0.2, "GALAXY", "SKY", 0, 0, True),
            (FIRST + 4, 0.2, "GALAXY", "TGT", 8, 0, True),
            (FIRST + 7, 0.25, "GALAXY", "TGT", 0, 0, True),
        ],
    )  # fmt: skip
    body, _ = coadd_file([FIRST, FIRST + 7])
    path = "/dr1/spectro/redux/iron/healpix/main/bright/123/12345/coadd-main-bright-12345.fits"
    with Server(routes=[(path, body)]) as server:
        client = client_of(
            tmp_path, galaxies_redshifts=str(tmp_path / "z.fits"), desi_url=server.url,
            desi_via="coadd",
        )  # fmt: skip
        found = collect(desi_galaxies.SURVEY, tmp_path, Request(), client)
    spectra = {r["targetid"]: r for r in ingest.read_view(found, "spectra").to_pylist()}
    assert {t: r["redshift"] for t, r in spectra.items()} == {FIRST: 0.31, FIRST + 7: 0.25}
    assert spectra[FIRST]["source_id"] == own(FIRST)
    assert found.manifest.notes["cut"] == 4


# -- Legacy Survey


def cube(seed, size=SIZE, bands=3):
    return np.random.default_rng(seed).normal(0, 1, (bands, size, size)).astype("f4")


def packed(pixels):
    out = io.BytesIO()
    fits.PrimaryHDU(pixels).writeto(out, checksum=True)
    return out.getvalue()


def viewer(pictures, asked=None):
    """A handler that answers by right ascension; a list is used up answer by answer."""

    def handler(it, body):
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(it.path).query))
        if asked is not None:
            asked.append(query)
        answer = pictures[float(query["ra"])]
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        return packed(answer) if isinstance(answer, np.ndarray) else answer

    return handler


def legacy_client(tmp_path, server, **more):
    given = {
        "legacy_cutout": server.url + "/cutout?ra={ra}&dec={dec}&layer={layer}"
        "&pixscale={pixscale}&size={size}&bands={bands}", "legacy_size": SIZE,
    } | more  # fmt: skip
    return client_of(tmp_path, **given)


def targets(count):
    """TARGETIDs in order of their local ids, in which a fetch goes on."""
    return sorted((FIRST + i for i in range(count)), key=own)


def known(count):
    return tuple((own(t), 10.0 + i, 5.0, t) for i, t in enumerate(targets(count)))


def following(count):
    rows = known(count)
    return Request(ids=tuple(r[0] for r in rows), known=rows, follows="provabgs")


PAGE = b"<html><body>no such place</body></html>"


def test_cutouts_come_with_their_objects_and_what_is_no_sky_is_told(tmp_path):
    half = cube(5)
    half[2, :, : SIZE // 2 + 2] = 0.0  # band z
    pictures = {
        10.0: cube(0), 11.0: np.zeros((3, SIZE, SIZE), "f4"), 12.0: half,
        13.0: (404, {}, b"gone"), 14.0: PAGE, 15.0: cube(1, SIZE + 1), 16.0: cube(2),
    }  # fmt: skip
    asked, ids = [], [own(t) for t in targets(7)]
    with Server(routes=[("/cutout", viewer(pictures, asked))]) as server:
        client = legacy_client(tmp_path, server)
        found = collect(legacy.SURVEY, tmp_path, following(7), client)
    images = {r["source_id"]: r for r in ingest.read_view(found, "image").to_pylist()}
    assert set(images) == {ids[0], ids[6]}
    got = images[ids[0]]
    assert got["shape"] == [3, SIZE, SIZE]
    np.testing.assert_array_equal(np.float32(got["image"]).reshape(3, SIZE, SIZE), cube(0))
    ledger = pq.read_table(found.path / "ledger.parquet").to_pylist()
    why = {r["source_id"]: (r["status"], r["reason"]) for r in ledger if r["reason"]}
    assert why[ids[1]] == ("absent", "outside the footprint in g,r,z")
    assert why[ids[2]] == ("absent", "outside the footprint in z")
    assert why[ids[3]] == ("missing", "http_404")
    assert why[ids[4]][0] == "missing"
    assert "a page instead of an image" in why[ids[4]][1]
    assert "(3, 25, 25)" in why[ids[5]][1]
    pages = [q for q in asked if q["ra"] == "14.0000000"]
    assert len(pages) == legacy.NO_IMAGE
    assert asked[0] == {
        "ra": "10.0000000", "dec": "5.0000000", "layer": "ls-dr9", "pixscale": "0.262",
        "size": str(SIZE), "bands": "grz",
    }  # fmt: skip
    assert found.manifest.notes["layer"] == "ls-dr9"
    field = pq.read_schema(next((found.path / "image").glob("*.parquet"))).field("image")
    assert field.metadata[b"unit"] == b"nanomaggies"
    with pytest.raises(PartialResult):
        ingest.complain(found)


def test_a_service_that_stumbles_loses_no_cutout(tmp_path):
    good, again = packed(cube(0)), (503, {"Retry-After": "0"}, b"busy")
    bad = bytearray(good)
    bad[3000] ^= 1  # a pixel: the sum of the data tells
    pictures = {
        10.0: [again, (429, {"Retry-After": "0"}, b"slowly"), good], 11.0: [good[:2880], good],
        12.0: ["drop", good], 13.0: [PAGE, PAGE, good], 14.0: [bytes(bad), good],
        15.0: [b"", good],
    }  # fmt: skip
    with Server(routes=[("/cutout", viewer(pictures))]) as server:
        client = legacy_client(tmp_path, server)
        found = collect(legacy.SURVEY, tmp_path, following(6), client)
        asked = len(server.log)
        again_ = collect(
            legacy.SURVEY, tmp_path / "b", following(6), legacy_client(tmp_path, server)
        )
        assert len(server.log) == asked  # all from the cache
    assert found.manifest.rows["image"] == 6
    assert found.manifest.rows["missing"] == 0
    assert ingest.read_view(again_, "image").equals(ingest.read_view(found, "image"))


def test_a_fetch_that_was_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(legacy, "BLOCK", 2)
    pictures = {10.0 + i: cube(i) for i in range(5)}
    down = [(500, {}, b"down")] * 4  # as many times as it is tried
    pictures[12.0] = [cube(2), *down]  # what came before fails too: the service is down
    pictures[13.0] = [*down, cube(3)]
    with Server(routes=[("/cutout", viewer(pictures))]) as server:
        client = legacy_client(tmp_path, server)
        monkeypatch.setattr("mmclip.surveys.client.each.IN_A_ROW", 1)
        with pytest.raises(RemoteError):
            collect(legacy.SURVEY, tmp_path, following(5), client)
        before = len(server.log)
        found = collect(legacy.SURVEY, tmp_path, following(5), client)
        asked = [
            urllib.parse.parse_qs(p.split("?")[1])["ra"][0] for _, p, *_ in server.log[before:]
        ]
    assert asked == ["13.0000000", "14.0000000"]
    images = ingest.read_view(found, "image")
    ids = images["source_id"].to_pylist()
    by_id = {own(t): cube(i).ravel() for i, t in enumerate(targets(5))}
    assert set(ids) == set(by_id)
    for i, pixels in zip(ids, images["image"].to_pylist(), strict=True):
        np.testing.assert_array_equal(np.float32(pixels), by_id[i])


def test_cutouts_of_stars_are_around_gaias_positions(tmp_path):
    rows = stars()[:3]
    asked = []
    pictures = {round(r["ra"], 7): cube(0) for r in rows}
    with Server(Stars(rows), [("/cutout", viewer(pictures, asked))]) as server:
        client = legacy_client(tmp_path, server, gaia_tap=f"{server.url}/tap")
        request = Request(ids=tuple(r["source_id"] for r in rows), release="dr10-south")
        found = collect(legacy.SURVEY, tmp_path, request, client)
    for query, row in zip(asked, rows, strict=True):
        assert float(query["ra"]) == pytest.approx(row["ra"], abs=1e-7)
        assert float(query["dec"]) == pytest.approx(row["dec"], abs=1e-7)
    assert {q["layer"] for q in asked} == {"ls-dr10-south"}
    assert found.manifest.rows["image"] == 3


def test_a_list_of_ones_own_selects_cutouts(tmp_path):
    (tmp_path / "o.csv").write_text(f"TARGETID,RA,DEC\n{FIRST},10,5\n{FIRST + 1},,\n")
    with Server(routes=[("/cutout", viewer({10.0: cube(0)}))]) as server:
        client = legacy_client(tmp_path, server, legacy_catalogue=str(tmp_path / "o.csv"))
        found = collect(legacy.SURVEY, tmp_path, Request(), client)
    assert ingest.read_view(found, "image")["source_id"].to_pylist() == [own(FIRST)]


def test_what_cannot_be_a_release_or_a_size_is_refused(tmp_path):
    for release in ("../dr9", "dr9&size=9999", "nine"):
        with pytest.raises(UsageError, match="no release"):
            legacy.layer(Request(release=release))
    with Server() as server, pytest.raises(UsageError, match="size = 1000000"):
        legacy.select(following(1), legacy_client(tmp_path, server, legacy_size=10**6))
    path = tmp_path / "x"
    path.write_bytes(packed(cube(0))[:-2000])
    with pytest.raises(BadAnswer):
        legacy.cutout(path, 3, SIZE)


# -- all together


def test_galaxies_of_three_surveys_become_one_data_set(tmp_path, monkeypatch):
    server, url = archive(tmp_path / "archive")
    # Those that the stand-in has spectra of.
    provabgs_file(tmp_path / "p.hdf5", [FIRST + 7 * k for k in range(30)])
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "cache"))
    with h5py.File(tmp_path / "p.hdf5") as file:
        rows = next(iter(file.values()))[()]
    pictures = {round(float(a), 7): cube(i) for i, a in enumerate(rows["RA"])}
    try:
        with Server(routes=[("/cutout", viewer(pictures))]) as cutouts:
            config = tmp_path / "c.toml"
            config.write_text(
                f"[fetch]\npace = 0.0\n[provabgs]\ncatalogue = "
                f"{json.dumps(str(tmp_path / 'p.hdf5'))}\n[desi]\n"
                f'sparcl = "{url}/api"\n[legacy]\nsize = {SIZE}\ncutout = '
                f'"{cutouts.url}/cutout?ra={{ra}}&dec={{dec}}&layer={{layer}}&size={{size}}"\n'
            )
            code = run(
                ["fetch", "--survey", "provabgs", "--survey", "desi-galaxies", "--survey",
                 "legacy", "--config", str(config), "-w", str(tmp_path)]
            )  # fmt: skip
    finally:
        server.shutdown()
        server.server_close()
    assert code == 0
    command = [
        "preprocess", "--raw", "provabgs", "--raw", "desi-galaxies", "--raw", "legacy",
        "--modalities", "image,spectra", "--set", f"image.crop={SIZE - 4}", "--name", "galaxies",
        "-w", str(tmp_path),
    ]  # fmt: skip
    assert run(command) == 0
    objects = pq.read_table(tmp_path / "data" / "galaxies" / "objects.parquet").to_pylist()
    assert len(objects) == 30
    assert all(o["has_image"] and o["has_spectra"] for o in objects)
    mass = dict(zip(rows["TARGETID"].tolist(), rows["PROVABGS_LOGMSTAR_BF"], strict=True))
    assert all(o["provabgs_logmstar_bf"] == mass[o["targetid"]] for o in objects)
    assert {o["source_id"] for o in objects} == {own(t) for t in mass}


def test_the_view_image_is_that_of_import():
    made = legacy.table([(5, cube(0))], legacy.Settings(), "ls-dr9")
    assert made.schema.field("image").type == pa.list_(pa.float32())
    assert made.schema.field("shape").type == pa.list_(pa.int32(), 3)
    assert made.schema.field("source_id").type == pa.int64()
