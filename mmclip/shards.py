"""Shards of a stage: made one by one, in any order and place, and joined into the whole.

Shard i of n of an artefact `NAME` lies in `.parts-NAME/i-of-n`, out of sight of other commands,
under a manifest that says what it was made from and with; so a lost one costs only itself.
"""

import shutil
from pathlib import Path
from typing import Any

from mmclip import artifacts
from mmclip.artifacts import Artifact
from mmclip.errors import NotFound, UsageError

NAMED = 20  # missing shards that a message lists


def read(text: str | None) -> tuple[int, int] | None:
    """`i/n` as (i, n).

    Raises:
        UsageError: If it is not 1 <= i <= n.
    """
    if text is None:
        return None
    first, _, second = text.partition("/")
    if first.isdecimal() and second.isdecimal() and 1 <= int(first) <= int(second):
        return int(first), int(second)
    raise UsageError(f"--shard '{text}' is not i/n with i from 1 to n", "--shard 1/4")


def asked(shard: str | None, merge: int | None) -> tuple[int, int] | None:
    """The shard that is asked for; not together with a merge.

    Raises:
        UsageError: If both are asked for, or the shard is none.
    """
    if shard is not None and merge is not None:
        raise UsageError("--shard makes one part, --merge joins them all", "first one, then other")
    return read(shard)


def block(shard: int, shards: int, count: int) -> slice:
    """Places of shard 1..shards among `count`: contiguous, disjoint, and together all of them."""
    return slice((shard - 1) * count // shards, shard * count // shards)


def places(final: Path, shards: int) -> list[Path]:
    """Where the shards of an artefact lie until they are joined, first shard first."""
    return [folder(final) / f"{i}-of-{shards}" for i in range(1, shards + 1)]


def folder(final: Path) -> Path:
    """The directory of them all."""
    return final.with_name(f".parts-{final.name}")


def label(shard: int, shards: int, identity: dict[str, Any]) -> dict[str, Any]:
    """The configuration in the manifest of a shard."""
    return identity | {"shard": shard, "shards": shards}


def gather(
    final: Path, shards: int, command: str, parents: list[dict[str, str]], identity: dict[str, Any]
) -> list[Artifact]:
    """The shards of an artefact, each whole and made from and with the same.

    Args:
        final: The artefact they become.
        shards: How many there are.
        command: What makes a shard, without --shard: `mmclip embed`.
        parents: What each must have been made from.
        identity: The settings each must have been made with.

    Raises:
        NotFound: Naming every shard that is missing and what makes it.
        UsageError: If a shard was made from something else or with other settings.
        IntegrityError: If a file of one is damaged.
    """
    here = places(final, shards)
    lost = [i for i, p in enumerate(here, 1) if not (p / artifacts.MANIFEST).is_file()]
    if lost:
        raise NotFound(*_missing(here, lost, command))
    return [
        artifacts.verify(_fitting(final, i, shards, command, parents, identity))
        for i in range(1, shards + 1)
    ]


def done(
    final: Path,
    shard: int,
    shards: int,
    command: str,
    parents: list[dict[str, str]],
    identity: dict[str, Any],
) -> bool:
    """Whether this shard is there already, made from and with the same; see `gather`.

    Raises:
        UsageError: If one is there that was made from something else or with other settings.
    """
    if not (places(final, shards)[shard - 1] / artifacts.MANIFEST).is_file():
        return False
    _fitting(final, shard, shards, command, parents, identity)
    return True


def _fitting(
    final: Path,
    number: int,
    shards: int,
    command: str,
    parents: list[dict[str, str]],
    identity: dict[str, Any],
) -> Artifact:
    made = artifacts.read(places(final, shards)[number - 1])
    wanted = label(number, shards, identity)
    differ = sorted(k for k in wanted if made.manifest.config.get(k) != wanted[k])
    if made.manifest.parents != parents:
        differ = ["from " + ", ".join(p["name"] for p in made.manifest.parents), *differ]
    if differ:
        raise UsageError(
            f"shard {number} of {shards} of '{final.name}' was made otherwise: {', '.join(differ)}",
            f"{command} --shard {number}/{shards} --force",
        )
    return made


def _missing(here: list[Path], lost: list[int], command: str) -> tuple[str, str]:
    numbers = ",".join(map(str, lost[:NAMED])) + (",..." if lost[NAMED:] else "")
    parent, shards = here[0].parent, len(here)
    beside = {p.name.rpartition("-of-")[2] for p in parent.glob("[0-9]*-of-[0-9]*")}
    other = sorted(n for n in beside if n != str(shards) and n.isdecimal())
    also = f"; shards of {', '.join(other)} lie there" if other else ""
    return (
        f"{len(lost)} of {shards} shards of '{parent.name.removeprefix('.parts-')}' are not there "
        f"yet: {numbers}{also}",
        f"{command} --shard {lost[0]}/{shards}, with its other options as they were"
        + (f"; in a Slurm array: sbatch --array={numbers}" if len(lost) <= NAMED else ""),
    )


def forget(final: Path) -> None:
    """Remove the shards: they are joined."""
    shutil.rmtree(folder(final), ignore_errors=True)
