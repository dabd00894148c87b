"""Settings of `mmclip train`, and the shape of the model that they and a data set fix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from mmclip import config, papers, plugins
from mmclip.clip.model import Shape
from mmclip.clip.objective import Objective
from mmclip.config import (
    MOST,
    AtLeast0,
    Chance,
    Count,
    Json,
    Part,
    Positive,
    Range,
    Seed,
    Size,
    Whole,
)
from mmclip.datasets.build import View
from mmclip.encoders import Encoder, EncoderConfig
from mmclip.errors import UsageError, nearest
from mmclip.modalities import registry
from mmclip.training import optimisers
from mmclip.training.augment import check
from mmclip.training.schedule import Plan

OF_A_VIEW = ("encoder", "width", "depth", "dropout", "weights", "freeze", "augment")


@dataclass(frozen=True)
class TrainConfig:
    """Settings of `mmclip train`."""

    preset: str = ""  # under the other settings; see `mmclip.papers`
    modalities: tuple[str, ...] = ()  # empty: every view of the data set
    encoders: tuple[str, ...] = ()  # one a modality, in their order; empty: each one's own
    views: Json = field(default_factory=dict)  # settings of a view and its encoder
    dimension: Size = 128  # of a vector
    private: Annotated[float, Range(0, 0.75)] = 0.5  # of it, divided among the views; 0: all shared
    projection: bool = True  # a dense layer from features to the shared space
    width: Size = 512  # of the encoders
    depth: Whole = 2  # residual blocks
    dropout: Chance = 0.1
    epochs: Count = 100
    generator_epochs: Whole = 50  # of the decoders, on frozen vectors
    batch: Annotated[int, Range(2, MOST)] = 256  # objects a step, in all processes together
    encode_chunk: Whole = 0  # objects encoded at a time (gradient caching); 0: the whole batch
    loss_rows: Whole = 0  # rows of the logits held at a time; 0: chooses
    optimiser: optimisers.Kind = "adamw"
    betas: Annotated[tuple[float, ...], Range(0, 1, below=True)] = (0.9, 0.999)
    epsilon: AtLeast0 = 1e-8
    weight_decay: AtLeast0 = 0.05
    decay_all: bool = False  # else matrices only
    gradient_clip: AtLeast0 = 5.0  # norm over all parameters; 0: none
    schedule: Literal["cosine", "plateau", "constant"] = "cosine"
    learning_rate: Positive = 1e-3  # peak
    learning_rates: Annotated[
        tuple[float, ...], Range(0, above=True)
    ] = ()  # peaks of several runs; the optimiser is reset between
    cycles: Count = 1  # cosine: warm-up and decay, so often in each run
    warm_up: Part = 0.05  # cosine: fraction of the steps of a cycle
    warm_up_from_zero: bool = False  # cosine: the first step has rate 0
    warm_up_epochs: Whole = 0  # plateau
    warm_up_start: Part = 1e-5  # plateau: fraction of the rate
    plateau_factor: Annotated[float, Range(0, 1, above=True)] = 0.5
    plateau_patience: Whole = 5  # epochs
    plateau_watch: Literal["loss", "train_loss"] = "loss"  # loss: of validation
    early_stop: Whole = 0  # epochs without a lower validation loss; 0: never
    early_stop_first: Whole = 0  # what the counter holds after the first epoch
    keep: Literal["loss", "recall", "accuracy", "last"] = "loss"  # validation; whose weights stay
    loss: Literal["softmax", "sigmoid"] = "softmax"
    logit_scale: Positive = 10.0  # at the start
    learned_scale: bool = True  # held in [1, 100]
    clamp: Literal["after", "forward"] = "after"  # the step, in place; or in the forward pass
    normalise_epsilon: AtLeast0 = 1e-12  # least length a vector is divided by
    symmetric: Literal["mean", "sum"] = "mean"  # of the two directions
    pairs: Literal["mean", "sum"] = "mean"  # over pairs of modalities
    reconstruction: AtLeast0 = 1.0  # weight of each view's own reconstruction; 0: CLIP alone
    self_contrast: AtLeast0 = 0.5  # weight of telling a redrawn spectrum from the others; 0: none
    labels: tuple[str, ...] = ()  # numbers of the catalogue that vectors of training stars tell
    label_weight: AtLeast0 = 1.0  # of telling them, where a star has them
    noise: AtLeast0 = 1.0  # training spectra are redrawn within this many of their errors
    augment_validation: bool = False
    drop_last_validation: bool = False
    seed: Seed = 42
    device: str = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of encoders; bfloat16 on a GPU
    compile: bool = False  # the encoders, by torch.compile
    graphs: bool = False  # compiled encoders as CUDA graphs, on a GPU
    resident: Literal["auto", "yes", "no"] = "auto"  # data on the device, or gathered by batch
    checkpoint_seconds: AtLeast0 = 20.0  # at most this much work is lost

    def __post_init__(self) -> None:
        config.check("train", self)

    def plan(self) -> Plan:
        """The settings of the learning rate."""
        return Plan(**{f.name: getattr(self, f.name) for f in fields(Plan)})

    def objective(self) -> Objective:
        """The settings of the loss."""
        return Objective(
            self.symmetric, self.pairs, self.reconstruction, self.self_contrast, self.loss_rows,
            self.label_weight,
        )  # fmt: skip


def model_shape(views: dict[str, View], settings: TrainConfig) -> Shape:
    """The shape of the model for some views; see `sizes_shape`."""
    origins = {n: v.statistics.origin for n, v in views.items() if v.statistics.origin}
    return sizes_shape({n: v.size for n, v in views.items()}, settings, origins)


def sizes_shape(
    sizes: Mapping[str, tuple[int, ...]],
    settings: TrainConfig,
    origins: Mapping[str, str] | None = None,
) -> Shape:
    """The shape of the model for views of these sizes; encoders in the order of `modalities`.

    Args:
        sizes: Of one object in each view.
        settings: See `TrainConfig`.
        origins: Dotted names of the modalities that have one (`Modality.origin`), by view.

    Raises:
        UsageError: On a view that is not trained, a setting that its encoder does not know, or
            one that does not fit.
    """
    names = settings.modalities or tuple(sorted(sizes))
    if settings.encoders and len(settings.encoders) != len(names):
        raise UsageError(
            f"{len(settings.encoders)} encoders for {len(names)} modalities",
            f"give one for each of {', '.join(names)}, in that order",
        )
    for known in settings.views if not settings.preset else ():
        if known not in names and known not in map(plugins.base, names):
            raise UsageError(
                f"there are settings for the view '{known}', which is not trained; "
                f"{nearest(known, list(names))}"
            )
    chosen, configs = {}, {}
    for i, name in enumerate(names):
        given = view_settings(settings, name)
        by_name = settings.encoders[i] if settings.encoders else given.get("encoder")
        origin = (origins or {}).get(name, name)
        chosen[name] = by_name or registry.modality(origin).encoder
        encoder = plugins.load("encoders", chosen[name], "ENCODER")
        # Options of the preset's encoder mean nothing to another one from the command line.
        other = bool(settings.encoders) and chosen[name] != given.get("encoder", chosen[name])
        options = {} if other else {k: v for k, v in given.items() if k not in OF_A_VIEW}
        options |= _cropped(given.get("augment", ()), encoder, options)
        sized = {n: given.get(n, getattr(settings, n)) for n in ("width", "depth", "dropout")}
        configs[name] = config.resolve(
            EncoderConfig, f"train views.{name}", None, sized | {"options": options}
        )
        encoder.check(sizes[name], configs[name])
        check(tuple(given.get("augment", ())), sizes[name])
    divided = settings.private if settings.projection and len(names) > 1 else 0.0
    return Shape(
        sizes={n: sizes[n] for n in sorted(names)},
        encoders=dict(sorted(chosen.items())),
        dimension=settings.dimension,
        encoder=EncoderConfig(settings.width, settings.depth, settings.dropout),
        logit_scale=settings.logit_scale,
        views=dict(sorted(configs.items())),
        projection=settings.projection,
        learned_scale=settings.learned_scale,
        clamp=settings.clamp,
        bias=settings.loss == "sigmoid",
        normalise_epsilon=settings.normalise_epsilon,
        reconstruct=settings.reconstruction > 0,
        generate=settings.generator_epochs > 0,
        labels=len(settings.labels),
        private=int(divided * settings.dimension / len(names)),
    )


def _cropped(augment: Sequence[str], encoder: Encoder, options: Mapping[str, Any]) -> Json:
    """An encoder that can reads as many points of a curve as `crop:N` keeps of it in training."""
    kept = [int(w.partition(":")[2]) for w in augment if w.startswith("crop:") and w[5:].isdigit()]
    known = {f.name for f in fields(encoder.options)} if encoder.options else set()
    return {"points": kept[-1]} if kept and "points" in known and "points" not in options else {}


def view_settings(settings: TrainConfig, name: str) -> Json:
    """What is set for one view; for `spectra@miles`, over what is set for `spectra`.

    Raises:
        UsageError: If that is not a table.
    """
    made: Json = {}
    for word in dict.fromkeys((plugins.base(name), name)):
        given = settings.views.get(word, {})
        if not isinstance(given, dict):
            raise UsageError(f"views.{word} = {given!r} is not a table of settings")
        made |= given
    return made


def weight_files(settings: TrainConfig, names: list[str]) -> dict[str, Path]:
    """The file of published weights of each view that has one.

    Raises:
        UsageError: If a file is not there, or an encoder is frozen at random weights.
    """
    found = {}
    for name in names:
        given = view_settings(settings, name)
        if "weights" in given:
            found[name] = Path(str(given["weights"]))
            if not found[name].is_file():
                raise UsageError(f"there is no weight file {found[name]} (views.{name}.weights)")
        elif given.get("frozen") or given.get("freeze"):
            raise UsageError(
                f"the encoder of {name} is frozen but has no weights",
                f"--set views.{name}.weights=FILE, or --set views.{name}.frozen=false",
            )
    return found


def resolve_settings(
    preset: str | None, file: Path | None, words: list[str], flags: Json
) -> TrainConfig:
    """Settings of a training: flag over `--set` over `--config` over preset over default.

    Args:
        preset: Of `mmclip.papers`; else the one that `words` or the file names.
        file: A TOML file with a table `[train]`.
        words: Settings as KEY=VALUE.
        flags: By name; None for what was not given.

    Raises:
        UsageError: On a preset, key or value that is not known.
    """
    given = config.assignments(words)
    in_file = config.read_toml(file, "train").get("preset") if file else None
    named = preset or given.get("preset") or in_file
    below = papers.settings(str(named), "train") if named else {}
    above = config.merge(given, {k: v for k, v in flags.items() if v is not None})
    return config.resolve(
        TrainConfig, "train", file, above | ({"preset": named} if named else {}), below
    )
