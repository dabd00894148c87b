"""Every kind of file that mmclip reads or writes, whole, and how each is read."""

import contextlib
import gzip
import io
import json
import os
import shutil
import zipfile
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.io import fits

from mmclip import artifacts, config, readers
from mmclip.artifacts import paths
from mmclip.cli import run
from mmclip.errors import MmclipError
from tests import made_files
from tests.benchmarks.mutations import Kind
from tests.conftest import fetch_made, made_stars
from tests.natives import natives

HEAD = ["--target", "teff,class", "--data", "one", "--bootstrap", "0"]
TOML = """
[train]
epochs = 1
generator_epochs = 1
width = 16
dimension = 8
batch = 32
[train-decoder]
epochs = 1
batch = 32
[adapt]
source_epochs = 1
source_batch = 32
epochs = 1
batch = 32
seeds = 1
sizes = ["0", "all"]
methods = ["lora"]
[pretrain]
epochs = 1
batch = 32
"""


def every(folder, only=""):
    """All kinds whose name holds `only`, their files made in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    loose = folder / "loose"
    loose.mkdir(exist_ok=True)
    groups = [
        lambda: observed(loose), lambda: tables_(loose), lambda: answers(loose),
        lambda: native(folder / "native"), lambda: settings(loose), lambda: weights(loose),
        lambda: cache(folder / "cache"), lambda: real(loose), lambda: made(folder / "work"),
        lambda: beside(folder / "work", folder / "beside"),
    ]  # fmt: skip
    kinds = [kind for group in groups for kind in group()]
    return [kind for kind in kinds if only in kind.name]


def put(folder, name, body):
    """A file with this content."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(body)
    return path


def view(name, **options):
    """A reader of `mmclip import`."""
    return lambda path: readers.read(path, name, readers.Options(**options))


def summed_fits():
    """A LAMOST table whose HDUs carry CHECKSUM and DATASUM."""
    with fits.open(io.BytesIO(gzip.decompress(made_files.lamost_new()))) as units:
        body = io.BytesIO()
        units.writeto(body, checksum=True)
    return body.getvalue()


def observed(folder):
    """Files of surveys, as `mmclip import` reads them."""
    picture = io.BytesIO()
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(picture, "PNG")
    photo = io.BytesIO()
    Image.fromarray(pixels).save(photo, "JPEG")
    list_ = [
        ("PNG", "g.png", picture.getvalue(), "image"),
        ("JPEG", "h.jpg", photo.getvalue(), "image"),
    ]
    kinds = [Kind(n, (put(folder, f, b),), view(v)) for n, f, b, v in list_]
    kinds.append(
        Kind("FITS with CHECKSUM and DATASUM", (put(folder, "s.fits", summed_fits()),),
             view("spectra"), summed=True, blind=("swapped",))
    )  # fmt: skip
    return kinds


def native(folder):
    """A file in the native format of every reader, as the file decides and with `--reader`."""
    kinds, named = [], set()
    for n, one in enumerate(natives()):
        if one.reader == "specutils-loaders" and find_spec("specutils") is None:
            continue
        path = put(folder / str(n), one.file, one.body)
        summed = one.file.endswith(".gz")
        if one.reader != "specutils-loaders":  # which is asked by name alone
            kinds.append(Kind(one.name, (path,), one.read, summed))
        if one.reader not in named:
            read = partial(one.read, by_name=True)
            kinds.append(Kind(f"{one.name}, --reader {one.reader}", (path,), read, summed))
            named.add(one.reader)
    return kinds


def star_table(count=40):
    """Stars with ids of 19 digits, lists and text."""
    rng = np.random.default_rng(3)
    return pa.table(
        {
            "source_id": 4_000_000_000_000_000_007 + 1000 * np.arange(count),
            "ra": rng.uniform(0, 360, count),
            "dec": rng.uniform(-90, 90, count),
            "teff": rng.normal(5000, 800, count),
            "class": [("ROT", "DSCT")[i % 2] for i in range(count)],
        }
    )


