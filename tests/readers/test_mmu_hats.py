"""The Multimodal Universe v1.5 as the hub has it: HATS collections with margins.

Layout and columns of `mmu_gaia_gaia` as its card says: a collection of the catalogue and a margin
of 10 arcsec, `spectral_coefficients` of 110 numbers, structs of float32, ids as whole numbers.
"""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip.artifacts import hub
from mmclip.datasets import hats
from mmclip.errors import MmclipError
from tests.cli.test_cli import ask

IDS = [4295806720 + 2**43 * i for i in range(6)]


def structs(**columns):
    arrays = {n: pa.array(np.asarray(v), pa.float32()) for n, v in columns.items()}
    return pa.StructArray.from_arrays(list(arrays.values()), list(arrays))


def gaia(rows):
    """Rows of the catalogue: stars by their number."""
    rows = np.array(rows)
    coefficients = pa.array([(100.0 / (1 + np.arange(110) % 55) + r).tolist() for r in rows],
                            pa.list_(pa.float32()))  # fmt: skip
    errors = pa.array([[0.5] * 110] * len(rows), pa.list_(pa.float32()))
    ids = np.array(IDS)[rows]
    return pa.table(
        {
            "_healpix_29": hats.healpix29(ids),
            "spectral_coefficients": pa.StructArray.from_arrays(
                [coefficients, errors], ["coeff", "coeff_error"]),
            "photometry": structs(phot_g_mean_mag=10.0 + rows, bp_rp=0.1 * rows),
            "astrometry": structs(ra=10.1 + rows, dec=-5.1 - rows, parallax=1.0 + rows),
            "radial_velocity": structs(radial_velocity=rows, rv_template_teff=5000.0 + rows),
            "corrections": structs(rv_template_teff=5000.0 + rows, grvs_mag=9.0 + rows),
            "ra": 10.123456789 + rows, "dec": -5.123456789 - rows,
            "healpix": pa.array(rows, pa.int64()), "object_id": pa.array(ids, pa.int64()),
        }
    )  # fmt: skip


def catalogue(folder, kind, **files):
    for place, table in files.items():
        file = folder / "dataset" / "Norder=2" / "Dir=0" / place.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, file.with_name(file.name + ".parquet"))
    pq.write_metadata(gaia([0]).schema, folder / "dataset" / "_common_metadata")
    (folder / "hats.properties").write_text(f"obs_collection=x\ndataproduct_type={kind}\n")
    (folder / "partition_info.csv").write_text("Norder,Npix\n2,0\n")
    (folder / "skymap.fits").write_bytes(b"SIMPLE  = no table of stars")
    (folder / "skymap.4.fits").write_bytes(b"SIMPLE  = no table of stars")


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("hub") / "mmu_gaia_gaia"
    one, margin = root / "mmu_gaia_gaia", root / "mmu_gaia_gaia_10arcs"
    catalogue(one, "object", **{"Npix=0": gaia([0, 1]), "Npix=7__part0": gaia([2, 3]),
                                "Npix=7__part1": gaia([4, 5])})  # fmt: skip
    catalogue(margin, "margin", **{"Npix=0": gaia([2]), "Npix=7": gaia([1])})
    pq.write_table(gaia([0]), one / "dataset" / "data_thumbnail.parquet")
    (root / "collection.properties").write_text(
        "obs_collection=mmu_gaia_gaia\nhats_primary_table_url=mmu_gaia_gaia\n"
        "all_margins=mmu_gaia_gaia_10arcs\ndefault_margin=mmu_gaia_gaia_10arcs\n"
    )
    return root


