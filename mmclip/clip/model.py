"""The model: one encoder and one projection a modality, one learned scale a pair.

Shapes: B objects, L entries of a view, D embedding dimension.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional

from mmclip import plugins
from mmclip.clip.loss import clip_loss, gaussian_loss
from mmclip.encoders import EncoderConfig

MAX_LOG_SCALE = math.log(100.0)
SELF_SCALE = 10.0  # inverse temperature between an object and its twin: SimCLR's tau = 0.1
Batch = dict[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Shape:
    """What fixes the tensors of a model; `sizes` is the shape of one object in each view."""

    sizes: dict[str, tuple[int, ...]]
    encoders: dict[str, str]
    dimension: int
    encoder: EncoderConfig
    logit_scale: float


class ClipModel(nn.Module):
    """Encoders, projections, scales; and decoders from each embedding to every view."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        names = sorted(shape.sizes)
        self.sizes = {n: tuple(shape.sizes[n]) for n in names}
        lengths = {n: math.prod(size) for n, size in self.sizes.items()}
        self.encoders = nn.ModuleDict()
        self.projections = nn.ModuleDict()
        self.reconstructors = nn.ModuleDict()
        self.generators = nn.ModuleDict()
        decoder = plugins.load("decoders", "gaussian", "DECODER")
        for name in names:
            encoder = plugins.load("encoders", shape.encoders[name], "ENCODER")
            self.encoders[name] = encoder.build(self.sizes[name], shape.encoder)
            self.projections[name] = nn.Linear(shape.encoder.width, shape.dimension)
            self.reconstructors[name] = nn.Sequential(
                nn.Linear(shape.dimension, shape.encoder.width),
                nn.GELU(),
                nn.Linear(shape.encoder.width, lengths[name]),
            )
            self.generators[name] = nn.ModuleDict(
                {to: decoder.build(shape.dimension, self.sizes[to]) for to in names}
            )
        start = torch.tensor(math.log(shape.logit_scale))
        self.log_scales = nn.ParameterDict(
            {pair_name(a, b): nn.Parameter(start.clone()) for a, b in combinations(names, 2)}
        )

    def embed(self, name: str, values: Tensor, mask: Tensor) -> Tensor:
        """Unit vectors [B, D] of one view; `values` and `mask` are [B, L]."""
        size = self.sizes[name]
        features = self.encoders[name](values.unflatten(1, size), mask.unflatten(1, size))
        return functional.normalize(self.projections[name](features).float(), dim=-1)

    def alignment_parameters(self) -> list[nn.Parameter]:
        """Everything but the generators, which are trained afterwards."""
        return [p for n, p in self.named_parameters() if not n.startswith("generators.")]

    def alignment_loss(
        self,
        batch: Batch,
        symmetric: str,
        pairs: str,
        reconstruction: float,
        twin: Batch | None = None,
        self_contrast: float = 0.0,
    ) -> tuple[Tensor, dict[str, float]]:
        """Contrastive loss over all pairs of views, plus what keeps each view's own knowledge.

        An object that lacks a view takes part in the pairs it has. A pair with fewer than two
        common objects is left out.

        Args:
            batch: Values and masks of each view.
            symmetric, pairs: `mean` or `sum` of the two directions; of the pairs of views.
            reconstruction: Weight of the mean squared error of each view from its own vector.
            twin: The same objects redrawn within their errors, for views that have errors.
            self_contrast: Weight of telling an object's twin from the others, view by view.
        """
        vectors = {n: self.embed(n, v, m) for n, (v, m) in batch.items()}
        present = {n: m.any(dim=1) for n, (_, m) in batch.items()}
        terms, parts = [], {}
        for a, b in combinations(sorted(batch), 2):
            both = present[a] & present[b]
            if int(both.sum()) < 2:
                continue
            scale = self.log_scales[pair_name(a, b)].exp()
            term = clip_loss(vectors[a][both], vectors[b][both], scale, symmetric)
            terms.append(term)
            parts[f"clip {a}-{b}"] = term.item()
        zero = next(iter(vectors.values())).sum() * 0.0
        loss = torch.stack(terms).sum() if terms else zero
        if pairs == "mean" and terms:
            loss = loss / len(terms)
        parts["clip"] = loss.item()
        for name, (values, mask) in (twin or {}).items():
            seen = present[name]
            if self_contrast and int(seen.sum()) >= 2:
                again = self.embed(name, values, mask)
                scale = torch.tensor(SELF_SCALE, device=values.device)
                term = clip_loss(vectors[name][seen], again[seen], scale, "mean")
                loss = loss + self_contrast * term / len(twin or {})
                parts[f"self {name}"] = term.item()
        if reconstruction:
            for name, (values, mask) in batch.items():
                guess = self.reconstructors[name](vectors[name] * vectors[name].shape[1] ** 0.5)
                square = torch.where(mask, values - guess, 0.0) ** 2
                term = square.sum() / mask.sum().clamp(min=1)
                loss = loss + reconstruction * term / len(batch)
                parts[f"reconstruction {name}"] = term.item()
        parts["loss"] = loss.item()
        return loss, parts

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
        with torch.no_grad():
            for parameter in self.log_scales.values():
                parameter.clamp_(0.0, MAX_LOG_SCALE)


def pair_name(a: str, b: str) -> str:
    """Key of a pair of modalities, whatever their order."""
    return "__".join(sorted((a, b))).replace(".", "_")
