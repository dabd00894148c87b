"""Published works, one TOML file each with every constant and where it comes from.

`NAME.toml` has `[preprocess]`, `[train]` and `[decode]` (settings of the stages, under
`--config FILE` and the flags; quirks are settings like any other), `[finetune]` (of classifiers,
run by run), `[split]`, `[published]` or several `[benchmark.NAME]` (figures and how they were
measured), `[shapes]` (one object of each view, as prepared), and `[views]`, `[targets]`,
`[derived]`: what its words may be called in a data set.
"""

import copy
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from mmclip.config import Json
from mmclip.errors import NotFound, UsageError, nearest
from mmclip.papers.published import Published, frozen, read_names, read_published, record
from mmclip.papers.split import HINT, Split
from mmclip.papers.split import parse as parse_split

FOLDER = Path(__file__).parent
STAGES = ("preprocess", "train", "decode")
WORDS = ("views", "targets", "derived")  # see `published.Names`
TABLES = (
    "title",
    "source",
    "aliases",
    "shapes",
    "finetune",
    "split",
    "published",
    "benchmark",
    *STAGES,
    *WORDS,
)
Settings = Json


@dataclass(frozen=True)
class Paper:
    """One published work.

    Attributes:
        name: Of its file; what `--preset` takes.
        title, source: For people.
        aliases: Other names that `--preset` takes.
        shapes: View -> shape of one object, as prepared.
        stages: `preprocess`, `train`, `decode` -> settings of that stage, where it has any.
        split, published: None where it says nothing of them.
        benchmarks: By name; what `--benchmark` takes.
    """

    name: str
    title: str
    source: str
    aliases: tuple[str, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    stages: Mapping[str, Settings] = field(default_factory=dict)
    split: Split | None = None
    published: Published | None = None
    benchmarks: Mapping[str, Published] = field(default_factory=dict)


def names(stage: str = "") -> list[str]:
    """Names of the papers; of those with settings of a stage if one is given."""
    every = sorted(file.stem for file in FOLDER.glob("*.toml"))
    return [name for name in every if not stage or stage in _read(name).stages]


def read(name: str, stage: str = "") -> Paper:
    """A paper by its name or an alias.

    Args:
        name: As typed.
        stage: One that the paper must have settings of, if any.

    Raises:
        NotFound: If there is none of that name; names the nearest.
    """
    known = names(stage)
    also = {alias: paper for paper in known for alias in _read(paper).aliases}
    if name not in known and name not in also:
        raise NotFound(
            f"there is no preset '{name}'; {nearest(name, known)}",
            f"--preset {' or '.join(known)} (see docs/presets.md)",
        )
    return _read(also.get(name, name))


def settings(name: str, stage: str) -> Settings:
    """A paper's settings of `preprocess`, `train` or `decode`.

    Raises:
        NotFound: If there is no such paper, or it has none of that stage.
    """
    return copy.deepcopy(dict(read(name, stage).stages[stage]))


def figures() -> dict[str, Published]:
    """Every paper with figures and every benchmark, by name."""
    papers = [_read(name) for name in names()]
    found = {p.name: p.published for p in papers if p.published is not None}
    return found | benchmarks()


def benchmarks() -> dict[str, Published]:
    """Every benchmark by name."""
    return {n: b for paper in names() for n, b in _read(paper).benchmarks.items()}


def split(text: str, seed: int = 42) -> Split:
    """A rule as `--split` takes it: see `mmclip.papers.split.parse`, or a paper's or benchmark's.

    Raises:
        UsageError: If it is none, or that paper states none.
    """
    known = {n: p.conditions.split for n, p in figures().items()}
    known |= {n: _read(n).split for n in names()}
    if text in known:
        found = known[text]
        if found is None:
            raise UsageError(f"'{text}' says nothing of a split", HINT)
        return replace(found, seed=seed)
    return parse_split(text, seed)


@cache
def _read(name: str) -> Paper:
    return parse(name, (FOLDER / f"{name}.toml").read_text())


def parse(name: str, text: str) -> Paper:
    """The paper of a TOML text.

    Raises:
        UsageError: On a table or key that is not known, naming the nearest.
    """
    body = tomllib.loads(text)
    for table in body:
        if table not in TABLES:
            raise UsageError(f"{name}: '{table}' is not known; {nearest(table, list(TABLES))}")
    words, split, published = read_names(body), body.get("split"), body.get("published")
    title = f"{body.get('title')}, {body.get('source')}"
    rule = split and record(Split, split, f"{name}: split")
    made: Settings = {
        "name": name,
        "stages": {stage: body[stage] for stage in STAGES if stage in body},
        "shapes": {view: frozen(s) for view, s in body.get("shapes", {}).items()},
        "split": rule,
        "published": published
        and read_published(published, name, title, words, rule, body.get("finetune")),
        "benchmarks": {
            n: read_published(b, n, title, words, rule)
            for n, b in body.get("benchmark", {}).items()
        },
    }
    plain = {key: body[key] for key in ("title", "source", "aliases") if key in body}
    return record(Paper, plain | made, name)
