"""Artefacts on a model hub: `hf://owner/name@revision`, through huggingface_hub.

A repository of a run holds the artefact's files at its top; one of a data set holds them under
`artifact/`, beside the files that `datasets` loads. What is downloaded is copied under its
manifest's sums into the workspace; nothing in it is executed.
"""

import importlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mmclip.artifacts import paths
from mmclip.artifacts.build import assembling
from mmclip.artifacts.disk import DISK, link, unwritable
from mmclip.artifacts.manifest import Artifact, read, verify
from mmclip.errors import (
    IntegrityError,
    MissingExtra,
    MmclipError,
    NotFound,
    RemoteError,
    UsageError,
)

SCHEME = "hf://"
INSIDE = {"run": "", "data": "artifact"}  # where a repository of each kind holds the artefact
TYPES: dict[str, Literal["model", "dataset"]] = {"run": "model", "data": "dataset"}
SUFFIXES = (".json", ".toml", ".jsonl", ".safetensors", ".parquet", ".md", ".png", ".adql", ".csv")
LARGEST = 20_000_000_000  # bytes of a data set that are downloaded at once
COMMIT = re.compile(r"[0-9a-f]{40}")
NAME = re.compile(r"[\w][\w.-]*")


@dataclass(frozen=True)
class Address:
    """A repository and a revision of it: a branch, a tag or, best, a commit."""

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + (f"@{self.revision}" if self.revision else "")


def parse(text: str) -> Address:
    """`hf://owner/name@revision`; `hf://datasets/owner/name` is the same of a data set.

    Raises:
        UsageError: If it is none.

    >>> parse("hf://lab/stars@v1"), parse("hf://datasets/lab/stars").revision
    (Address(repository='lab/stars', revision='v1'), None)
    """
    body = text.removeprefix(SCHEME).removeprefix("datasets/").removeprefix("models/")
    repository, at, revision = body.partition("@")
    parts = repository.split("/")
    if len(parts) != 2 or not all(NAME.fullmatch(p) for p in parts) or (at and not revision):
        raise UsageError(f"'{text}' names no repository", "hf://owner/name@revision")
    return Address(repository, revision or None)


def local_name(address: Address, commit: str) -> str:
    """The name in the workspace of what was pulled: `owner--name@0123456789ab`."""
    return f"{address.repository.replace('/', '--')}@{commit[:12]}"


def pull(text: str, kind: str, place: Callable[[str], Path]) -> Artifact:
    """The artefact of an address, downloaded unless the workspace has it; every sum checked.

    Args:
        text: See `parse`. With a commit as its revision nothing is asked of the network when the
            workspace has it; without a revision the newest is taken.
        kind: `run` or `data`.
        place: Name in the workspace -> its directory.

    Raises:
        NotFound: If there is no such repository or revision.
        RemoteError: If the hub is not reached and its cache has nothing either.
        IntegrityError: If a file is not what the manifest says.
        UsageError: If it holds something else than is needed, or no artefact.
    """
    address = parse(text)
    if kind not in INSIDE:
        raise UsageError(f"{text}: a {kind} artefact is not shared on a hub", "a run or a data set")
    if address.revision and COMMIT.fullmatch(address.revision):
        final = place(local_name(address, address.revision))
        if (final / paths.MANIFEST).is_file():
            return read(final)
    snapshot = _download(address, kind)
    final = place(local_name(address, snapshot.name))
    if (final / paths.MANIFEST).is_file():
        return read(final)
    folder = snapshot / INSIDE[kind]
    if not (folder / paths.MANIFEST).is_file():
        raise UsageError(f"{address} holds no {kind} of mmclip", "mmclip push writes one")
    return _copied(read(folder), kind, final)


def _copied(found: Artifact, kind: str, final: Path) -> Artifact:
    """The files that the manifest names, and no others, in their place in the workspace."""
    if found.manifest.kind != kind:
        raise UsageError(f"{found.path} is a {found.manifest.kind} artefact, not a {kind}")
    odd = [n for n in found.manifest.files if not n.endswith(SUFFIXES)]
    if odd:
        raise IntegrityError(f"{found.path} names the file {odd[0]}, which no {kind} has")
    with assembling(final) as temporary:
        for name in (*found.manifest.files, paths.MANIFEST):
            file = found.path / name
            if not file.is_file():
                raise IntegrityError(f"the repository lacks {name}, which its manifest names")
            link(file.resolve(), temporary / name)
        verify(read(temporary))
    return read(final)


def _download(address: Address, kind: str) -> Path:
    """The snapshot in huggingface_hub's cache; its directory is named by the commit."""
    hub = library()
    inside = f"{INSIDE[kind]}/" if INSIDE[kind] else ""
    with _told(address):
        return Path(
            hub.snapshot_download(
                address.repository, repo_type=TYPES[kind], revision=address.revision,
                allow_patterns=[f"{inside}*{s}" for s in SUFFIXES],
                endpoint=os.environ.get("HF_ENDPOINT"),
            )
        )  # fmt: skip