def curves(count=6):
    """Light curves, a row a star."""
    rng = np.random.default_rng(4)
    return pa.table(
        {
            "object_name": [f"V{i}" for i in range(count)],
            "time": [np.sort(rng.uniform(2455000, 2458000, 50)) for _ in range(count)],
            "mag": [rng.normal(12, 0.3, 50) for _ in range(count)],
            "error": [np.full(50, 0.02) for _ in range(count)],
        }
    )


def as_text(table, delimiter=","):
    """A flat table as text."""
    lines = [delimiter.join(table.column_names)]
    lines += [delimiter.join(str(v) for v in row.values()) for row in table.to_pylist()]
    return ("\n".join(lines) + "\n").encode()


def as_astropy(table, form):
    """A flat table written by astropy."""
    from astropy.table import Table

    body = io.StringIO() if form == "ascii.ecsv" else io.BytesIO()
    Table({n: table[n].to_pylist() for n in table.column_names}).write(body, format=form)
    written = body.getvalue()
    return written.encode() if isinstance(written, str) else written


def tables_(folder):
    """Tables that users give: catalogues, labels, lists of ids."""
    import h5py

    from mmclip.datasets.labels import read_labels
    from mmclip.readers import mmu, tables
    from mmclip.surveys import catalogue, galaxies, id_list

    stars, packed, lists = star_table(), io.BytesIO(), io.BytesIO()
    pq.write_table(curves(), lists, write_page_checksum=True)
    np.savez_compressed(packed, source_id=np.arange(5) + 10**15, flux=np.ones((5, 30)))
    plain = io.BytesIO()
    np.save(plain, np.ones((5, 30)))
    arrow = io.BytesIO()
    with pa.ipc.new_file(arrow, stars.schema) as sink:
        sink.write_table(stars)
    held = io.BytesIO()
    with h5py.File(held, "w") as file:
        file["object_id"], file["spectrum_flux"] = np.arange(8), np.ones((8, 300), "f4")
        file.create_dataset("spectrum_lambda", data=np.ones((8, 300), "f4"), compression="gzip")
    compound = io.BytesIO()
    with h5py.File(compound, "w") as file:
        kinds = [("TARGETID", "i8"), ("Z", "f4")]
        file["provabgs"] = np.array([(i + 10**15, 0.1) for i in range(50)], kinds)
    csv = as_text(stars)
    table = as_astropy(stars, "fits")
    wanted = {"id": "source_id", "teff": "teff"}

    def packed_catalogue(path):
        return catalogue.fits_columns(catalogue.local(None, "lamost", str(path)), wanted)

    some = {
        "CSV": ("t.csv", csv, tables.read, False),
        "CSV, gzip": ("t.csv.gz", gzip.compress(csv), tables.read, True),
        "ECSV": ("t.ecsv", as_astropy(stars, "ascii.ecsv"), tables.read, False),
        "VOTable": ("t.vot", as_astropy(stars, "votable"), tables.read, False),
        "FITS table": ("t.fits", table, tables.read, False),
        "text in columns": ("t.dat", as_text(stars, " "), tables.read, False),
        "Parquet with page checksums": ("l.parquet", lists.getvalue(), view("photometry"), False),
        "Arrow": ("t.arrow", arrow.getvalue(), tables.read, False),
        "NPZ": ("t.npz", packed.getvalue(), tables.read, False),
        "HDF5": ("t.hdf5", held.getvalue(), lambda p: mmu.normalise(mmu.hdf5(p), "t", "hdf5"),
                 False),
        "labels CSV": ("y.csv", csv, read_labels, False),
        "labels FITS": ("y.fits", table, read_labels, False),
        "labels Parquet": ("y.parquet", _parquet(stars), read_labels, False),
        "ids text": ("i.txt", as_text(stars.select(["source_id"])), id_list.read, False),
        "ids CSV": ("i.csv", csv, id_list.read, False),
        "ids Parquet": ("i.parquet", _parquet(stars), id_list.read, False),
        "ids VOTable": ("i.vot", as_astropy(stars, "votable"), id_list.read, False),
        "catalogue FITS": ("k.fits", table, lambda p: catalogue.fits_columns(p, wanted), False),
        "catalogue FITS, gzip": ("k.fits.gz", gzip.compress(table), packed_catalogue, True),
        "catalogue CSV": ("k.csv", csv, catalogue.text_columns, False),
        "catalogue CSV, gzip": ("k.csv.gz", gzip.compress(csv), catalogue.text_columns, True),
        "catalogue HDF5": ("k.hdf5", compound.getvalue(),
                           lambda p: galaxies.hdf5_columns(p, {"id": "TARGETID", "z": "Z"}),
                           False),
    }  # fmt: skip
    return [Kind(n, (put(folder, f, b),), r, s) for n, (f, b, r, s) in some.items()]


