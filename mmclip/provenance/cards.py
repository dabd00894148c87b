"""Folders for a model hub: a run or a data set with the card that says what it is.

A run: `model.safetensors`, `config.json`, `README.md` and the artefact's other files. A data set:
`data/SPLIT-*.parquet` as `datasets` loads them, `README.md`, and the artefact under `artifact/`.
"""

import json
from pathlib import Path

from mmclip import artifacts
from mmclip.artifacts import Artifact, Manifest, hub, paths, write_atomic
from mmclip.artifacts.disk import link
from mmclip.clip.run import open_run
from mmclip.config import Json
from mmclip.datasets.export import SPLITS, to_datasets
from mmclip.errors import UsageError
from mmclip.modalities import registry
from mmclip.surveys import references

TAGS = ("astronomy", "mmclip")


def folder_of(artifact: Artifact, folder: Path, repository: str, licence: str) -> None:
    """Fill an empty folder with what a repository of a run or a data set holds.

    Args:
        artifact: Every sum of it is checked.
        folder: Empty.
        repository: `owner/name`, for how to load it.
        licence: Identifier of the hub: `cc-by-4.0`, `mit`.

    Raises:
        UsageError: If the artefact is neither.
    """
    if artifact.manifest.kind not in hub.INSIDE:
        raise UsageError(
            f"{artifact.path} is a {artifact.manifest.kind} artefact", "push a run or a data set"
        )
    artifacts.verify(artifact)
    if artifact.manifest.kind == "run":
        _copy(artifact, folder)
        body = json.dumps(configuration(artifact), indent=2, sort_keys=True)
        write_atomic(folder / "config.json", body.encode())
        card = model_card(artifact, repository, licence)
    else:
        to_datasets(artifact, folder)
        _copy(artifact, folder / hub.INSIDE["data"])
        splits = [s for s in SPLITS if list(folder.glob(f"data/{s}-*.parquet"))]
        card = data_card(artifact, repository, licence, splits)
    write_atomic(folder / "README.md", card.encode())


def _copy(artifact: Artifact, folder: Path) -> None:
    for name in (*artifact.manifest.files, paths.MANIFEST):
        link(artifact.path / name, folder / name)


def configuration(artifact: Artifact) -> Json:
    """What `model.safetensors` is of: sizes, encoders, and how values are prepared."""
    run, manifest = open_run(artifact), artifact.manifest
    body = artifacts.json_of(artifact, paths.SHAPE)
    views = {}
    for view, by in run.statistics.items():
        modality = registry.of_view(view, by)
        views[view] = {
            "title": modality.title, "unit": modality.unit, "encoder": run.shape.encoders[view],
            "size": list(run.shape.sizes[view]), "provenance": manifest.provenance.get(view),
            "reads": [{"column": c.name, "unit": c.unit, "meaning": c.meaning}
                      for c in modality.columns],
        }  # fmt: skip
    return {"model_type": "mmclip", "mmclip_version": manifest.mmclip_version,
            "fingerprint": manifest.fingerprint, "views": views, **body}  # fmt: skip


def model_card(artifact: Artifact, repository: str, licence: str) -> str:
    """README.md of a run: what it was trained on, how good it is, its limits, how to load it."""
    manifest = artifact.manifest
    own = (artifacts.checked(artifact, "card.md")).read_text(encoding="utf-8")
    facts = own.partition("\n")[2].strip()
    address = f"{hub.SCHEME}{repository}"
    return _page(
        {"license": licence, "library_name": "mmclip", "tags": [*TAGS, "clip"],
         "pipeline_tag": "feature-extraction"},
        repository.partition("/")[2],
        f"One space for {', '.join(sorted(manifest.provenance))} of stars and galaxies.",
        ("Training and validation", facts),
        ("Data", _data(manifest)),
        ("How to load", f"    mmclip embed --run {address}@COMMIT --data DATA\n\n"
         "`model.safetensors` holds the weights, `config.json` the sizes, units and preprocessing; "
         "`manifest.json` the SHA-256 of every file and the settings. No code is in this "
         "repository and none is run."),
        ("Limits", _limits(manifest)),
        ("Citation", _citations(manifest)),
    )  # fmt: skip


def data_card(artifact: Artifact, repository: str, licence: str, splits: list[str]) -> str:
    """README.md of a data set, whose first lines tell `datasets` which files are which split."""
    manifest = artifact.manifest
    files = [{"split": s, "path": f"data/{s}-*.parquet"} for s in splits]
    address = f"{hub.SCHEME}datasets/{repository}"
    rows = ", ".join(f"{n} {count:,}" for n, count in sorted(manifest.rows.items()))
    return _page(
        {"license": licence, "tags": list(TAGS),
         "configs": [{"config_name": "default", "data_files": files}]},
        repository.partition("/")[2],
        f"Views of stars and galaxies, one row an object: {rows}.",
        ("Columns", "`source_id` (int64; Gaia's, or a local id from 3 x 2^61 on), `ra`, `dec` "
         "(deg), labels, and for each view `VIEW` and `VIEW_error`: lists of float32 in "
         "normalised units, null where not observed. `statistics.json` undoes the normalisation: "
         "value = normalised x scale + centre."),
        ("Data", _data(manifest)),
        ("How to load", f"    datasets.load_dataset(\"{repository}\")\n\n"
         f"    mmclip train --data {address}@COMMIT"),
        ("Limits", _limits(manifest)),
        ("Citation", _citations(manifest)),
    )  # fmt: skip


def _page(head: Json, title: str, first: str, *parts: tuple[str, str]) -> str:
    """YAML, of which JSON is a part, between `---`, then Markdown."""
    yaml = "\n".join(f"{key}: {json.dumps(value)}" for key, value in head.items())
    body = "\n\n".join(f"## {name}\n\n{text}" for name, text in parts if text)
    return f"---\n{yaml}\n---\n\n# {title}\n\n{first}\n\n{body}\n"


def _data(manifest: Manifest) -> str:
    lines = []
    for survey in manifest.surveys:
        release = " ".join([survey["name"], survey.get("release", "")]).strip()
        cited = ", ".join(survey.get("citations", []))
        lines.append(f"- {release}" + (f": {cited}" if cited else ""))
    lines += [f"- `{view}`: {how}" for view, how in sorted(manifest.provenance.items())]
    split = manifest.notes.get("split")
    lines += [f"- split: {split}"] if split else []
    lines.append(f"- fingerprint `{manifest.fingerprint}`, made by `{manifest.command}`")
    return "\n".join(lines)


def _limits(manifest: Manifest) -> str:
    modelled = artifacts.modelled(manifest.provenance)
    told = "It holds for objects like those it was made from; what lies outside is not known."
    if modelled:
        told += f" MODELLED, not observed: {', '.join(modelled)}."
    return told


def _citations(manifest: Manifest) -> str:
    codes = list(dict.fromkeys(c for s in manifest.surveys for c in s.get("citations", ())))
    return "```bibtex\n" + "\n\n".join(references.entries(codes)) + "\n```" if codes else ""
