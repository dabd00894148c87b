"""An artefact made again from its parents by its own recorded settings, and compared byte by byte.

It is made in `.reproduce-HASH/`, a workspace of its own within the workspace, in which the parents
bear the names that the artefact recorded. Of raw data the files are read again, not fetched.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import torch

from mmclip import artifacts, config
from mmclip.artifacts import Artifact, environment, paths
from mmclip.artifacts.workspace import Workspace
from mmclip.clip.run import Run, open_run
from mmclip.clip.settings import TrainConfig, weight_files
from mmclip.clip.train import Draw, train
from mmclip.datasets import append, build, tables
from mmclip.encoders.tensors import read_tensors
from mmclip.errors import IntegrityError, MmclipError, NotFound, UsageError
from mmclip.provenance.lineage import Step, lineage
from mmclip.results import Value
from mmclip.tasks import embed, generate, pretrain
from mmclip.tasks import map as mapping
from mmclip.tasks.generate import dataset, decoder
from mmclip.training.loop import Progress
from mmclip.transfer import adapter
from mmclip.transfer.data import AdaptConfig
from mmclip.vectors.store import Store

Verdict = Literal["identical", "differs", "not made again", "new", "read again"]
NUMBERS = (".safetensors", ".parquet")  # files whose numbers are compared, not only their bytes


@dataclass(frozen=True)
class Bench:
    """Where an artefact is made again.

    Attributes:
        space: The workspace of the reproduction.
        draw: Metrics of a training -> its pictures by file name.
        tell: Is told a line now and then.
    """

    space: Workspace
    draw: Draw
    tell: Callable[[str], None]

    def parent(self, artifact: Artifact, kind: str, number: int = 0) -> Artifact:
        """The parent of a kind under its recorded name, first of all or the next."""
        wanted = [p for p in artifact.manifest.parents if p["kind"] == kind]
        if len(wanted) <= number:
            raise UsageError(f"{artifact.path} names no {kind} artefact among its parents")
        return self.space.get(kind, wanted[number]["name"])

    def final(self, artifact: Artifact, name: str) -> Path:
        """Where it is made."""
        return self.space.place(artifact.manifest.kind, name)

    def report(self, progress: Progress) -> None:
        """Tell of a tenth epoch."""
        if progress.epoch is not None and progress.epoch.epoch % 10 == 0:
            self.tell(f"  {progress.stage} epoch {progress.epoch.epoch}")


def obstacles(artifact: Artifact) -> list[str]:
    """Why a reproduction may end otherwise: what is not as it was recorded, a phrase each.

    The recorded number of threads is taken up first, so it counts only where it cannot be had.

    Raises:
        IntegrityError: If the seed beside the settings is not that within them.
    """
    made = artifact.manifest
    if "seed" in made.config and made.config["seed"] != made.seed:
        raise IntegrityError(
            f"{artifact.path} names the seed {made.seed} and, in its settings, the seed "
            f"{made.config['seed']}",
            f"make it again with: {made.command}",
        )
    recorded = made.notes.get("environment")
    if recorded is None:
        found = ["code, libraries and threads were not recorded when it was made"]
        found += environment.differences(
            {"mmclip": made.mmclip_version, "python": environment.now()["python"]}
            | ({"libraries": {"torch": made.notes["torch"]}} if "torch" in made.notes else {})
        )
        return found + _foreign(artifact)
    if "threads" in recorded:
        torch.set_num_threads(int(recorded["threads"]))
    return environment.differences(recorded) + _foreign(artifact)


def _foreign(artifact: Artifact) -> list[str]:
    """Files of others that a training read and that changed since."""
    known: dict[str, str] = artifact.manifest.notes.get("weights", {})
    if artifact.manifest.kind != "run" or not known:
        return []
    settings = config.resolve(TrainConfig, "train", None, dict(artifact.manifest.config))
    files = weight_files(settings, sorted(known))
    return [
        f"the weight file {files[n]} of {n} has another content"
        for n, mark in known.items()
        if n in files and artifacts.sha256(files[n]) != mark
    ]


def repeat(bench: Bench, artifact: Artifact, name: str) -> Artifact:
    """Make an artefact again in the bench from the parents that lie there.

    Raises:
        UsageError: If artefacts of its kind cannot be made from what they record.
        NotFound: If a parent is not there.
    """
    kind = artifact.manifest.kind
    if kind not in MAKERS:
        raise UsageError(
            f"{artifact.path} is a {kind}, which is not made from its parents alone",
            "mmclip reproduce VECTORS, the vectors that it shows",
        )
    final = bench.final(artifact, name)
    if (final / paths.MANIFEST).is_file():  # of an interrupted reproduction
        return artifacts.read(final)
    return MAKERS[kind](bench, artifact, final)


def _data(bench: Bench, artifact: Artifact, final: Path) -> Artifact:
    body = dict(artifact.manifest.config)
    views = body.pop("settings", {})
    settings = config.resolve(build.PreprocessConfig, "preprocess", None, body)
    parents = artifact.manifest.parents
    raws = [bench.space.get("raw", p["name"]) for p in parents if p["kind"] == "raw"]
    for raw in raws:
        artifacts.verify(raw)
    if len(raws) < len(parents):
        stands = artifacts.verify(bench.parent(artifact, "data"))
        rule = artifact.manifest.notes.get(append.SPLIT_OF_ADDED, "")
        addition = append.plan_addition(stands, raws, _labels(artifact), rule=str(rule))
        return append.add(addition, final, True, bench.tell)
    return build.make(build.plan(raws, settings, views, _labels(artifact)), final, True, bench.tell)


def _labels(artifact: Artifact) -> pa.Table | None:
    """The user's table of labels, which is kept in the objects of the data set alone."""
    names = artifact.manifest.notes.get("labels", [])
    if not names and "--labels" not in artifact.manifest.command:
        return None
    if not names:
        raise UsageError(
            f"{artifact.path} was made with a table of --labels that it did not record",
            f"make it again with: {artifact.manifest.command}",
        )
    objects = tables.read(artifacts.checked(artifact, paths.OBJECTS))
    return objects.select(["source_id", *names])