def _parquet(table):
    body = io.BytesIO()
    pq.write_table(table, body, write_page_checksum=True)
    return body.getvalue()


def datalink(form):
    """A DataLink zip with the sampled spectra of three stars."""
    body = io.BytesIO()
    rows = pa.table({"wavelength": 336.0 + 2 * np.arange(343), "flux": np.ones(343) * 1e-16,
                     "flux_error": np.ones(343) * 1e-18})  # fmt: skip
    writers = {"csv": as_text, "fits": lambda t: as_astropy(t, "fits"),
               "xml": lambda t: as_astropy(t, "votable")}  # fmt: skip
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as packed:
        for star in (4295806720, 34361129088, 38655544960):
            member = writers[form](rows)
            packed.writestr(f"XP_SAMPLED-Gaia DR3 {star}.{form}", member)
    return body.getvalue()


def answers(folder):
    """What services send, as it is checked and read before it enters a raw artefact."""
    from mmclip.readers import files
    from mmclip.surveys import asassn, desi, lamost, legacy
    from mmclip.surveys.client import checks, votable
    from mmclip.surveys.client.http import BadAnswer
    from mmclip.surveys.gaia import datalink as _datalink
    from mmclip.surveys.gaia.dr3 import DR3

    def zipped(path):
        checks.archive(path)
        product = DR3.products["sampled"]
        return _datalink.finish(_datalink.parse(path, product, DR3), product)

    def from_archive(path):
        with _closing(asassn.archive(path)) as member:
            try:
                return asassn.curve(member("vardb_files/J1.dat"), "v")
            except KeyError as error:  # counted as "not in the archive"
                raise BadAnswer("no such member") from error

    def checked_spectrum(path):
        lamost._is_spectrum(path)
        return lamost.spectrum(path.read_bytes())

    light = b"HJD mag mag_err\n" + b"".join(b"%.5f 12.3 0.02\n" % (2457e3 + i) for i in range(60))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr("vardb_files/J1.dat", light)
    records = [{"n": 1}, {"targetid": 39633300968442591, "flux": [1.0] * 50, "ivar": [2.0] * 50}]
    cutout = made_files.packed([fits.PrimaryHDU(np.ones((3, 16, 16), "f4"))])
    supernova = {"SN1": {"photometry": [
        {"time": str(56000 + i), "magnitude": "17.1", "e_magnitude": "0.1", "band": "V"}
        for i in range(40)]}}  # fmt: skip
    some = {
        "DataLink zip, CSV": ("d1.zip", datalink("csv"), zipped, False),
        "DataLink zip, FITS": ("d2.zip", datalink("fits"), zipped, False),
        "DataLink zip, VOTable": ("d3.zip", datalink("xml"), zipped, False),
        "TAP answer, VOTable": ("q.vot", as_astropy(star_table(), "votable"), votable.read, False),
        "ASAS-SN curve": ("c.dat", light, lambda p: asassn.curve(p.read_bytes(), "v"), False),
        "ASAS-SN archive, zip": ("c.zip", archive.getvalue(), from_archive, False),
        "SPARCL records, JSON": ("r.json", json.dumps(records).encode(), desi._records, False),
        "Legacy cutout, FITS": ("l.fits", cutout, lambda p: legacy.cutout(p, 3, 16), False),
        "LAMOST spectrum, fetched": ("m.fits.gz", made_files.lamost_new(), checked_spectrum, True),
        "supernova JSON": ("o.json", json.dumps(supernova).encode(), view("photometry"), False),
        "Sky Patrol block, Parquet": ("p.parquet", _parquet(star_table()), files.parquet, False),
    }  # fmt: skip
    return [Kind(n, (put(folder, f, b),), r, s) for n, (f, b, r, s) in some.items()]


