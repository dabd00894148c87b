"""Files that are damaged or mean harm: one sentence, no memory, nothing run, nothing followed."""

import base64
import contextlib
import gzip
import io
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from mmclip import ids as identity
from mmclip import plugins, readers
from mmclip.errors import IntegrityError, MmclipError, NotFound, UsageError
from mmclip.modalities import registry
from mmclip.readers import files, images, lightcurves, mmu, tables
from tests import made_files
from tests.natives import natives
from tests.shared import shared


def header(**cards):
    """One FITS header block and whatever data are given."""
    lines = [f"{key:8}= {value:>20}".ljust(80) for key, value in cards.items()]
    text = "".join(["SIMPLE  =                    T".ljust(80), *lines, "END".ljust(80)])
    return text.ljust(2880 * -(-len(text) // 2880)).encode()


@pytest.mark.parametrize(
    "cards",
    [
        {"BITPIX": -64, "NAXIS": 2, "NAXIS1": 2**40, "NAXIS2": 2**20},
        {"BITPIX": -64, "NAXIS": 1, "NAXIS1": -5},
        {"BITPIX": 8, "NAXIS": 1, "NAXIS1": 10**9},
        {"BITPIX": -64, "NAXIS": 3, "NAXIS1": 4, "NAXIS2": 4, "NAXIS3": 10**12},
    ],
)
@pytest.mark.parametrize("view", ["spectra", "image", "photometry", "metadata"])
def test_absurd_fits_sizes_are_refused_before_memory_is_taken(cards, view):
    with pytest.raises(MmclipError) as caught:
        readers.read(header(**cards) + b"\0" * 2880, view)
    assert "\n" not in str(caught.value)


def test_a_table_that_states_more_rows_than_the_file_has_is_refused():
    body = bytearray(made_files.kepler())
    place = body.find(b"NAXIS2  =                    5")
    body[place : place + 30] = b"NAXIS2  =           5000000000"
    with pytest.raises(IntegrityError, match="more than its"):
        readers.read(bytes(body), "photometry")


def heaped(count, start, rows=4, form=">2i"):
    """Spectra as arrays of any length; every descriptor states `count` values at `start`."""
    values = np.array([np.linspace(4000, 5000, 20).astype("f4")] * rows, dtype=object)
    columns = [fits.Column(n, "PE(20)", array=values) for n in ("wavelength", "flux")]
    unit = fits.BinTableHDU.from_columns(columns)
    body = bytearray(made_files.packed([fits.PrimaryHDU(), unit]))
    with fits.open(io.BytesIO(bytes(body))) as units:
        place = units[1].fileinfo()["datLoc"]
    for n in range(2 * rows):
        struct.pack_into(form, body, place + 8 * n, count, start)
    return bytes(body)


@pytest.mark.parametrize(
    ("count", "start"), [(2**31 - 1, 0), (-1, 0), (20, 2**31 - 1), (20, -80), (161, 0)]
)
def test_arrays_that_do_not_lie_in_the_heap_are_refused(count, start):
    assert readers.read(heaped(20, 0), "spectra").num_rows == 4
    with pytest.raises(IntegrityError, match="an array of wavelength lies outside"):
        readers.read(heaped(count, start), "spectra")


def test_arrays_that_fill_one_heap_often_are_refused(monkeypatch):
    """Descriptors may point at one place: a small file states as much as it likes."""
    body = heaped(160, 0, rows=100)
    monkeypatch.setattr(files, "FREE", 1000)
    monkeypatch.setattr(files, "RATIO", 5)
    with pytest.raises(IntegrityError, match="states 128000 bytes of arrays in 16000 bytes"):
        readers.read(body, "spectra")


def picture(width, height):
    """A PNG of one bit a pixel, all black."""

    def chunk(kind, data):
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes((1 + -(-width // 8)) * height), 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(k, d) for k, d in ((b"IHDR", head), (b"IDAT", rows), (b"IEND", b""))
    )


def test_a_picture_of_few_bytes_and_many_pixels_is_refused():
    with pytest.raises(IntegrityError, match="states 8000 x 8000 pixels in"):
        readers.read(picture(8000, 8000), "image")


def test_a_table_of_pictures_that_unpack_to_far_more_is_refused(monkeypatch):
    monkeypatch.setattr(images, "FREE", 10**6)
    rows = [{"image": picture(200, 200)}] * 30  # 480 kB each once unpacked
    with pytest.raises(IntegrityError, match="unpack to more than 1000 times"):
        readers.read(parquet(pa.Table.from_pylist(rows)), "image")


def test_an_archive_of_very_many_arrays_is_refused():
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as packed:
        for number in range(10_001):
            packed.writestr(f"{number}.npy", b"")
    with pytest.raises(IntegrityError, match="holds 10001 arrays"):
        readers.read(body.getvalue(), "metadata")


@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("view", ["metadata", "photometry"])
def test_encrypted_parquet_is_refused(plain, view):
    """With a plain footer, to look at an encrypted column ended the process."""
    encryption = pytest.importorskip("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):
        def wrap_key(self, key, master):
            return base64.b64encode(key)

        def unwrap_key(self, key, master):
            return base64.b64decode(key)

    how = encryption.EncryptionConfiguration(
        footer_key="k", column_keys={"k": ["teff"]}, plaintext_footer=plain
    )
    factory = encryption.CryptoFactory(lambda configuration: Keys())
    secret = factory.file_encryption_properties(encryption.KmsConnectionConfig(), how)
    body = io.BytesIO()
    stars = pa.table({"source_id": [2**40, 2**40 + 1], "teff": [5000.0, 6000.0]})
    pq.write_table(stars, body, encryption_properties=secret)
    with pytest.raises(MmclipError, match="encrypted"):
        readers.read(body.getvalue(), view)


def test_no_reader_fails_on_the_native_file_of_another():
    """As `--reader` asks for it: read, or refused in one sentence."""
    for one in natives():
        modality = registry.imported(one.view)
        for name in set(plugins.names("readers")) - {"specutils-loaders"}:  # slow to import
            data = files.Loaded(one.body)
            data.name = one.file
            with contextlib.suppress(MmclipError):
                readers.read(data, modality, one.options, readers.readers(modality, name))


@pytest.mark.parametrize("kept", [100, 2880, 5000])
def test_a_fits_file_cut_short_is_refused(kept):
    body = made_files.lamost_old(compress=False)
    with pytest.raises(MmclipError):
        readers.read(body[:kept], "spectra")


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes_never_leave_a_traceback(seed):
    rng = np.random.default_rng(seed)
    made = [
        made_files.lamost_old(compress=False), made_files.lamost_new(), made_files.kepler(),
        made_files.apogee(),
    ]  # fmt: skip
    body = bytearray(made[seed % len(made)])
    for place in rng.integers(0, min(len(body), 9000), 12):
        body[place] = rng.integers(256)
    for view in ("spectra", "photometry", "image"):
        with contextlib.suppress(MmclipError):
            readers.read(bytes(body), view)


def test_a_gzip_bomb_is_refused():
    bomb = gzip.compress(bytes(80 << 20), 9)
    assert len(bomb) < 100_000
    with pytest.raises(IntegrityError, match="unpacks from"):
        readers.read(bomb, "spectra")


def test_a_gzip_file_cut_short_is_refused():
    body = made_files.lamost_old()
    with pytest.raises(IntegrityError, match="not whole"):
        readers.read(body[: len(body) // 2], "spectra")


def parquet(table):
    body = io.BytesIO()
    pq.write_table(table, body)
    return body.getvalue()


def test_a_parquet_file_of_absurdly_many_values_is_refused(monkeypatch):
    body = parquet(
        pa.table({"source_id": pa.array(np.zeros(200_000, np.int64)), "mag": [1.0] * 200_000})
    )
    assert len(body) < 20_000  # run lengths: a small file may hold any number of values
    monkeypatch.setattr(files, "CELLS", 100_000)
    with pytest.raises(IntegrityError, match="states 200000 rows"):
        tables.read(body)


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_parquet_file_never_leaves_a_traceback(seed):
    rng = np.random.default_rng(seed)
    body = bytearray(parquet(pa.table({"source_id": [1, 2, 3], "flux": [[1.0], [2.0], [3.0]]})))
    for place in rng.integers(4, len(body), 6):
        body[place] = rng.integers(256)
    with contextlib.suppress(MmclipError):
        readers.read(bytes(body), "spectra")


ENTITIES = b"""<?xml version="1.0"?>
<!DOCTYPE VOTABLE [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<VOTABLE><RESOURCE><TABLE><FIELD name="t" datatype="double"/><DATA><TABLEDATA>
<TR><TD>&b;</TD></TR></TABLEDATA></DATA></TABLE></RESOURCE></VOTABLE>"""


@pytest.mark.parametrize(
    "body",
    [
        ENTITIES,
        ENTITIES.replace(b"VOTABLE", b"VOSOURCE"),
        b'<?xml version="1.0"?><!DOCTYPE VOTABLE [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b"<VOTABLE>&x;</VOTABLE>",
        b"<?xml version='1.0'?>" + b"<!-- -->" * 90_000 + ENTITIES.split(b"?>", 1)[1],
    ],
)
def test_xml_that_declares_entities_is_not_read(body):
    with pytest.raises(IntegrityError, match="entities"):
        readers.read(body, "photometry")


def test_xml_in_utf16_is_refused():
    with pytest.raises(IntegrityError):
        readers.read(ENTITIES.decode().encode("utf-16"), "photometry")


class Harm:
    """Says so when it is unpickled."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_never_loaded(protocol):
    with pytest.raises(UsageError, match="is a pickle"):
        readers.read(pickle.dumps(Harm(), protocol), "spectra")


def test_objects_in_an_npz_file_are_never_loaded():
    body = io.BytesIO()
    np.savez(body, flux=np.array([Harm()], object), source_id=np.array([1]))
    with pytest.raises(IntegrityError, match="holds objects"):
        readers.read(body.getvalue(), "spectra")


def test_a_plain_npz_file_is_a_table():
    body = io.BytesIO()
    np.savez(body, flux=np.ones((2, 3)), source_id=np.array([4295806720, 34361129088]))
    table = tables.read(body.getvalue())
    assert table["source_id"].to_pylist() == [4295806720, 34361129088]
    assert table["flux"].to_pylist() == [[1.0] * 3] * 2


def test_a_zip_bomb_is_refused():
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("flux.npy", bytes(80 << 20))
    with pytest.raises(IntegrityError, match="unpacks from"):
        readers.read(body.getvalue(), "spectra")


def test_an_npy_header_that_states_absurdly_much_is_refused():
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (10000000000000,), }"
    text = text.ljust(117) + b"\n"
    member = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as packed:
        packed.writestr("flux.npy", member)
    with pytest.raises(IntegrityError):
        readers.read(body.getvalue(), "spectra")


def test_a_picture_of_absurdly_many_pixels_is_refused():
    body = (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR"
        + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0) + b"\0\0\0\0"
    )  # fmt: skip
    with pytest.raises(IntegrityError):
        readers.read(body, "image")


def test_a_tile_compressed_image_is_refused_with_what_to_do():
    unit = fits.CompImageHDU(np.ones((50, 50), "f4"))
    with pytest.raises(IntegrityError, match="tile-compressed") as caught:
        readers.read(made_files.packed([fits.PrimaryHDU(), unit]), "image")
    assert "funpack" in caught.value.hint


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "empty"), (b"   \n\n", "empty"), (b"# only a comment\n", "no rows"),
        (b"<!DOCTYPE html><html>log in</html>", "HTML page"),
        (b"\x00\x01\x02\x03" * 50, "no format that mmclip knows"),
        (b"a b c\n1 2\n3 4 5\n", "words"), (b"{not json", "not a"),
    ],
)  # fmt: skip
def test_what_is_no_data_is_named(body, says):
    with pytest.raises(IntegrityError, match=says):
        readers.read(body, "photometry")


def test_a_file_that_is_not_there_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no file"):
        readers.read(tmp_path / "nothing.fits", "spectra")


# HDF5


def hdf5(fill):
    """The bytes of an HDF5 file that `fill` filled."""
    h5py = pytest.importorskip("h5py")
    body = io.BytesIO()
    with h5py.File(body, "w") as file:
        fill(file, h5py)
    return body.getvalue()


def outside(file, h5py):
    file["flux"] = h5py.ExternalLink("/etc/hostname", "/")


def absurd(file, h5py):
    file.create_dataset("flux", shape=(10**12,), dtype="f8", chunks=(1000,))


def external(file, h5py):
    file.create_dataset("flux", shape=(4,), dtype="i1", external=[("/etc/hostname", 0, 4)])


def cut(file, h5py):
    file["spectrum_flux"] = np.ones((3, 5))
    file["object_id"] = np.arange(4)


@pytest.mark.parametrize(
    ("fill", "says"),
    [(outside, "leads out"), (external, "leads out"), (absurd, "states"), (cut, "misaligned")],
)
def test_hostile_hdf5_files_are_refused(fill, says):
    with pytest.raises(IntegrityError, match=says):
        mmu.hdf5(hdf5(fill))


# Ids


@pytest.mark.parametrize("name", ["/etc/passwd", "../../x", "~root", "a\x00b", "..\\x"])
def test_names_that_look_like_paths_are_rejected_row_by_row(name):
    table = pa.table({"name": [name, "RR Lyr"], "time": [[1.0]] * 2, "mag": [[12.0]] * 2})
    made = lightcurves.from_table(table, readers.Options(), "made")
    assert made["reason"].to_pylist() == ["the object's name looks like a path", None]


def test_an_id_column_of_floats_is_refused():
    text = b"source_id,mag\n4.611686018427388e18,1\n"
    with pytest.raises(UsageError, match="read as floats") as caught:
        readers.read(text, "metadata")
    assert "int64" in caught.value.hint


def test_a_targetid_beyond_2_to_the_53_in_floats_is_refused():
    table = pa.table({"TARGETID": [39633300968442591.0], "Z": [0.1]})
    with pytest.raises(UsageError, match="read as floats"):
        identity.identify(table, None, "made")
    small = pa.table({"TARGETID": [12702.0, None], "Z": [0.1, 0.2]})
    assert identity.identify(small, None, "made")[1].to_pylist() == ["12702", None]


@pytest.mark.parametrize(
    ("written", "number", "reason"),
    [
        ("Gaia DR3 4295806720", 4295806720, ""), ("EDR3 4295806720", 4295806720, ""),
        ("Gaia DR2 4295806720", None, "Gaia DR2"), ("Vega", None, "not a Gaia source_id"),
        ("-17", None, "not a Gaia source_id"), ("6917529027641081856", None, "not a Gaia"),
        ("../4295806720", None, "not a Gaia"),
    ],
)  # fmt: skip
def test_ids_of_every_spelling(written, number, reason):
    got, why = identity.gaia_id(written)
    assert got == number
    assert reason in why


def test_the_edr3_column_of_asassn_beats_its_own_source_id():
    table = pa.table({"source_id": [17, 18], "edr3_source_id": ["EDR3 4295806720", None],
                      "asassn_name": ["ASASSN-V J1", "ASASSN-V J2"]})  # fmt: skip
    ids, names, reasons = identity.identify(table, None, "made")
    assert ids.to_pylist() == [4295806720, None]
    assert names.to_pylist() == ["ASASSN-V J1", "ASASSN-V J2"]
    assert reasons == ["", ""]


def test_lamosts_gaia_column_is_taken_only_when_named():
    table = pa.table({"obsid": [101005], "gaia_source_id": ["4295806720"]})
    assert identity.identify(table, None, "made")[0].to_pylist() == [None]
    assert identity.identify(table, "gaia_source_id", "made")[0].to_pylist() == [4295806720]


def test_local_ids_are_the_hash_that_the_documentation_states():
    import hashlib

    digest = hashlib.sha256(b"css\x003025001014168").hexdigest()
    expected = 3 * 2**61 + int(bin(int(digest, 16) | 1 << 256)[3:64], 2)
    assert identity.local_id("css", "3025001014168") == expected


def test_no_local_id_can_be_a_gaia_id():
    last = 12 * 4**12 - 1  # the last HEALPix pixel of level 12
    largest = (last << 35) + 2**35 - 1
    made = np.array([identity.local_id("made", str(i)) for i in range(5000)])
    assert made.min() > largest
    assert made.max() < 2**63
    assert len(np.unique(made)) == 5000
    assert identity.is_local(made).all()
    real = pq.read_table(shared("variables", "asassn_gaia", "gaia_dr3_variables_20k.parquet"))
    assert not identity.is_local(real["source_id"].to_numpy()).any()