def _run(bench: Bench, artifact: Artifact, final: Path) -> Artifact:
    settings = config.resolve(TrainConfig, "train", None, dict(artifact.manifest.config))
    data = build.open_dataset(bench.parent(artifact, "data"), settings.modalities)
    return train(data, settings, final, bench.report, True, bench.draw)


def _vectors(bench: Bench, artifact: Artifact, final: Path) -> Artifact:
    run = open_run(bench.parent(artifact, "run"))
    data = build.open_dataset(bench.parent(artifact, "data"), tuple(sorted(run.shape.sizes)))
    with artifacts.building(final, replace=True) as folder:
        if any(p["kind"] == "vectors" for p in artifact.manifest.parents):
            before = Store(bench.parent(artifact, "vectors"))
            made = embed.add(data, run, before, folder)
        else:
            made = embed.embed(data, run, folder, artifact.manifest.config["factory"])
    return Artifact(final, made.manifest)


def _decoder(bench: Bench, artifact: Artifact, final: Path) -> Artifact:
    settings = config.resolve(
        decoder.DecodeConfig, "train-decoder", None, dict(artifact.manifest.config)
    )
    store = Store(bench.parent(artifact, "vectors"))
    data = build.open_dataset(bench.parent(artifact, "data"), tuple(store.modalities))
    pairs = generate.pairs(store, data, settings.start, settings.to, settings.decoder)
    surveys = data.artifact.manifest.surveys
    parents = [bench.parent(artifact, p["kind"]).reference for p in artifact.manifest.parents]
    return decoder.train(pairs, settings, final, parents, surveys, bench.report, True)


def _generated(bench: Bench, artifact: Artifact, final: Path) -> Artifact:
    body = artifact.manifest.config
    store = Store(bench.parent(artifact, "vectors"))
    if any(p["kind"] == "decoder" for p in artifact.manifest.parents):
        trained = decoder.open_decoder(bench.parent(artifact, "decoder"))
    else:
        run, data = _behind(bench, store)
        trained = generate.quick(run, data, tuple(body["start"]), body["to"])
    stars = artifact.manifest.rows["objects"]
    rows = dataset.lacking(store, trained, False)
    if len(rows) != stars:
        rows = dataset.lacking(store, trained, True)
    reads = None
    if trained.blocks is not None:
        reads = generate.read_by(trained, store, _behind(bench, store)[1])
    todo = dataset.Completion(
        store, trained, rows, body["draws"], body["seed"], dataset.SHARD, reads
    )
    return dataset.complete(
        todo, final, True, lambda done, of: bench.tell(f"  {done:,} of {of:,} stars")
    )


def _behind(bench: Bench, store: Store) -> tuple[Run, build.Dataset]:
    data = build.open_dataset(bench.parent(store.artifact, "data"), tuple(store.modalities))
    return open_run(bench.parent(store.artifact, "run")), data


