"""Objects that Gaia does not number: local ids by DESI TARGETID, and what a survey selected.

Ids are those of `mmclip import`: 3 x 2^61 plus a hash of `desi` and the TARGETID, as
`mmclip.ids` has it, so galaxies that were fetched join galaxies that were imported.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mmclip.errors import IntegrityError, MissingExtra
from mmclip.ids import local_id
from mmclip.readers import files, mmu
from mmclip.surveys import Request


def local_ids(targetid: NDArray[Any]) -> NDArray[np.int64]:
    """The local id of each TARGETID; 0 where it is not positive."""
    return np.array([local_id("desi", str(t)) if t > 0 else 0 for t in targetid.tolist()], np.int64)


def followed(request: Request) -> dict[str, NDArray[Any]]:
    """What the first survey said of the objects asked for: source_id, ra, dec (deg), targetid."""
    rows = list(zip(*request.known, strict=True)) or [(), (), (), ()]
    kinds = {"source_id": np.int64, "ra": np.float64, "dec": np.float64, "targetid": np.int64}
    return {n: np.array(v, k) for (n, k), v in zip(kinds.items(), rows, strict=True)}


def hdf5_columns(path: Path, wanted: dict[str, str]) -> dict[str, NDArray[Any]]:
    """Some columns of an HDF5 table: a compound dataset as astropy writes it, or one dataset each.

    Args:
        path: The file.
        wanted: Our name -> the file's, in any case; what the file lacks is left out.

    Raises:
        MissingExtra: If h5py is not installed.
        IntegrityError: If there is no such table, or columns differ in length.
    """
    try:
        import h5py
    except ImportError:
        raise MissingExtra("HDF5 files need h5py", "pip install 'mmclip[mmu]'") from None
    with files.reading(path.name, "HDF5"), h5py.File(path, "r") as file:
        own = {n: file[n] for n in file if isinstance(file.get(n, getlink=True), h5py.HardLink)}
        sets = {n: d for n, d in own.items() if isinstance(d, h5py.Dataset) and not d.external}
        for title, dataset in sets.items():
            mmu.sane(dataset, f"{path.name}: {title}", path.stat().st_size)
        compound = next((d for d in sets.values() if d.dtype.names), None)
        held = list(compound.dtype.names if compound is not None else sets)
        upper = {n.upper(): n for n in held}
        found = {}
        for ours, theirs in wanted.items():
            name = upper.get(theirs.upper())
            if name is not None:
                values = compound.fields(name)[:] if compound is not None else sets[name][()]
                found[ours] = np.asarray(values).astype(values.dtype.newbyteorder("="))
    if len({len(v) for v in found.values()}) != 1:
        raise IntegrityError(
            f"{path.name} holds no table of galaxies (it has: {', '.join(held)[:200]})",
            "give the HDF5 file of the catalogue as it is published",
        )
    return found