@contextlib.contextmanager
def _closing(reader):
    yield reader
    held = getattr(reader, "__self__", None)
    if held is not None:
        held.close()


def settings(folder):
    """Configuration files."""
    from mmclip.clip.settings import TrainConfig

    path = put(folder, "t.toml", TOML.encode())
    return [Kind("TOML", (path,), lambda p: config.resolve(TrainConfig, "train", p, {}))]


def weights(folder):
    """Published weights, and the state of a training."""
    import torch
    from safetensors.torch import save

    from mmclip.encoders import weights as published
    from mmclip.training import checkpoint

    held = {"fc.weight": torch.arange(60.0).reshape(6, 10), "fc.bias": torch.zeros(6)}
    body = io.BytesIO()
    torch.save({"state_dict": held}, body)
    work = folder / "state"
    work.mkdir(exist_ok=True)
    checkpoint.write(work, 7, held, {"metrics": [{"epoch": 1, "loss": 2.5}], "best": 2.5})
    state = tuple(sorted(work.glob("*.*")))
    return [
        Kind("weights .safetensors", (put(folder, "w.safetensors", save(held)),), published.read),
        Kind("weights .pt", (put(folder, "w.pt", body.getvalue()),), published.read),
        Kind("checkpoint", state, lambda p: _or_refused(checkpoint.read(p.parent)), True),
    ]


def beside(work, root):
    """What lies beside artefacts: mapped columns, answers of classifiers, locks."""
    from mmclip.tasks.classify import cache as answers_

    if not root.exists():  # apart: what is damaged there has caches of its own
        shutil.copytree(workspace(work), root)
    for name, place in {"data": "data/one", "vectors": "vectors/vectors"}.items():
        read = _mapped(root / place)
        read(None)
        folder = (root / place).parent / paths.MAPPED / (root / place).name
        held = tuple(sorted(p for p in folder.rglob("*") if p.is_file()))
        yield Kind(f".mapped of {name}", held, read, summed=True)
    cell = answers_.place(root / "vectors" / ".answers-1", views="xp", seed=1)
    guess = answers_.Guesses("forest", np.arange(40) % 3, np.linspace(0, 1, 40))
    answers_.write(cell, answers_.Cell([guess], [{"view": "xp", "share": 1.0}]))
    yield Kind("answers of a classifier", (cell,), lambda p: _or_refused(answers_.read(p)), True)
    yield _locked(root.parent / "locked")


def _mapped(folder):
    """An artefact whose columns are mapped, not held."""

    def read(path):
        from mmclip.datasets import memmap

        memmap._sum.cache_clear()  # as a process that reads it for the first time
        os.environ["MMCLIP_HELD_MB"] = "0"
        try:
            return opened(folder)
        finally:
            del os.environ["MMCLIP_HELD_MB"]

    return read


def _locked(folder):
    """A lock file where the file system has no locks: its holder is gone, so it is taken over."""
    from mmclip.artifacts import locks

    folder.mkdir(parents=True, exist_ok=True)
    held = folder / "lock.held"
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    held.write_text(f"{locks.machine()} {child} 0123456789abcdef")

    def read(path):
        os.utime(path, (0, 0))  # not touched for long, whatever it says
        locks.POLL = 0.01
        try:
            with locks._Beating(folder / "lock", False):
                pass
        except BlockingIOError as error:  # it names a process that is there
            raise MmclipError(str(error)) from error
        return held.exists()

    return Kind("lock file without flock", (held,), read, summed=True)


