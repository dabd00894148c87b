"""What a survey gave, written as a raw artefact."""

import dataclasses
import json
from pathlib import Path

import pyarrow as pa

from mmclip import artifacts
from mmclip.artifacts import Artifact, write_atomic
from mmclip.datasets import tables
from mmclip.errors import PartialResult, UsageError
from mmclip.surveys import Fetched, Request, Survey


def collect(survey: Survey, request: Request, final: Path, replace: bool) -> Artifact:
    """Fetch from one survey into `final`: a table a view, `ledger.parquet`, `queries.adql`.

    Raises:
        UsageError: If nothing at all was received.
    """
    with artifacts.building(final, replace=replace) as folder:
        fetched = survey.fetch(request)
        if fetched.tables["objects"].num_rows == 0:
            raise UsageError(
                f"{survey.name} returned no objects for this selection", "mmclip fetch --help"
            )
        for name, table in fetched.tables.items():
            tables.write(folder / f"{name}.parquet", table)
        tables.write(folder / "ledger.parquet", _ledger(fetched))
        write_atomic(folder / "queries.adql", "\n\n".join(fetched.queries).encode())
        asked = json.loads(json.dumps(dataclasses.asdict(request)))
        artifact = artifacts.seal(
            folder,
            "raw",
            config={"survey": survey.name} | asked,
            parents=[],
            rows={n: t.num_rows for n, t in fetched.tables.items()}
            | {"missing": len(fetched.missing)},
            surveys=[
                {
                    "name": survey.name,
                    "release": survey.release,
                    "title": survey.title,
                    "citations": list(survey.citations),
                }
            ],
            provenance=fetched.provenance,
            seed=request.seed,
            notes=fetched.notes,
        )
    return Artifact(final, artifact.manifest)


def _ledger(fetched: Fetched) -> pa.Table:
    received = fetched.tables["objects"]["source_id"].to_pylist()
    lost = [i for i, _ in fetched.missing]
    return pa.table(
        {
            "source_id": pa.array(received + lost, pa.int64()),
            "status": pa.array(["received"] * len(received) + ["missing"] * len(lost)),
            "reason": pa.array(
                [None] * len(received) + [r for _, r in fetched.missing], pa.string()
            ),
        }
    )


def read_view(artifact: Artifact, view: str) -> pa.Table:
    """One table of a raw artefact, checked: `<view>.parquet`, or the shards of `<view>/`."""
    shards = sorted(n for n in artifact.manifest.files if n.startswith(f"{view}/"))
    files = [n for n in shards if n.endswith(".parquet")] or [f"{view}.parquet"]
    return pa.concat_tables([tables.read(artifacts.checked(artifact, n)) for n in files])


def complain(artifact: Artifact) -> None:
    """Say what is missing, if anything is.

    Raises:
        PartialResult: With the number of missing objects and where they are listed.
    """
    missing = artifact.manifest.rows["missing"]
    if missing:
        raise PartialResult(
            f"{missing} of the objects asked for were not received",
            f"they are listed with reasons in {artifact.path / 'ledger.parquet'}",
        )