@pytest.mark.parametrize("inside", ["", "mmu_gaia_gaia"])
def test_a_collection_is_read_once_without_its_margin(collection, inside, tmp_path, capsys):
    code, out, err = ask(capsys, "import", collection / inside, "--as", "xp", "--as", "metadata",
                         "--name", "mmu", "-w", tmp_path)  # fmt: skip
    assert code == 0, err
    assert "repeat" not in out + err
    raw = tmp_path / "raw" / "mmu"
    xp = pq.read_table(raw / "xp_coefficients.parquet")
    assert xp["source_id"].to_pylist() == IDS
    for i in range(6):
        both = gaia([i])["spectral_coefficients"][0].as_py()["coeff"]
        assert xp["bp_coefficients"][i].as_py() == both[:55]
        assert xp["rp_coefficients"][i].as_py() == both[55:]
    objects = pq.read_table(raw / "objects.parquet")
    # The position in double precision, not that of the struct in float32.
    np.testing.assert_array_equal(objects["ra"], 10.123456789 + np.arange(6))
    values = pq.read_table(raw / "metadata.parquet")
    np.testing.assert_allclose(values["parallax"], 1.0 + np.arange(6))
    assert values["phot_g_mean_mag"].to_pylist() == [10.0 + i for i in range(6)]


def test_one_pixel_and_a_margin_by_itself_are_read_where_they_are_named(
    collection, tmp_path, capsys
):
    pixel = collection / "mmu_gaia_gaia" / "dataset" / "Norder=2" / "Dir=0" / "Npix=7"
    for place, ids in ((pixel, IDS[2:]), (collection / "mmu_gaia_gaia_10arcs", IDS[1:3])):
        code, _, err = ask(capsys, "import", place, "--as", "xp", "--name", "some", "--force",
                           "-w", tmp_path)  # fmt: skip
        assert code == 0, err
        view = pq.read_table(tmp_path / "raw" / "some" / "xp_coefficients.parquet")
        assert view["source_id"].to_pylist() == ids


class Hub:
    """A hub of one repository, a folder here; it counts what it gives."""

    def __init__(self, folder):
        self.folder, self.given = folder, []

    def HfApi(self, endpoint=None):
        return self

    def list_repo_tree(self, repository, path_in_repo=None, **_):
        assert repository == "UniverseTBD/mmu_gaia_gaia"
        for file in (self.folder / (path_in_repo or "")).rglob("*"):
            name = file.relative_to(self.folder).as_posix()
            kind = {"size": file.stat().st_size} if file.is_file() else {}
            yield SimpleNamespace(path=name, **kind)

    def snapshot_download(self, repository, allow_patterns, local_dir, **_):
        self.given += allow_patterns
        for name in allow_patterns:
            (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / name).write_bytes((self.folder / name).read_bytes())


@pytest.mark.parametrize(
    ("inside", "ids"), [("", IDS), ("/mmu_gaia_gaia/dataset/Norder=2/Dir=0/Npix=7", IDS[2:])]
)
def test_a_folder_on_a_hub_is_imported(collection, inside, ids, tmp_path, capsys, monkeypatch):
    made = Hub(collection)
    monkeypatch.setattr(hub, "library", lambda: made)
    monkeypatch.setenv("MMCLIP_CACHE", str(tmp_path / "cache"))
    code, _, err = ask(capsys, "import", f"hf://datasets/UniverseTBD/mmu_gaia_gaia{inside}", "--as",
                       "xp", "--name", "some", "-w", tmp_path)  # fmt: skip
    assert code == 0, err
    view = pq.read_table(tmp_path / "raw" / "some" / "xp_coefficients.parquet")
    assert view["source_id"].to_pylist() == ids
    assert all(name.startswith(inside[1:]) for name in made.given)


def test_what_is_too_large_or_no_data_set_is_refused(collection, tmp_path, monkeypatch):
    monkeypatch.setattr(hub, "library", lambda: Hub(collection))
    address = "hf://datasets/UniverseTBD/mmu_gaia_gaia"
    with pytest.raises(MmclipError, match="at most 0 GB") as caught:
        hub.files(address, tmp_path, most=1000)
    assert f"{address}/mmu_gaia_gaia/dataset" in caught.value.hint
    for wrong in ("hf://UniverseTBD/mmu_gaia_gaia", f"{address}/../x", "hf://datasets/x"):
        with pytest.raises(MmclipError):
            hub.files(wrong, tmp_path)
    with pytest.raises(MmclipError, match="no folder 'nowhere'"):
        hub.files(f"{address}/nowhere", tmp_path)
    assert list(tmp_path.iterdir()) == []