def _map(bench: Bench, artifact: Artifact, final: Path) -> Artifact:
    store = Store(bench.parent(artifact, "vectors"))
    settings, places = mapping.read(artifact)
    left = None
    if settings.left_out:  # which stars those were is kept in the map alone
        fitted = places.filter(places["fitted"])["source_id"].to_numpy()
        left = ~np.isin(store.source_id, fitted)
    with artifacts.building(final, replace=True) as folder:
        found = mapping.fit(store, settings, left)
        train_rows = mapping.fitted_rows(store, settings, left)
        made = mapping.write(folder, store, found, train_rows, settings)
    return Artifact(final, made.manifest)


def _adapter(bench: Bench, artifact: Artifact, final: Path) -> Artifact:
    settings = config.resolve(AdaptConfig, "adapt", None, dict(artifact.manifest.config))
    with_run = any(p["kind"] == "run" for p in artifact.manifest.parents)
    run = open_run(bench.parent(artifact, "run")) if with_run else None
    source, target = (build.open_dataset(bench.parent(artifact, "data", n)) for n in (0, 1))
    made, _ = adapter.make(source, run, target, settings, final, True, bench.tell)
    return made


def _encoder(bench: Bench, artifact: Artifact, final: Path) -> Artifact:
    settings = config.resolve(
        pretrain.PretrainConfig, "pretrain", None, dict(artifact.manifest.config)
    )
    data = build.open_dataset(bench.parent(artifact, "data"), (settings.modality,))
    return pretrain.pretrain(data, settings, final, True, bench.report)


MAKERS: dict[str, Callable[[Bench, Artifact, Path], Artifact]] = {
    "data": _data, "run": _run, "vectors": _vectors, "decoder": _decoder, "generated": _generated,
    "map": _map, "adapter": _adapter, "encoder": _encoder,
}  # fmt: skip


def reproduce(
    space: Workspace, artifact: Artifact, folder: Path, deep: bool, draw: Draw,
    tell: Callable[[str], None],
) -> list[tuple[Artifact, Artifact]]:  # fmt: skip
    """Make an artefact again (with `deep` its ancestors before it); (was, is) of each, in order.

    Raw data and, without `deep`, the parents are read where they lie: the same artefact twice.

    Args:
        space: Where the artefact's ancestors are looked for by their fingerprints.
        artifact: Any but a report.
        folder: The reproduction's own workspace; what an interrupted one left there is used.
        deep: Repeat the ancestors too, as far back as the raw data.
        draw: Metrics of a training -> its pictures by file name.
        tell: Is told what is done.

    Raises:
        NotFound: If an ancestor is gone or changed.
        IntegrityError: If a file of it is not what its manifest says.
    """
    steps = [s for s in lineage(space, artifact) if s.depth > 0]
    parents = {p["fingerprint"] for p in artifact.manifest.parents}
    for step in steps:
        if step.found is None and (deep or step.fingerprint in parents):
            raise NotFound(
                f"the {step.kind} artefact '{step.name}' ({step.fingerprint[:12]}) from which "
                f"{artifact.path} was made is gone or changed",
                f"mmclip info {artifact.path} --lineage",
            )
    artifacts.verify(artifact)
    bench = Bench(Workspace(folder), draw, tell)
    steps = [*reversed(steps), Step(0, artifact.manifest.kind, artifact.path.name, "", artifact)]
    pairs = []
    for step in steps:
        if step.found is None:
            continue
        if step.kind != "raw" and (deep or step.depth == 0):
            pairs.append((step.found, _with_its_threads(bench, step.found, step.name)))
            continue
        _lend(step, bench.space.place(step.kind, step.name))
        if deep or step.depth == 0:
            pairs.append((step.found, artifacts.verify(step.found)))
    return pairs


def all_obstacles(
    space: Workspace, artifact: Artifact, deep: bool
) -> list[tuple[Artifact, list[str]]]:
    """The `obstacles` of an artefact, and with `deep` of each ancestor that would be repeated."""
    every = [s.found for s in lineage(space, artifact) if s.found and s.kind != "raw"]
    threads = torch.get_num_threads()
    try:
        return [(one, obstacles(one)) for one in (every if deep else every[:1])]
    finally:
        torch.set_num_threads(threads)


def _with_its_threads(bench: Bench, artifact: Artifact, name: str) -> Artifact:
    threads = torch.get_num_threads()
    bench.tell(f"{artifact.manifest.kind} {name}:")
    try:
        obstacles(artifact)
        return repeat(bench, artifact, name)
    finally:
        torch.set_num_threads(threads)


