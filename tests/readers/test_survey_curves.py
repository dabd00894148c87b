"""Light curves of single surveys: their flags, limits, filters and zeros of time."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmclip import readers
from mmclip.errors import IntegrityError
from mmclip.readers.files import Loaded

STAR = 2328619740476096384

ATLAS = """\
###MJD          m      dm   uJy   duJy F err chi/N   RA       Dec        x        y     maj  min   phi  apfit mag5sig Sky   Obs
58414.640780  18.900  0.050   1000   50 o  0   1.05 161.19738  53.66524   356.28  1198.43 6.32 6.32   0.0 -0.200 18.42 19.32 01a58414o0001o
58415.640780 -18.900  0.050  -1000   50 c  0   1.05 161.19738  53.66524   356.28  1198.43 6.32 6.32   0.0 -0.200 18.42 19.32 01a58415o0001c
58416.640780  18.900  0.050   1000   50 o  1   1.05 161.19738  53.66524   356.28  1198.43 6.32 6.32   0.0 -0.200 18.42 19.32 01a58416o0001o
58417.640780  14.000  1.000  90000 4000 o  0   1.05 161.19738  53.66524   356.28  1198.43 6.32 6.32   0.0 -0.200 18.42 19.32 01a58417o0001o
58418.640780  18.900  0.050   1000   50 o  0 100.00 161.19738  53.66524   356.28  1198.43 6.32 6.32   0.0 -0.200 18.42 19.32 01a58418o0001o
"""  # noqa: E501
ALERCE = """\
oid,candid,mjd,fid,isdiffpos,ra,dec,magpsf,sigmapsf,magpsf_corr,sigmapsf_corr,sigmapsf_corr_ext,corrected,dubious
ZTF18aaaaaaa,1,58200.5,1,1,298.0,29.8,18.0,0.1,15.01,0.02,0.05,True,False
ZTF18aaaaaaa,2,58201.5,2,-1,298.0,29.8,18.0,0.1,15.02,100.0,0.05,True,False
ZTF18aaaaaaa,3,58202.5,1,1,298.0,29.8,18.0,0.1,15.03,0.02,0.05,True,True
ZTF18aaaaaaa,4,58203.5,1,1,298.0,29.8,18.0,0.1,,,,False,False
ZTF19bbbbbbb,5,58204.5,2,1,120.0,10.0,17.5,0.1,,,,False,False
ZTF19bbbbbbb,6,58205.5,2,-1,120.0,10.0,17.6,0.1,,,,False,False
"""
AAVSO = """\
JD,Magnitude,Uncertainty,HQuncertainty,Band,Observer Code,Comment Code(s),Validation Flag,HJD,Star Name,Measurement Method
2459000.5,12.1,0.02,,V,ABC,,V,,SS CYG,STD
2459001.5,12.2,,0.05,Vis.,ABC,,V,,SS CYG,STD
2459002.5,<15.2,,,Vis.,ABC,,V,,SS CYG,STD
2459003.5,12.4:,,,Vis.,ABC,,V,,SS CYG,STD
2459004.5,12.5,0.02,,V,ABC,,T,,SS CYG,STD
2459005.5,0.3,0.02,,V,ABC,,Z,,SS CYG,DIF
2459006.5,12.7,0.02,,V,ABC,,Z,2459006.503,SS CYG,STD
"""  # noqa: E501
POINTS = f"""\
source_id,transit_id,band,time,mag,flux,flux_error,flux_over_error,rejected_by_photometry,rejected_by_variability
{STAR},1,G,1700.25,13.5,1000.0,10.0,100.0,false,false
{STAR},1,BP,1700.5,13.9,500.0,10.0,50.0,false,false
{STAR},2,G,1701.25,13.6,900.0,10.0,90.0,true,false
{STAR},3,G,1702.25,13.7,800.0,10.0,80.0,false,true
"""
TRANSITS = f"""\
source_id,transit_id,g_transit_time,g_transit_flux,g_transit_flux_error,g_transit_mag,bp_obs_time,bp_flux,bp_flux_error,bp_mag,rp_obs_time,rp_flux,rp_flux_error,rp_mag,variability_flag_g_reject,variability_flag_bp_reject,variability_flag_rp_reject,rejected_by_photometry
{STAR},1,1700.25,1000.0,10.0,13.5,1700.5,500.0,10.0,13.9,,,,,false,false,false,false
{STAR},2,1701.25,900.0,10.0,13.6,,,,,,,,,true,false,false,false
{STAR},3,1702.25,800.0,10.0,13.7,,,,,,,,,false,false,false,true
"""


def read(text, name="curve"):
    data = Loaded(text if isinstance(text, bytes) else text.encode())
    data.name = name
    return readers.read(data, "photometry").to_pylist()


def noted(text):
    return readers.read(text.encode(), "photometry").schema.metadata[b"faults"].decode()


def test_atlas_keeps_negative_fluxes_and_loses_failed_fits():
    (row,) = read(ATLAS, "sn.txt")
    assert row["time"] == [58414.64078, 58415.64078]
    assert row["flux"] == [1000, -1000]
    assert row["magnitude"] is None
    assert row["error"] == [50, 50]
    assert row["band"] == ["o", "c"]
    assert (row["ra"], row["dec"]) == (161.19738, 53.66524)
    assert row["object_name"] == "sn"
    assert "1 with a failed fit" in noted(ATLAS)


def test_alerce_takes_apparent_magnitudes_of_variables_and_differences_of_transients():
    variable, transient = read(ALERCE)
    assert variable["object_name"] == "ZTF18aaaaaaa"
    assert variable["time"] == [58200.5, 58201.5]
    np.testing.assert_allclose(variable["magnitude"], [15.01, 15.02], rtol=1e-6)
    np.testing.assert_allclose(variable["error"], [0.02, 0.05], rtol=1e-6)
    assert variable["band"] == ["zg", "zr"]
    assert transient["magnitude"] == [17.5]  # the other one is a dimming


def test_aavso_loses_limits_doubts_discrepant_and_differential_magnitudes():
    (row,) = read(AAVSO)
    assert row["time"] == [2459000.5, 2459001.5, 2459006.5]  # JD, although one HJD is known
    np.testing.assert_allclose(row["magnitude"], [12.1, 12.2, 12.7], rtol=1e-6)
    np.testing.assert_allclose(row["error"], [0.02, 0.05, 0.02], rtol=1e-6)
    assert row["band"] == ["V", "Vis.", "V"]
    assert row["object_name"] == "SS CYG"


@pytest.mark.parametrize("text", [POINTS, TRANSITS])
def test_gaia_s_transits_are_barycentric_julian_dates_without_rejected_points(text):
    (row,) = read(text)
    assert row["source_id"] == STAR
    assert row["time"] == [2456897.75, 2456898.0]  # 2010.0 is JD 2455197.5
    assert row["magnitude"] == [13.5, np.float32(13.9)]
    # Of a small relative error e of the flux the magnitude's is 2.5 / ln 10 e.
    np.testing.assert_allclose(row["error"], 2.5 / np.log(10) * np.array([0.01, 0.02]), rtol=1e-6)
    assert row["band"] == ["G", "BP"]
    assert row["time_system"] == "TCB"


def test_arrays_of_gaia_s_bulk_files_are_read_from_parquet():
    made = pa.table({"source_id": [STAR], "g_transit_time": [[1700.25, 1701.25]],
                     "g_transit_mag": [[13.5, 13.6]], "g_transit_flux": [[1000.0, 900.0]],
                     "g_transit_flux_error": [[10.0, 9.0]],
                     "variability_flag_g_reject": [[False, True]]})  # fmt: skip
    out = io.BytesIO()
    pq.write_table(made, out)
    (row,) = read(out.getvalue())
    assert (row["time"], row["band"]) == ([2456897.75], ["G"])


def test_a_curve_without_a_usable_point_says_why():
    only = "\n".join(line for line in ATLAS.splitlines() if line[:5] in ("###MJ", "58416"))
    with pytest.raises(IntegrityError, match="1 with a failed fit"):
        read(only)
