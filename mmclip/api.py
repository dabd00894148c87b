"""The Python API: a workspace whose methods are the commands, each giving what its command prints.

`Workspace.search(...)` runs the function behind `mmclip search` with the same options and
defaults; nothing is printed, the answer is a `Result` (what a training makes is an `Artifact`).
"""

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from mmclip.artifacts import Artifact
from mmclip.artifacts.workspace import default_root
from mmclip.cli import (
    adapt,
    cite,
    classify,
    cluster,
    embed,
    evaluate,
    export,
    fetch,
    generate,
    import_,
    index,
    info,
    knn,
    map,
    models,
    outliers,
    predict,
    preprocess,
    pretrain,
    publish,
    pull,
    push,
    reproduce,
    search,
    train,
    train_decoder,
    tune,
    verify,
)
from mmclip.cli.output import listening
from mmclip.errors import UsageError, nearest
from mmclip.results import Result

T = TypeVar("T")
Words: TypeAlias = str | Sequence[str]
Ids: TypeAlias = int | str | Sequence[int | str]
# Those with a meaning on a terminal alone.
TERMINAL = ("as_json", "workspace")


@dataclass(frozen=True)
class Workspace:
    """A directory of artefacts, and the questions one can ask it.

    Every method takes, besides what it names, each option of its command with `_` for `-`
    (`--discount-noise` is `discount_noise=True`; `--from` and `--class` are `from_` and `class_`).
    Lists may be given where the command takes words by commas.

    Attributes:
        root: The directory.
    """

    root: Path

    def __repr__(self) -> str:
        return f"Workspace('{self.root}')\n{self.info()!r}"

    def _repr_html_(self) -> str:
        return self.info()._repr_html_()

    def fetch(self, survey: Words, **options: Any) -> list[Artifact]:
        """Views of stars from surveys (`mmclip fetch`); one raw artefact a survey."""
        return _made(fetch.command, self.root, options | {"survey": survey})

    def import_files(self, files: str | Path | Sequence[str | Path], views: Words,
                     **options: Any) -> Artifact:  # fmt: skip
        """Your own spectra, light curves, tables or images (`mmclip import --as VIEWS`)."""
        return _made(import_.command, self.root, options | {"files": files, "views": views})

    def preprocess(self, **options: Any) -> Artifact:
        """Raw data cleaned, joined, split and normalised (`mmclip preprocess`)."""
        return _made(preprocess.command, self.root, options)

    def train(self, **options: Any) -> Artifact:
        """Encoders that agree on one space (`mmclip train`); an interrupted training goes on."""
        return _made(train.command, self.root, options)

    def pretrain(self, **options: Any) -> Artifact:
        """One encoder trained on its view alone, without labels (`mmclip pretrain`)."""
        return _made(pretrain.command, self.root, options)

    def train_decoder(self, start: Words | None = None, to: str | None = None,
                      **options: Any) -> Artifact:  # fmt: skip
        """A decoder that generates the view `to` from `start` (`mmclip train-decoder`)."""
        return _made(train_decoder.command, self.root, options | {"start": start, "to": to})

    def tune(self, **options: Any) -> Result:
        """Trials of learning rate, decay, momentum and dropouts (`mmclip tune`)."""
        return _asked(tune.command, self.root, options)

    def embed(self, **options: Any) -> Artifact:
        """The vectors of every star and an index over them (`mmclip embed`)."""
        return _made(embed.command, self.root, options)

    def index(self, **options: Any) -> Result:
        """What indexes are or would cost; `add=True` makes one (`mmclip index`)."""
        return _asked(index.command, self.root, options)

    def search(self, query_id: Ids | None = None, *, k: int | None = None,
               start: str | None = None, to: str | None = None, where: str | None = None,
               **options: Any) -> Result:  # fmt: skip
        """The stars most like the given ones (`mmclip search`).

        Args:
            query_id: Stars to start from; None: a star of the test split, named in the notes.
            k: Answers a query; 10 if there is no `radius` either.
            start: View of the query; `mean` for the average of all it has.
            to: View of the answers; as `start` if None.
            where: Only such answers, `"teff < 4000 and snr > 20"`.
            options: `radius` (cosine distance), `contrast`, `query_file`, `vectors`, ...

        Returns:
            A row an answer: query_id, rank, source_id, cosine, views, provenance.

        Raises:
            NotFound: If an id is not in the vectors, or was not observed in `start`.
        """
        asked = "example" if query_id is None and "query_file" not in options else query_id
        return _asked(search.command, self.root, options | {
            "query_id": asked, "k": k, "start": start, "to": to, "where": where})  # fmt: skip

    def knn(self, target: Words | None = None, *, k: int | None = None, **options: Any) -> Result:
        """How well labels follow from the nearest training stars (`mmclip knn`).

        Args:
            target: Label columns; a column of names is classified.
            k: Neighbours; 13 if None.
            options: `modality`, `fit_on`, `weights`, `metric`, `where`, `split`, ...

        Returns:
            A row a target and view, and rows of baselines beside them: R2, scatter, coverage.
        """
        return _asked(knn.command, self.root, options | {"target": target, "k": k})

    def predict(self, target: Words | None = None, **options: Any) -> Result:
        """Labels with 68 and 95 % intervals for every star (`mmclip predict`).

        Args:
            target: Columns to predict; a column of names gives a class.
            options: `method`, `on`, `views`, `file` (new stars), `head`, `compare`, ...
        """
        return _asked(predict.command, self.root, options | {"target": target})

    def outliers(self, kind: str | None = None, **options: Any) -> Result:
        """The strangest stars, of all or of the class `kind` (`mmclip outliers`)."""
        return _asked(outliers.command, self.root, options | {"kind": kind})

    def classify(self, modalities: Words | None = None, *, method: Words | None = None,
                 **options: Any) -> Result:  # fmt: skip
        """How well classes are told, beside baselines (`mmclip classify`)."""
        return _asked(classify.command, self.root, options | {
            "modalities": modalities, "method": method})  # fmt: skip

    def cluster(self, **options: Any) -> Result:
        """Groups of stars and what tells them apart (`mmclip cluster`)."""
        return _asked(cluster.command, self.root, options)

    def generate(self, query_id: Ids | None = None, *, start: Words | None = None,
                 to: str | None = None, **options: Any) -> Result:  # fmt: skip
        """A view generated from others, with errors (`mmclip generate`).

        Args:
            query_id: Stars; None: test stars, scored beside the baselines.
            start: View or views that were observed.
            to: View to generate.
            options: `draws`, `decoder`, `ids` (a file), `k`, `seed`, ...
        """
        return _asked(generate.command, self.root, options | {
            "query_id": query_id, "start": start, "to": to})  # fmt: skip

    def adapt(self, source: str, data: str, target: Words, **options: Any) -> Result:
        """Labels carried from one survey to another, the ways compared (`mmclip adapt`)."""
        return _asked(adapt.command, self.root, options | {
            "source": source, "data": data, "target": target})  # fmt: skip

    def map(self, colour: Words | None = None, **options: Any) -> Result:
        """The space in two dimensions, by UMAP (`mmclip map`); `.plot()` draws it."""
        return _asked(map.command, self.root, options | {"colour": colour})

    def evaluate(self, preset: str | None = None, **options: Any) -> Result:
        """Every figure of a paper measured beside the published one (`mmclip evaluate`).

        `benchmark="stars"` measures what vectors are worth beside opponents that never saw them.
        """
        return _asked(evaluate.command, self.root, options | {"preset": preset})

    def info(self, artefact: str | Path | None = None, **options: Any) -> Result:
        """An artefact, its lineage (`lineage=True`), or all of the workspace (`mmclip info`)."""
        return _asked(info.command, self.root, options | {"artefact": artefact})

    def verify(self, artefacts: Sequence[str | Path] | None = None) -> Result:
        """Every file against its manifest (`mmclip verify`).

        Raises:
            IntegrityError: If a file is damaged.
        """
        return _asked(verify.command, self.root, {"artefacts": artefacts})

    def reproduce(self, artefact: str, **options: Any) -> Result:
        """An artefact made again and compared file by file (`mmclip reproduce`)."""
        return _asked(reproduce.command, self.root, options | {"artefact": artefact})

    def export(self, output: str | Path | None = None, **options: Any) -> Path:
        """Data for `datasets`, the Multimodal Universe or HATS (`mmclip export`).

        `onnx=FOLDER` writes a run's encoders as ONNX instead.
        """
        return _made(export.command, self.root, options | {"output": output})

    def publish(self, what: str | Path | None = None, *, hats: str | Path) -> Path:
        """Vectors, labels, maps or scores as a HATS catalogue (`mmclip publish`)."""
        return _made(publish.command, self.root, {"what": what, "hats": hats})

    def push(self, what: str | Path, repository: str, *, licence: str, **options: Any) -> str:
        """A run or data set on a model hub; its pinned address (`mmclip push`)."""
        return _made(push.command, self.root, options | {
            "what": what, "repository": repository, "licence": licence})  # fmt: skip

    def pull(self, address: str) -> Artifact:
        """A run or data set that somebody shared, `hf://owner/name` (`mmclip pull`)."""
        return _made(pull.command, self.root, {"address": address})

    def models(self, name: str | None = None, **options: Any) -> Result:
        """Published weights of others: licence, layout, what they expect (`mmclip models`)."""
        return _asked(models.command, self.root, options | {"name": name})

    def cite(self, artefact: str | Path | None = None) -> str:
        """BibTeX and acknowledgements of what was used (`mmclip cite`)."""
        with listening():
            return _call(cite.command, self.root, {"artefact": artefact})


