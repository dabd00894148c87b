"""What besides settings and parents decides the bytes of a result: code, libraries, threads."""

import functools
import hashlib
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mmclip import __version__
from mmclip.config import Json

# Module -> the packages that bring it. Only those a command has loaded are recorded.
LIBRARIES = {
    "numpy": ("numpy",),
    "scipy": ("scipy",),
    "pyarrow": ("pyarrow",),
    "astropy": ("astropy",),
    "matplotlib": ("matplotlib",),
    "sklearn": ("scikit-learn",),
    "torch": ("torch",),
    "faiss": ("faiss-cpu", "faiss-gpu"),
    "umap": ("umap-learn",),
    "nifty_ls": ("nifty-ls",),
}


@functools.cache
def code() -> str:
    """The first 16 digits of the SHA-256 over the names and contents of mmclip's own files."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for file in sorted(root.rglob("*")):
        if file.suffix in (".py", ".toml", ".html"):
            digest.update(f"{file.relative_to(root).as_posix()}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def now() -> Json:
    """The environment of this process, for a manifest.

    Of torch: the threads of one operation (another number sums in another order), the vector
    instructions of the processor and the name of the GPU, if torch is loaded at all.
    """
    found: Json = {
        "mmclip": __version__,
        "code": code(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "libraries": {
            n: v
            for m, packages in LIBRARIES.items()
            if m in sys.modules
            for n, v in _held(packages)
        },
    }
    torch = sys.modules.get("torch")
    if torch is not None:
        found["threads"] = torch.get_num_threads()
        found["instructions"] = torch.backends.cpu.get_cpu_capability()
        gpu = torch.cuda.is_available()
        found["gpu"] = torch.cuda.get_device_name(0) if gpu else ""
    return found


@functools.cache
def _held(packages: tuple[str, ...]) -> list[tuple[str, str]]:
    held = []
    for name in packages:
        try:
            held.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return held


def differences(recorded: Json) -> list[str]:
    """What of a recorded environment is otherwise here, a phrase each; empty if nothing is."""
    here = now()
    found = [
        f"{name} {recorded[name] or 'none'} (here {here[name] or 'none'})"
        for name in ("mmclip", "code", "machine", "processes", "threads", "instructions", "gpu")
        if name in recorded and name in here and recorded[name] != here[name]
    ]
    if _minor(recorded.get("python", "")) != _minor(here["python"]):
        found.append(f"python {recorded.get('python', 'unknown')} (here {here['python']})")
    for name, wanted in recorded.get("libraries", {}).items():
        held = dict(_held((name,))).get(name, "none")
        if held != wanted:
            found.append(f"{name} {wanted} (here {held})")
    return found


def _minor(text: str) -> str:
    return ".".join(text.split(".")[:2])