def _lend(step: Step, place: Path) -> None:
    """Lay an ancestor, under its recorded name, into the workspace of the reproduction."""
    assert step.found is not None
    if place.exists():
        return
    with artifacts.building(place) as folder:
        for name in [*step.found.manifest.files, paths.MANIFEST]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            artifacts.link(step.found.path / name, folder / name)


def place(space: Workspace, artifact: Artifact, deep: bool) -> Path:
    """Where an artefact is made again: the same for the same code, elsewhere for another."""
    identity = [artifact.manifest.fingerprint, artifact.path.name, deep, environment.code()]
    return space.root / f".reproduce-{artifacts.mark(identity)}"


@dataclass(frozen=True)
class Compared:
    """A file of an artefact (or a part of its manifest) as it was and as it was made again.

    Attributes:
        artefact, file: What is compared; `manifest: PART` for a part of the manifest.
        verdict: identical, differs, not made again, new, or read again (raw data).
        size: Bytes of the file as it was; None for a part of the manifest.
        sha256: The first 16 digits.
        difference: Greatest |was - now| of its numbers; None where numbers are not compared.
    """

    artefact: str
    file: str
    verdict: Verdict
    size: int | None = None
    sha256: str = ""
    difference: float | None = None

    @property
    def row(self) -> dict[str, Value]:
        """For a table."""
        return {
            "artefact": self.artefact, "file": self.file, "verdict": self.verdict,
            "bytes": self.size, "sha256": self.sha256, "largest difference": self.difference,
        }  # fmt: skip


def compare(was: Artifact, now: Artifact) -> list[Compared]:
    """One entry a file of either, and one for each part of the manifest that differs.

    The difference is that of the numbers of a file of weights, vectors or a table: the
    greatest |was - now|; NaN where shapes or names differ, or one is missing where the other is
    not; null for files that are not compared by their numbers.
    """
    who = f"{was.manifest.kind} {was.path.name}"
    if was.path == now.path:
        return [
            Compared(who, name, "read again", entry["bytes"], entry["sha256"][:16])
            for name, entry in was.manifest.files.items()
        ]
    found = []
    for name in sorted(set(was.manifest.files) | set(now.manifest.files)):
        before, after = was.manifest.files.get(name), now.manifest.files.get(name)
        one = before or after
        assert one is not None
        same = before is not None and after is not None and before["sha256"] == after["sha256"]
        verdict: Verdict = "differs" if before and after else "not made again" if before else "new"
        found.append(
            Compared(
                who,
                name,
                "identical" if same else verdict,
                one["bytes"],
                one["sha256"][:16],
                _largest(was, now, name, same),
            )
        )
    for part in ("config", "rows", "provenance", "seed"):
        if getattr(was.manifest, part) != getattr(now.manifest, part):
            found.append(Compared(who, f"manifest: {part}", "differs"))
    return found


def _largest(was: Artifact, now: Artifact, name: str, same: bool) -> float | None:
    if not name.endswith(NUMBERS) or not (same or (now.path / name).is_file()):
        return None
    if same:
        return 0.0
    try:
        before, after = (_numbers(a.path / name) for a in (was, now))
    except MmclipError:
        return float("nan")
    if {n: v.shape for n, v in before.items()} != {n: v.shape for n, v in after.items()}:
        return float("nan")
    largest = 0.0
    for key, old in before.items():
        new = after[key]
        unlike = old.dtype.kind == "i" and not np.array_equal(old, new)  # ids have no distance
        if unlike or (np.isnan(old) != np.isnan(new)).any():
            return float("nan")
        other = ~np.isnan(old) & (old != new)
        largest = max(largest, float(np.abs(old[other] - new[other]).max(initial=0.0)))
    return largest


def _numbers(file: Path) -> dict[str, np.ndarray]:
    """Every array of numbers of a file: whole numbers as they are, others as float64."""
    if file.suffix == ".safetensors":
        return {k: t.to(torch.float64).numpy() for k, t in read_tensors(file).items()}
    found = {}
    table = tables.read(file)
    for name in table.column_names:
        column = table[name].combine_chunks()
        while pa.types.is_list(column.type) or pa.types.is_fixed_size_list(column.type):
            column = column.flatten()
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            values = column.to_numpy(zero_copy_only=False)
            found[name] = values if values.dtype.kind == "i" else values.astype(np.float64)
    return found