def open_workspace(root: str | Path | None = None) -> Workspace:
    """The workspace of a directory; `$MMCLIP_WORKSPACE` or `mmclip-work` if None.

    The directory need not be there yet.
    """
    return Workspace(Path(root) if root is not None else default_root())


def _asked(command: Callable[..., Result | None], root: Path, options: Mapping[str, Any]) -> Result:
    """The result of a question; what the command says on the way is in its notes."""
    with listening() as said:
        answer = _made(command, root, options)
    return answer.noting(*(line for line in said if line not in answer.notes))


def _made(command: Callable[..., T | None], root: Path, options: Mapping[str, Any]) -> T:
    """What a stage makes; its progress is shown on standard error as on a terminal."""
    made = _call(command, root, options)
    if made is None:
        raise UsageError(
            f"{_name(command)} with these options answers into a file", "use the command line"
        )
    return made


def _call(command: Callable[..., T], root: Path, options: Mapping[str, Any]) -> T:
    """The command's function with checked options; None means its default."""
    parameters = inspect.signature(command).parameters
    known = {s: n for n, p in parameters.items() if n not in TERMINAL for s in _spellings(p)}
    given: dict[str, Any] = {}
    for name, value in options.items():
        if name.rstrip("_") not in known:
            raise UsageError(
                f"'{name}' is no option of {_name(command)}; {nearest(name, list(known))}",
                f"mmclip {_name(command)} --help",
            )
        if value is not None:
            parameter = parameters[known[name.rstrip("_")]]
            given[parameter.name] = _fitted(value, parameter.annotation)
    return command(**given, workspace=root)


