"""The model: one encoder and one projection a modality, one scale a pair.

Shapes: B objects, L entries of a view, D embedding dimension.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmclip import plugins
from mmclip.clip.loss import gaussian_loss
from mmclip.encoders import EncoderConfig
from mmclip.encoders.tensors import Batch

MAX_LOG_SCALE = math.log(100.0)
LABEL_WIDTH = 128  # of the layer between a vector and its labels
CHUNK = 1024  # objects embedded at a time


@dataclass(frozen=True)
class Shape:
    """What fixes the tensors of a model; `sizes` is the shape of one object in each view.

    Attributes:
        encoder: Sizes of the encoders, where `views` says nothing else of a view.
        projection: A dense layer from features to the shared space; else the encoder ends there.
        learned_scale: The scale of each pair is trained.
        clamp: `after` the step, in place, or in the `forward` pass, which stops the gradient of a
            scale beyond 100 (AstroM3).
        bias: Each pair has a bias too, for the sigmoid loss.
        normalise_epsilon: Least length that a vector is divided by.
        reconstruct, generate: Whether there are decoders for training, and for generation.
        labels: How many numbers of a star each vector is trained to tell.
        private: Entries of the D that a view has for itself; the other views' vectors are 0 there.
    """

    sizes: dict[str, tuple[int, ...]]
    encoders: dict[str, str]
    dimension: int
    encoder: EncoderConfig
    logit_scale: float
    views: Mapping[str, EncoderConfig] = field(default_factory=dict)
    projection: bool = True
    learned_scale: bool = True
    clamp: str = "after"
    bias: bool = False
    normalise_epsilon: float = 1e-12
    reconstruct: bool = True
    generate: bool = True
    labels: int = 0
    private: int = 0

    @property
    def shared(self) -> int:
        """Entries of a vector that all views share: the first ones."""
        return self.dimension - self.private * len(self.sizes)


class ClipModel(nn.Module):
    """Encoders, projections, scales; and decoders from each embedding to every view."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        names = sorted(shape.sizes)
        self.shape = shape
        self.sizes = {n: tuple(shape.sizes[n]) for n in names}
        lengths = {n: math.prod(size) for n, size in self.sizes.items()}
        self.encoders = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        self.reconstructors = nn.ModuleDict()
        self.label_heads = nn.ModuleDict()
        self.generators = nn.ModuleDict()
        decoder = plugins.load("decoders", "gaussian", "DECODER")
        for name in names:
            given = shape.views.get(name, shape.encoder)
            encoder = plugins.load("encoders", shape.encoders[name], "ENCODER")
            self.encoders[name] = encoder.build(self.sizes[name], given)
            width = getattr(self.encoders[name], "width", given.width)
            self.projections[name] = (
                nn.Linear(width, shape.shared + shape.private)
                if shape.projection
                else nn.Identity()
            )
            if shape.reconstruct:
                self.reconstructors[name] = nn.Sequential(
                    nn.Linear(shape.dimension, shape.encoder.width),
                    nn.GELU(),
                    nn.Linear(
                        shape.encoder.width,
                        getattr(self.encoders[name], "summarised", lengths[name]),
                    ),
                )
            if shape.labels:
                self.label_heads[name] = nn.Sequential(
                    nn.Linear(shape.dimension, LABEL_WIDTH),
                    nn.GELU(),
                    nn.Linear(LABEL_WIDTH, shape.labels),
                )
            if shape.generate:
                self.generators[name] = nn.ModuleDict(
                    {to: decoder.build(shape.dimension, self.sizes[to]) for to in names}
                )
        start = torch.tensor(math.log(shape.logit_scale))
        pairs = [pair_name(a, b) for a, b in combinations(names, 2)]
        self.log_scales = nn.ParameterDict(
            {p: nn.Parameter(start.clone(), requires_grad=shape.learned_scale) for p in pairs}
        )
        # -10 at the start: nearly every question is answered no (arXiv:2303.15343, section 3.2).
        self.biases = nn.ParameterDict(
            {p: nn.Parameter(torch.tensor(-10.0)) for p in pairs} if shape.bias else {}
        )

    def embed(self, name: str, values: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors [B, D] of one view; `values` and `mask` are [B, L].

        With entries of its own, half of the square of a vector lies in them and half in the
        shared ones, so that between views the cosine is half that of the shared parts.
        """
        size = self.sizes[name]
        features = self.encoders[name](values.unflatten(1, size), mask.unflatten(1, size))
        vectors = self.projections[name](features).float()
        own, epsilon = self.shape.private, self.shape.normalise_epsilon
        if not own:
            return functional.normalize(vectors, dim=-1, eps=epsilon)
        shared, private = (
            functional.normalize(part, dim=-1, eps=epsilon) * math.sqrt(0.5)
            for part in vectors.split([self.shape.shared, own], dim=-1)
        )
        before = list(self.sizes).index(name) * own
        after = (len(self.sizes) - 1) * own - before
        return torch.cat([shared, functional.pad(private, (before, after))], dim=-1)

    @torch.no_grad()
    def goal(self, name: str, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """What a vector has to give again of a view: it [B, L], or its encoder's summary [B, K]."""
        summary = getattr(self.encoders[name], "summary", None)
        if summary is None:
            return values, mask
        size = self.sizes[name]
        made: Tensor = summary(values.unflatten(1, size), mask.unflatten(1, size))
        return made, mask.any(dim=1, keepdim=True).expand_as(made)

    def scale(self, a: str, b: str) -> Tensor:
        """Inverse temperature of a pair of views."""
        scale: Tensor = self.log_scales[pair_name(a, b)].exp()
        scale = scale.clamp(1.0, 100.0) if self.shape.clamp == "forward" else scale
        return scale * 2 if self.shape.private else scale  # of the shared parts, see `embed`

    def alignment_parameters(self) -> list[nn.Parameter]:
        """Everything but the generators, which are trained afterwards."""
        return [p for n, p in self.named_parameters() if not n.startswith("generators.")]

    def generation_loss(self, vectors: dict[str, Tensor], batch: Batch) -> Tensor:
        """Sum over all (from, to) of the Gaussian loss per pixel; the vectors are frozen."""
        total = next(iter(vectors.values())).sum() * 0.0
        for start, decoders in self.generators.items():
            assert isinstance(decoders, nn.ModuleDict)
            for to, decoder in decoders.items():
                values, mask = batch[to]
                both = batch[start][1].any(dim=1) & mask.any(dim=1)
                if bool(both.any()):
                    mean, log_variance = decoder(vectors[start][both])
                    total = total + gaussian_loss(mean, log_variance, values[both], mask[both])
        return total

    def clamp_scales(self) -> None:
        """Hold every log scale in [0, ln 100], in place, after a step."""
        if self.shape.clamp == "after":
            with torch.no_grad():
                for parameter in self.log_scales.values():
                    parameter.clamp_(0.0, MAX_LOG_SCALE)


def pair_name(a: str, b: str) -> str:
    """Key of a pair of modalities, whatever their order."""
    return "__".join(sorted((a, b))).replace(".", "_")


@torch.no_grad()
def embed_all(model: ClipModel, name: str, values: Tensor, mask: Tensor) -> Tensor:
    """Unit vectors [objects, D] in chunks of fixed size; the model must be in evaluation mode."""
    chunks = [
        model.embed(name, values[i : i + CHUNK], mask[i : i + CHUNK])
        for i in range(0, len(values), CHUNK)
    ]
    return torch.cat(chunks)