def files(text: str, root: Path, most: int = LARGEST) -> Path:
    """A folder (or file) of a data set on a hub, downloaded under `root`; what is there stays.

    Args:
        text: `hf://datasets/owner/name@revision/folder`; without a folder all of it.
        root: Directory for downloads.
        most: Bytes that are downloaded at most.

    Raises:
        NotFound: If there is no such repository, revision or folder.
        RemoteError: If the hub is not reached.
        UsageError: If it is no address of a data set, or larger than `most`.
    """
    owner, _, rest = text.removeprefix(SCHEME).removeprefix("datasets/").partition("/")
    name, _, inside = rest.partition("/")
    inside = inside.strip("/")
    address = parse(f"{SCHEME}{owner}/{name}")
    if not text.startswith(f"{SCHEME}datasets/") or ".." in inside.split("/"):
        raise UsageError(f"'{text}' is no data set on a hub", "hf://datasets/owner/name/folder")
    hub = library()
    asked: dict[str, Any] = {"repo_type": "dataset", "revision": address.revision}
    above = inside.rpartition("/")[0]
    with _told(address):
        api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        listed = api.list_repo_tree(address.repository, above or None, recursive=True, **asked)
        sizes = {
            f.path: int(f.size)
            for f in listed
            if hasattr(f, "size") and (not inside or f"{f.path}/".startswith(f"{inside}/"))
        }
        if not sizes:
            raise NotFound(f"{address} has no folder '{inside}'", f"{SCHEME}datasets/owner/name")
        if sum(sizes.values()) > most:
            raise UsageError(
                f"{text} holds {sum(sizes.values()) / 1e9:.0f} GB in {len(sizes):,} files; at most "
                f"{most / 1e9:.0f} GB are downloaded at once",
                f"name a folder in it: {text}/{_first_folder(sizes, inside)}",
            )
        there = root / f"{owner}--{name}".replace("@", "--")
        hub.snapshot_download(
            address.repository, **asked, allow_patterns=sorted(sizes), local_dir=there,
            max_workers=4, endpoint=os.environ.get("HF_ENDPOINT"),
        )  # fmt: skip
    return there / inside


def _first_folder(sizes: Mapping[str, int], inside: str) -> str:
    below = [path.removeprefix(inside).strip("/") for path in sizes]
    folders = sorted({path.rpartition("/")[0] for path in below if path.endswith(".parquet")})
    return folders[0] if folders else "FOLDER"


def upload(
    folder: Path, repository: str, kind: str, message: str, private: bool, branch: str | None = None
) -> str:
    """Make a repository hold a folder; the commit.

    Args:
        folder: Its files.
        repository: `owner/name`; made unless it is there.
        kind: `run` or `data`.
        message: Of the commit.
        private: Whether a new repository is shown to its owner alone.
        branch: `main` if None.

    Raises:
        UsageError: If the hub refuses: no token, or no right to write there.
        RemoteError: If the hub is not reached.
    """
    address = parse(SCHEME + repository)
    hub = library()
    with _told(address):
        api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        api.create_repo(repository, repo_type=TYPES[kind], private=private, exist_ok=True)
        made = api.upload_folder(
            repo_id=repository, repo_type=TYPES[kind], folder_path=folder, revision=branch,
            commit_message=message,
        )  # fmt: skip
    return str(made.oid)


def library() -> Any:
    """huggingface_hub.

    Raises:
        MissingExtra: If it is not installed.
    """
    try:
        return importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise MissingExtra(
            "a hub needs huggingface_hub, which is not installed", "pip install 'mmclip[hub]'"
        ) from error


@contextmanager
def _told(address: Address) -> Iterator[None]:
    """What the library raises, in one sentence."""
    errors = importlib.import_module("huggingface_hub.errors")
    try:
        yield
    except MmclipError:
        raise
    except errors.GatedRepoError as error:
        raise UsageError(f"{address} is gated", "ask for access, then: hf auth login") from error
    except errors.RepositoryNotFoundError as error:
        raise NotFound(
            f"there is no repository {address.repository} (or it is private)", "hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NotFound(
            f"{address.repository} has no revision '{address.revision}'", "leave @REVISION out"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise RemoteError(
            f"{address} is not in the cache and the hub is not reached",
            "try again with a network, or unset HF_HUB_OFFLINE",
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            raise UsageError(f"the hub refuses {address}: {status}", "hf auth login") from error
        raise RemoteError(f"the hub answered {status} for {address}", "try again later") from error
    except (OSError, errors.OfflineModeIsEnabled) as error:
        if isinstance(error, OSError) and error.errno in DISK:
            raise unwritable(Path(error.filename or "the cache"), error) from error
        raise RemoteError(f"the hub is not reached: {error}", "try again later") from error