def _spellings(parameter: inspect.Parameter) -> set[str]:
    """Names of an option: of the parameter, and those of the command line (`from`, `set`)."""
    marks = getattr(parameter.annotation, "__metadata__", ())
    # Typer holds the first word of `Option("--set", ...)` as the default until it reads it.
    words = [str(w) for m in marks for w in (m.default, *(getattr(m, "param_decls", None) or []))]
    long = {word[2:].replace("-", "_") for word in words if word.startswith("--")}
    return {parameter.name.rstrip("_")} | long


def _name(command: Callable[..., Any]) -> str:
    return command.__module__.rpartition(".")[2].rstrip("_").replace("_", "-")


def _fitted(value: Any, annotation: Any) -> Any:
    """A value as the command takes it: paths as Path, many as a list or as words by commas."""
    kinds = typing.get_args(typing.get_args(annotation)[0]) or (typing.get_args(annotation)[0],)
    many = isinstance(value, Sequence) and not isinstance(value, str)
    lists = [k for k in (*kinds, typing.get_args(annotation)[0]) if typing.get_origin(k) is list]
    if lists:
        (kind,) = typing.get_args(lists[0])
        return [kind(v) for v in (value if many else [value])]
    if Path in kinds and isinstance(value, str):
        return Path(value)
    return ",".join(str(v) for v in value) if many and str in kinds else value


__all__ = ["Artifact", "Result", "Workspace", "open_workspace"]