def _or_refused(found):
    """Nothing found is a refusal."""
    from mmclip.errors import NotFound

    if found is None:
        raise NotFound("nothing that can be believed")
    return found


def cache(root):
    """An answer in the cache, and its entry."""
    from mmclip.surveys.client import cache as _cache

    root.mkdir(parents=True, exist_ok=True)
    part = put(root, "part", b"an answer " * 300)
    name = _cache.key("GET", "https://example.org/a", None)
    entry = _cache.Entry(name, "tap", "https://example.org/a", artifacts.sha256(part), 3000, "now")
    body = _cache.store(root, part, entry)
    files = (body, root / "index" / f"{name}.json")

    def read(path):
        found = _cache.find(root, name)
        list(_cache.entries(root)), _cache.faults(root)
        return _or_refused(found).read_bytes()

    return [Kind("cache entry", files, read, summed=True), under_way(root.parent / "under-way")]


def under_way(work):
    """The ledger of a fetch that is not finished."""
    from mmclip.datasets import ingest as raw
    from mmclip.surveys import Piece

    work.mkdir(exist_ok=True)
    lost = ((4295806720, "xp", "http_404"), (34361129088, "xp", "not_returned"))
    raw._commit(work, "xp-00000", Piece({"xp": star_table()}, lost), work / "xp-00000.json")
    return Kind("ledger of an unfinished fetch", (work / "xp-00000.json",), raw._noted, True)


def real(folder):
    """Files of the surveys themselves, where they are there."""
    from mmclip.readers import tables

    shared = Path(
        os.environ.get("MMCLIP_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data")
    )
    wanted = (
        ("spectra/native/spec-0266-51602-0031.fits", view("spectra"), False),
        ("spectra/native/spec-57287-KP193637N444141V03_sp10-161.fits.gz", view("spectra"), True),
        ("spectra/native/XP_CONTINUOUS_RAW_with_missing_BP.xml", view("xp"), False),
        ("spectra/native/XP_CONTINUOUS_RAW_with_missing_BP.ecsv", view("xp"), False),
        ("spectra/native/XP_CONTINUOUS_RAW_with_missing_BP.fits", view("xp"), False),
        ("spectra/native/gaia_dr3_rvs_Kepler-93.csv", view("rvs"), False),
        ("variables/native/asas_152335.xml", view("photometry"), False),
        ("variables/native/macho_1.4418.1930.fits", view("photometry"), False),
        ("variables/native/osc_SN2013en.json", view("photometry"), False),
        ("variables/native/gaia_dr3_epoch_1003078204548479872.parquet", tables.read, False),
        ("galaxies/native/1237650795683184714.jpeg", view("image"), False),
    )
    there = [(shared / p, r, s) for p, r, s in wanted if (shared / p).is_file()]
    return [
        Kind(f"real {p.name}", (put(folder / "real", p.name, p.read_bytes()),), r, s)
        for p, r, s in there
    ]


# Artefacts


def workspace(root):
    """A workspace of a few made stars that went through every stage."""
    if (root / "made").is_file():
        return root
    root.mkdir(parents=True, exist_ok=True)
    (root / "t.toml").write_text(TOML)
    w, c = ["-w", str(root)], ["--config", str(root / "t.toml")]
    for name, seed in (("one", 1), ("two", 2)):
        fetch_made(root, made_stars(120, seed), name)
    commands = (
        ["preprocess", "--raw", "one", "--name", "one"],
        ["preprocess", "--raw", "two", "--name", "two"],
        ["train", "--data", "one", "--name", "run", *c],
        ["embed", "--data", "one", "--name", "vectors"],
        ["train-decoder", "--from", "metadata", "--to", "xp", "--name", "decoder", *c],
        ["generate", "--from", "metadata", "--to", "xp", "--all", "--name", "generated"],
        ["adapt", "--from", "one", "--data", "data/two", "--target", "teff", "--view", "xp",
         "--holdout", "0.5", "--name", "adapter", *c],
        ["pretrain", "--modality", "xp", "--data", "one", "--name", "encoder", *c],
        ["predict", *HEAD, "--method", "kernel-ridge", "--name", "kernel"],
        ["predict", *HEAD, "--method", "ridge", "--name", "linear"],
        ["predict", *HEAD, "--method", "knn", "--name", "knn"],
    )  # fmt: skip
    for command in commands:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            code = run([*command, *w])
        if code:
            raise RuntimeError(f"mmclip {' '.join(command)}: exit code {code}")
    _map(root)
    (root / "made").touch()
    return root


