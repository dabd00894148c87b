"""A workspace: `raw/`, `data/`, `runs/`, `vectors/`, `maps/`, `reports/` under one directory.

A command that is given no artefact takes the newest of the kind it needs.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from mmclip import artifacts
from mmclip.artifacts import bundled, hub
from mmclip.errors import MmclipError, NotFound, UsageError

FOLDERS = {
    "raw": "raw", "data": "data", "run": "runs", "decoder": "decoders", "adapter": "adapters",
    "encoder": "encoders", "vectors": "vectors", "index": "indexes", "generated": "generated",
    "head": "heads", "map": "maps", "report": "reports",
}  # fmt: skip
MAKERS = {
    "raw": "mmclip fetch --survey demo",
    "data": "mmclip preprocess",
    "run": "mmclip train",
    "vectors": "mmclip embed",
    "index": "mmclip index --add",
    "decoder": "mmclip train-decoder",
    "generated": "mmclip generate --all",
    "head": "mmclip predict",
    "map": "mmclip map",
    "adapter": "mmclip adapt --from DATA --data DATA --target feh",
    "encoder": "mmclip pretrain --modality image --method moco",
    "report": "mmclip demo",
}
LONGEST = 160  # bytes of a name: it is a part of longer names of files


@dataclass(frozen=True)
class Workspace:
    """The directory that holds a project's artefacts."""

    root: Path

    def place(self, kind: str, name: str) -> Path:
        """Where the artefact `name` of a kind lies.

        Raises:
            UsageError: If the name is not a plain file name, or too long for one.
        """
        if not name or name.startswith(".") or Path(name).name != name or "\0" in name:
            raise UsageError(
                f"'{name}' cannot name an artefact", "use letters, digits, '-' and '_'"
            )
        if len(os.fsencode(name)) > LONGEST:
            raise UsageError(
                f"'{name[:40]}...' is too long a name: {len(os.fsencode(name))} bytes",
                f"at most {LONGEST} bytes",
            )
        return self.root / FOLDERS[kind] / name

    def all(self, kind: str) -> list[artifacts.Artifact]:
        """Every whole artefact of a kind, oldest first."""
        folder = self.root / FOLDERS[kind]
        try:
            inside = [p for p in folder.iterdir() if not p.name.startswith(".")]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise MmclipError(f"{folder} cannot be read: {error.strerror}") from error
        whole = [p for p in inside if (p / artifacts.MANIFEST).is_file()]
        found = [(p / artifacts.MANIFEST).stat().st_mtime_ns for p in whole]
        return [artifacts.read(p) for _, p in sorted(zip(found, whole, strict=True))]

    def fitting(self, views: tuple[str, ...] = ()) -> list[artifacts.Artifact]:
        """The raw artefacts that hold any of the views, newest first; all of them if none asked.

        Raises:
            NotFound: If there is no raw artefact at all.
        """
        newest = self.get("raw")
        every = list(reversed(self.all("raw")))
        found = [a for a in every if not views or set(views) & set(a.manifest.provenance)]
        return found or [newest]

    def get(self, kind: str, name: str | None = None) -> artifacts.Artifact:
        """The artefact `name` (in the workspace, a path, `hf://owner/name@revision`, or `bundled`
        for the run or head that comes with mmclip), or the newest of its kind.

        Raises:
            NotFound: If there is none, naming the command that makes one.
        """
        if name is None:
            found = self.all(kind)
            if not found:
                raise NotFound(
                    f"the workspace '{self.root}' has no {kind} artefact yet",
                    f"make one with: {MAKERS[kind]}   (or see it all at once: mmclip demo)",
                )
            return found[-1]
        if name.startswith(hub.SCHEME):
            return hub.pull(name, kind, lambda local: self.place(kind, local))
        if name == bundled.NAME and kind in bundled.KINDS:
            return bundled.artefact(kind, lambda local: self.place(kind, local))
        path = Path(name)
        if not (path / artifacts.MANIFEST).is_file():
            path = self.place(kind, name) if path.name == name else path
        if not path.exists():
            known = ", ".join(a.path.name for a in self.all(kind)) or "none"
            raise NotFound(
                f"there is no {kind} artefact '{name}' in '{self.root}' (there: {known})",
                f"make one with: {MAKERS[kind]}",
            )
        artifact = artifacts.read(path)
        if artifact.manifest.kind != kind:
            raise UsageError(
                f"{path} is a {artifact.manifest.kind} artefact; here a {kind} artefact is needed",
                f"mmclip info {path}",
            )
        return artifact

    def find(
        self, text: str, kinds: tuple[str, ...] = artifacts.KINDS, option: str = ""
    ) -> artifacts.Artifact:
        """The artefact that a text names: a path, or a name among those of some kinds.

        Args:
            text: `runs/demo`, a path from here, or `demo` where one artefact alone has that name.
            kinds: Those it may be of.
            option: The option that gave it, and a blank, for the error.

        Raises:
            NotFound: If there is none of that name.
            UsageError: If several kinds have one of that name, or it is of none of the kinds.
        """
        if text.startswith(hub.SCHEME):
            shared = [k for k in kinds if k in hub.INSIDE]
            return self.get("data" if "datasets/" in text else (shared or ["run"])[0], text)
        for path in (Path(text), self.root / text):
            if (path / artifacts.MANIFEST).is_file():
                found = artifacts.read(path)
                if found.manifest.kind in kinds:
                    return found
                return self.get(kinds[0], str(path))
        every = [a for k in kinds for a in self.all(k)]
        named = [a for a in every if a.path.name == text]
        if not named:
            known = [f"{a.path.parent.name}/{a.path.name}" for a in every]
            raise NotFound(
                f"{option}'{text}' is no {_listed(kinds)} of '{self.root}'",
                f"there: {', '.join(known) or 'none; mmclip preprocess makes one'}",
            )
        if len(named) > 1:
            both = [f"{a.path.parent.name}/{a.path.name}" for a in named]
            raise UsageError(f"{option}'{text}' may be {' or '.join(both)}", f"{option}{both[0]}")
        return named[0]

    def parent(self, artifact: artifacts.Artifact, kind: str) -> artifacts.Artifact:
        """The artefact of `kind` from which another was made, found by its fingerprint.

        Raises:
            NotFound: If it is no longer in the workspace or was made again since.
        """
        wanted = [p for p in artifact.manifest.parents if p["kind"] == kind]
        for reference in wanted:
            path = self.place(kind, reference["name"])
            if (path / artifacts.MANIFEST).is_file():
                found = artifacts.read(path)
                if found.manifest.fingerprint == reference["fingerprint"]:
                    return found
        named = wanted[0]["name"] if wanted else "?"
        raise NotFound(
            f"the {kind} artefact '{named}' from which {artifact.path} was made is gone or changed",
            f"make it again with: {MAKERS[kind]}",
        )


def _listed(kinds: tuple[str, ...]) -> str:
    if kinds == artifacts.KINDS:
        return "artefact"
    words = ["data set" if k == "data" else k for k in kinds]
    return ", ".join(words[:-1]) + f" or {words[-1]}"


def default_root() -> Path:
    """`$MMCLIP_WORKSPACE`, or `mmclip-work` in the current directory."""
    return Path(os.environ.get("MMCLIP_WORKSPACE", "mmclip-work"))
