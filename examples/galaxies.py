"""Raw artefacts from galaxy images and image + spectrum pairs on this disk.

    python examples/galaxies.py GALAXIES WORKSPACE            raw/galaxy-zoo, raw/sdss-pairs

GALAXIES is a folder with galaxy_zoo_spiral/galaxy_zoo_spiral.parquet (display colours, spiral or
not) and sdss_legacy_pairs/sdss_legacy_pairs.parquet (ten galaxies with image, spectrum, redshift).
Galaxies have no Gaia source_id: the id here is a hash of the survey's own. What to do then stands
in docs/experiments.md.
"""

import hashlib
import io
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from matplotlib import image as pictures

from mmclip.datasets import ingest
from mmclip.surveys import Fetched, Request, Survey
from mmclip.surveys.demo import table


def galaxy_id(name: str) -> int:
    """A positive 63-bit id from a name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1


def collect(root: Path, name: str, title: str, tables: dict[str, pa.Table]) -> None:
    """Write tables as the raw artefact `name`."""
    views = {n: "observed" for n in tables if n != "objects"}
    survey = Survey(name, title, "as on disk", (), lambda request: Fetched(tables, views))
    artifact = ingest.collect(survey, Request(), root / "raw" / name, True)
    print(f"{artifact.path}: {artifact.manifest.rows['objects']} galaxies")


def picture(body: bytes, kind: str) -> np.ndarray:
    """Red, green, blue from 0 to 1, [3, height, width]."""
    pixels = np.asarray(pictures.imread(io.BytesIO(body), kind), np.float32)
    if kind == "jpeg":
        pixels = pixels / 255
    return pixels[:, :, :3].transpose(2, 0, 1)


def galaxy_zoo(file: Path, root: Path) -> None:
    """1,500 pictures of 69 x 69 pixels and their class."""
    rows = pq.read_table(file).to_pandas()
    rows["id"] = [galaxy_id(f"galaxy zoo {g}") for g in rows["galaxy_id"]]
    rows = rows.sort_values("id")
    ids, nowhere = rows["id"].to_numpy(np.int64), np.full(len(rows), np.nan)
    images = np.stack([picture(b, "png") for b in rows["image_png"]]).reshape(len(rows), -1)
    columns = {
        "source_id": ids,
        "ra": nowhere,
        "dec": nowhere,
        "class": rows["class"].to_numpy(str),
    }
    view = table({"source_id": ids, "image": images})
    collect(root, "galaxy-zoo", "Galaxy Zoo 2", {"objects": table(columns), "image": view})


def pairs(file: Path, root: Path) -> None:
    """Ten galaxies: the centre of the Legacy Survey picture, the SDSS spectrum, the redshift."""
    rows = pq.read_table(file).to_pandas()
    rows["id"] = [galaxy_id(f"sdss {o}") for o in rows["objid"]]
    rows = rows.sort_values("id")
    ids = rows["id"].to_numpy(np.int64)
    images = np.stack([picture(b, "jpeg") for b in rows["image_jpeg"]])
    middle = images.shape[2] // 2
    cut = images[:, :, middle - 76 : middle + 76, middle - 76 : middle + 76]
    with np.errstate(divide="ignore"):
        sigma = [np.where(i > 0, 1 / np.sqrt(i), np.nan).astype("f4") for i in rows["ivar"]]
    objects = {"source_id": ids, "ra": rows["ra_deg"].to_numpy(), "dec": rows["dec_deg"].to_numpy(),
               "redshift": rows["redshift"].to_numpy()}  # fmt: skip
    spectra = pa.table(
        {"source_id": ids, "wavelength": list(rows["wave"]), "flux": list(rows["flux"]),
         "sigma": sigma, "redshift": rows["redshift"].to_numpy()}
    )  # fmt: skip
    image = table({"source_id": ids, "image": cut.reshape(len(rows), -1)})
    views = {"objects": table(objects), "image": image, "spectra": spectra}
    collect(root, "sdss-pairs", "SDSS and Legacy Survey", views)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    folder, workspace = Path(sys.argv[1]), Path(sys.argv[2])
    galaxy_zoo(folder / "galaxy_zoo_spiral" / "galaxy_zoo_spiral.parquet", workspace)
    pairs(folder / "sdss_legacy_pairs" / "sdss_legacy_pairs.parquet", workspace)