def _map(root):
    from mmclip.tasks import map as mapping
    from mmclip.vectors.store import Store

    store = Store(artifacts.read(root / "vectors" / "vectors"))
    places = np.random.default_rng(0).normal(size=(len(store.source_id), 2)).astype("f4")
    with artifacts.building(root / "maps" / "map") as folder:
        settings_ = mapping.MapConfig()
        mapping.write(folder, store, places, store.split == "train", settings_)


def opened(folder):
    """Everything that can be read of an artefact, each file under its sum."""
    from mmclip.clip.run import open_run
    from mmclip.datasets import tables
    from mmclip.datasets.build import open_dataset
    from mmclip.datasets.ingest import read_view
    from mmclip.tasks import map as mapping
    from mmclip.tasks.generate.decoder import open_decoder
    from mmclip.tasks.predict import fitted
    from mmclip.tasks.pretrain import open_encoder
    from mmclip.transfer.adapter import open_adapter
    from mmclip.vectors.store import Store

    def vectors(artifact):
        store = Store(artifact)
        found = [
            store.index(n)[0].search(store.vectors(n)[:3], 5) for n in sorted(store.modalities)
        ]
        return store.source_id, store.splits, store.columns, found

    def raw(artifact):
        return [read_view(artifact, n) for n in ("objects", "xp", "metadata", "ledger")]

    def generated(artifact):
        names = [n for n in artifact.manifest.files if n.endswith(".parquet")]
        return [tables.read(artifacts.checked(artifact, n)) for n in names]

    def data(artifact):
        made = open_dataset(artifact)
        return made.objects, made.views

    openers = {
        "raw": raw, "data": data, "run": open_run, "decoder": open_decoder,
        "adapter": open_adapter, "encoder": open_encoder, "vectors": vectors,
        "generated": generated, "map": mapping.read, "head": fitted.read,
    }  # fmt: skip
    artifact = artifacts.read(folder)
    return artifact.manifest, openers[artifact.manifest.kind](artifact)


def made(root):
    """Every artefact: damaged under its manifest; its manifest damaged; and sent by a stranger,
    whose manifest fits the damage."""
    places = {
        "raw": "raw/one", "data": "data/one", "run": "runs/run", "decoder": "decoders/decoder",
        "adapter": "adapters/adapter", "encoder": "encoders/encoder",
        "vectors": "vectors/vectors", "generated": "generated/generated", "map": "maps/map",
        "head of kernel ridge": "heads/kernel", "head of k-NN": "heads/knn",
        "head of ridge": "heads/linear",
    }  # fmt: skip
    workspace(root)
    for name, place in places.items():
        folder = root / place
        files = tuple(
            sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
        )
        read = _reading(folder)
        yield Kind(f"{name} artefact", files, read, summed=True)
        yield Kind(f"{name} artefact, manifest.json", (folder / "manifest.json",), read, True)
        yield Kind(f"{name} artefact, sealed again", files, read, prepare=_sealing(folder))


def _reading(folder):
    return lambda path: opened(folder)


def _sealing(folder):
    """Make the manifest fit what is there now."""

    def seal(path):
        artifacts.manifest.sync = os.fsync = lambda path: (
            None
        )  # a trial need not survive a power cut
        m = artifacts.read(folder).manifest
        artifacts.seal(
            folder, m.kind, config=m.config, parents=m.parents, rows=m.rows, surveys=m.surveys,
            provenance=m.provenance, seed=m.seed, notes=m.notes,
        )  # fmt: skip

    return seal
