"""Artefacts: directories that are whole or absent, under a manifest of SHA-256 sums.

An artefact is written under a temporary name beside its place, `manifest.json` last, flushed to
disk, then renamed. A reader checks the manifest before it believes a file. The parts:

    paths        every file name
    manifest     Manifest, Artifact: seal, read, verify
    build        directories and files that appear only when they are whole
    work         unfinished work, held by one process
    disk, sums   atomic writes; SHA-256 sums
    owner        caches beside artefacts, believed by who wrote them alone
    shards       an artefact made piece by piece
    workspace    where the artefacts of a project lie
    hub          runs and data sets that others share, hf://owner/name@revision
    environment  versions and processor, for the manifest
"""

from mmclip.artifacts.build import assembling, building, check_free, scratch, whole
from mmclip.artifacts.disk import DISK, link, unwritable, write_atomic, writing
from mmclip.artifacts.manifest import (
    FORMAT_VERSION,
    KINDS,
    Artifact,
    FileEntry,
    Kind,
    Manifest,
    Reference,
    SurveyEntry,
    check_unreplaced,
    checked,
    faults,
    json_of,
    modelled,
    opener,
    read,
    seal,
    verify,
)
from mmclip.artifacts.paths import MANIFEST
from mmclip.artifacts.sums import mark, sha256, sha256_bytes, sum_fits, summed
from mmclip.artifacts.work import discard, locked, sweep, unfinished
from mmclip.config import Json

__all__ = [
    "DISK",
    "FORMAT_VERSION",
    "KINDS",
    "MANIFEST",
    "Artifact",
    "FileEntry",
    "Json",
    "Kind",
    "Manifest",
    "Reference",
    "SurveyEntry",
    "assembling",
    "building",
    "check_free",
    "check_unreplaced",
    "checked",
    "discard",
    "faults",
    "json_of",
    "link",
    "locked",
    "mark",
    "modelled",
    "opener",
    "read",
    "scratch",
    "seal",
    "sha256",
    "sha256_bytes",
    "sum_fits",
    "summed",
    "sweep",
    "unfinished",
    "unwritable",
    "verify",
    "whole",
    "write_atomic",
    "writing",
]
