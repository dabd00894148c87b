"""Shards of a stage: made one by one, in any order and place, and joined into the whole.

Shard i of n of an artefact `NAME` lies in `.parts-NAME/i-of-n`, out of sight of other commands,
under a manifest that says what it was made from and with; so a lost one costs only itself.
"""

from dataclasses import dataclass
from pathlib import Path

from mmclip import artifacts
from mmclip.artifacts import Artifact, Json, Reference, paths
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


@dataclass(frozen=True)
class Cut:
    """An artefact that is made in shards.

    Attributes:
        final: The artefact they become.
        shards: How many there are.
        command: What makes a shard, without --shard: `mmclip embed`.
        parents: What each must have been made from.
        identity: The settings each must have been made with, as JSON values.
    """

    final: Path
    shards: int
    command: str
    parents: list[Reference]
    identity: Json

    def place(self, shard: int) -> Path:
        """Where shard 1..shards lies until all are joined."""
        return folder(self.final) / paths.shard(shard, self.shards)

    def config(self, shard: int) -> Json:
        """The configuration in the manifest of a shard."""
        return self.identity | {"shard": shard, "shards": self.shards}


def gather(cut: Cut) -> list[Artifact]:
    """The shards of an artefact, first shard first, each whole and made from and with the same.

    Raises:
        NotFound: Naming every shard that is missing and what makes it.
        UsageError: If a shard was made from something else or with other settings.
        IntegrityError: If a file of one is damaged.
    """
    numbers = range(1, cut.shards + 1)
    lost = [i for i in numbers if not (cut.place(i) / paths.MANIFEST).is_file()]
    if lost:
        raise NotFound(*_missing(cut, lost))
    return [artifacts.verify(_fitting(cut, i)) for i in numbers]


def done(cut: Cut, shard: int) -> bool:
    """Whether this shard is there already, made from and with the same.

    Raises:
        UsageError: If one is there that was made from something else or with other settings.
    """
    if not (cut.place(shard) / paths.MANIFEST).is_file():
        return False
    _fitting(cut, shard)
    return True


def folder(final: Path) -> Path:
    """The directory of all shards of an artefact."""
    return final.with_name(paths.shards(final.name))


def _fitting(cut: Cut, shard: int) -> Artifact:
    made = artifacts.read(cut.place(shard))
    wanted = cut.config(shard)
    differ = sorted(k for k in wanted if made.manifest.config.get(k) != wanted[k])
    if made.manifest.parents != cut.parents:
        differ = ["from " + ", ".join(p["name"] for p in made.manifest.parents), *differ]
    if differ:
        raise UsageError(
            f"shard {shard} of {cut.shards} of '{cut.final.name}' was made otherwise: "
            f"{', '.join(differ)}",
            f"{cut.command} --shard {shard}/{cut.shards} --force",
        )
    return made


def _missing(cut: Cut, lost: list[int]) -> tuple[str, str]:
    numbers = ",".join(map(str, lost[:NAMED])) + (",..." if lost[NAMED:] else "")
    beside = folder(cut.final).glob(paths.shard("[0-9]*", "[0-9]*"))
    other = sorted({p.name.rpartition("-of-")[2] for p in beside} - {str(cut.shards)})
    also = f"; shards of {', '.join(other)} lie there" if other else ""
    return (
        f"{len(lost)} of {cut.shards} shards of '{cut.final.name}' are not there yet: "
        f"{numbers}{also}",
        f"{cut.command} --shard {lost[0]}/{cut.shards}, with its other options as they were"
        + (f"; in a Slurm array: sbatch --array={numbers}" if len(lost) <= NAMED else ""),
    )


def forget(final: Path) -> None:
    """Remove the shards: they are joined."""
    artifacts.discard(folder(final))
