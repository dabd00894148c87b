"""Later releases of catalogues, and any table of VizieR."""

import numpy as np
import pytest
from astropy.io import fits

from mmclip.datasets import ingest
from mmclip.errors import IntegrityError, NotFound, UsageError
from mmclip.surveys import Request, apogee, desi, desi_galaxies, vizier
from tests.loopback import Server, Stars, stars
from tests.surveys.test_catalogues import BIG, client_of, collect


def table(path, **columns):
    kinds = {"i": "K", "f": "D", "U": "12A"}
    made = [fits.Column(n, kinds[np.array(v).dtype.kind], array=np.array(v))
            for n, v in columns.items()]  # fmt: skip
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(made)]).writeto(path)


def test_mwm_all_star_is_read_under_its_own_names(tmp_path):
    table(tmp_path / "mwm.fits", gaia_dr3_source_id=[BIG, BIG + 1], ra=[1.0, 2.0], dec=[3.0, 4.0],
          snr=[50.0, 60.0], v_rad=[10.0, 11.0], teff=[5000.0, 5100.0],
          e_teff=[50.0, 51.0])  # fmt: skip
    client = client_of(tmp_path, apogee_catalogue=str(tmp_path / "mwm.fits"))
    found = collect(apogee.SURVEY, tmp_path, Request(release="dr20"), client)
    objects = ingest.read_view(found, "objects")
    assert objects["teff"].to_pylist() == [5000.0, 5100.0]
    assert objects["teff_err"].to_pylist() == [50.0, 51.0]
    assert objects["vhelio_avg"].to_pylist() == [10.0, 11.0]
    assert "logg" in found.manifest.notes["lacking"]
    with pytest.raises(NotFound, match="logg"):  # a cut on what is absent is no cut
        apogee.SURVEY.select(Request(release="dr20", where="logg < 3"), client)
    with pytest.raises(UsageError, match="no release"):
        apogee.release(Request(release="dr99"))


def test_desi_dr2s_new_names_are_read_and_an_absent_column_is_an_error(tmp_path):
    columns = {
        "TARGETID": [1, 2, 3], "TARGET_RA": [1.0, 2.0, 3.0], "TARGET_DEC": [1.0, 2.0, 3.0],
        "Z_BEST": [0.1, 0.2, 0.3], "ZERR_BEST": [1e-4] * 3, "SPECTYPE_BEST": ["GALAXY"] * 3,
        "OBJTYPE": ["TGT", "SKY", "TGT"], "COADD_FIBERSTATUS": [0, 0, 0],
    }  # fmt: skip
    table(tmp_path / "z.fits", **columns, ZWARN_BEST=[0, 0, 4])
    client = client_of(tmp_path, galaxies_redshifts=str(tmp_path / "z.fits"))
    found = desi_galaxies.select(Request(release="dr2"), client)
    assert found.table["redshift"].to_pylist() == [0.1]
    table(tmp_path / "no.fits", **columns)
    client = client_of(tmp_path, galaxies_redshifts=str(tmp_path / "no.fits"))
    with pytest.raises(IntegrityError, match="ZWARN or ZWARN_BEST"):
        desi_galaxies.select(Request(release="dr2"), client)
    assert desi.release(Request(release="dr2")) == "dr2"


def test_a_table_of_vizier_is_joined_on_its_gaia_ids(tmp_path):
    rows = [{**r, "gaiadr3": r["source_id"], "mass": 1.0 + i, "raj2000": r["ra"]}
            for i, r in enumerate(stars()[:4])]  # fmt: skip

    class Table(Stars):
        def answer(self, query, uploaded):
            assert query == 'SELECT TOP 1000000 * FROM "J/A+A/649/A6/table1c"'
            from tests.loopback import votable

            return votable(rows, ["gaiadr3", "mass"])

    with Server(Table(rows)) as server:
        client = client_of(tmp_path, vizier_tap=f"{server.url}/tap")
        found = collect(vizier.SURVEY, tmp_path, Request(release="J/A+A/649/A6/table1c"), client)
    objects = ingest.read_view(found, "objects")
    assert objects["mass"].to_pylist() == [1.0, 2.0, 3.0, 4.0]
    for wrong in ("", 'x"; DROP', "../x", "J/A+A/649 A6"):
        with pytest.raises(UsageError, match="no table of VizieR"):
            vizier.table_name(Request(release=wrong))
