"""Light curves: the Informer encoder (Zhou et al. 2021) as AstroM3 uses it (arXiv:2411.08842).

Shapes: B curves, L steps, C channels, H heads, W = H x D features a step.

`attention="full"` with `mask_padding=True` is what we hold to be right: exact attention over the
observed steps, padding trimmed to the longest curve of the batch. `attention="prob"` with
`mask_padding=False` and `pool="flatten"` is the published network, quirks included: sparse
attention over padding too, keys drawn at random (seeded here in evaluation), heads and steps
interleaved by a reshape. Weights trained that way load in that mode alone.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from mmclip.config import Seed, Size, Whole
from mmclip.encoders import Encoder, EncoderConfig, Weights, packed, seen, settings
from mmclip.encoders.layers import Dropout, attend

TOGETHER = 16  # curves at a time on a CPU, whose caches they fit better
TOKEN_DROPOUT = 0.1  # of the embedded steps; fixed in the published code


@dataclass(frozen=True)
class Options:
    """Settings of `informer`."""

    attention: str = "full"  # full | prob
    mask_padding: bool = True
    pool: str = "mean"  # mean over the observed steps | flatten: L x W features
    features: Size = 128
    hidden: Size = 512
    heads: Size = 4
    layers: Size = 8
    factor: Size = 1  # prob: ceil(ln L) x factor queries and sampled keys
    seed: Seed = 0  # prob: of the sampled keys in evaluation
    points: Whole = 0  # steps read of a longer curve: anywhere in training, else the middle; 0: all
    recompute: bool = False  # keep no activations inside a layer: less memory, a third slower


class Layer(nn.Module):
    """Attention, then two dense layers, each with residual and normalisation after it."""

    def __init__(self, own: Options, dropout: float, number: int) -> None:
        super().__init__()
        width = own.features
        self.own, self.number = own, number
        self.enter = nn.Linear(width, 3 * width)  # queries, keys, values
        self.leave = nn.Linear(width, width)
        self.widen = nn.Linear(width, own.hidden)
        self.narrow = nn.Linear(own.hidden, width)
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.drop = Dropout(dropout)

    def forward(self, x: Tensor, steps: Tensor | None) -> Tensor:
        first, second = self.norms
        x = first(x + self.drop(self._attend(x, steps)))
        hidden = self.drop(functional.gelu(self.widen(x)))
        made: Tensor = second(x + self.drop(self.narrow(hidden)))
        return made

    def packed(self, x: Tensor, lengths: tuple[int, ...]) -> Tensor:
        """The same of [T, W] steps of curves that lie one after another, without padding."""
        (first, second), p = self.norms, self.drop.p if self.training else 0.0
        mixed = packed.attend(self.enter(x), lengths, self.own.heads)
        x = first(x + packed.drop(self.leave(mixed), p))
        widen, narrow = ((m.weight, m.bias) for m in (self.widen, self.narrow))
        made: Tensor = second(x + packed.drop(packed.feed_forward(x, widen, narrow, p), p))
        return made

    def _attend(self, x: Tensor, steps: Tensor | None) -> Tensor:
        count, length, width = x.shape
        split = self.enter(x).view(count, length, 3, self.own.heads, -1)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)  # [B, H, L, D] each
        if self.own.attention == "prob":
            sampled = self._sampled(length).to(x.device)
            mixed = sparse_attention(queries, keys, values, sampled, self.own.factor)
            # The published reshape: [B, H, L, D] is read as [B, L, W] without moving the heads.
            made: Tensor = self.leave(mixed.reshape(count, length, width))
            return made
        mixed = attend(queries, keys, values, steps)
        made = self.leave(mixed.transpose(1, 2).reshape(count, length, width))
        return made

    def _sampled(self, length: int) -> Tensor:
        """[L, U] keys that each query looks at, of all curves and heads."""
        draws = (length, _few(length, self.own.factor))
        if self.training:
            return torch.randint(length, draws)
        fixed = torch.Generator().manual_seed(self.own.seed * 1000 + self.number)
        return torch.randint(length, draws, generator=fixed)


def _few(length: int, factor: int) -> int:
    return min(length, factor * math.ceil(math.log(length))) if length > 1 else 1


def sparse_attention(
    queries: Tensor, keys: Tensor, values: Tensor, sampled: Tensor, factor: int
) -> Tensor:
    """ProbSparse attention: the few queries that stand out attend, the others get the mean value.

    A query stands out by max_j(q.k_j) - sum_j(q.k_j) / L over its sampled keys.

    Args:
        queries, keys, values: [B, H, L, D].
        sampled: [L, U] indices of keys.
        factor: c of the paper; ceil(ln L) x c queries attend.

    Source:
        Zhou et al. 2021, arXiv:2012.07436, equation 4; the division by L (not U) is the code's.
    """
    length, width = queries.shape[2:]
    with torch.no_grad():
        products = torch.stack(
            [(queries * keys[:, :, sampled[:, u]]).sum(-1) for u in range(sampled.shape[1])], -1
        )
        outstanding = products.amax(-1) - products.sum(-1) / length
        chosen = outstanding.topk(_few(length, factor), sorted=False)[1].unsqueeze(-1)
    chosen = chosen.expand(-1, -1, -1, width)
    scores = queries.gather(2, chosen) @ keys.transpose(-2, -1) / math.sqrt(width)
    answers = torch.softmax(scores, dim=-1) @ values
    mean = values.mean(dim=2, keepdim=True).expand_as(values)
    return mean.scatter(2, chosen, answers.to(values.dtype))


class Informer(nn.Module):
    """Curves [B, L, C] -> features [B, self.width]."""

    def __init__(self, size: tuple[int, ...], config: EncoderConfig) -> None:
        super().__init__()
        self.own = own = settings(Options, "informer", config)
        length, channels = (size[0], 1) if len(size) == 1 else (size[0], size[1])
        length = min(length, own.points or length)
        self.length = length
        self.embed = nn.Conv1d(channels, own.features, 3, bias=False)
        nn.init.kaiming_normal_(self.embed.weight, mode="fan_in", nonlinearity="leaky_relu")
        self.register_buffer("places", sinusoids(length, own.features), persistent=False)
        self.drop_tokens = Dropout(TOKEN_DROPOUT if config.dropout > 0 else 0.0)
        self.layers = nn.ModuleList([Layer(own, config.dropout, i) for i in range(own.layers)])
        self.norm = nn.LayerNorm(own.features)
        self.drop = Dropout(config.dropout)
        self.width = own.features * (length if own.pool == "flatten" else 1)

    def forward(self, values: Tensor, mask: Tensor) -> Tensor:
        x = seen(values, mask)
        x, mask = (x.unsqueeze(-1), mask.unsqueeze(-1)) if x.ndim == 2 else (x, mask)
        x, mask = window(x, mask, self.length, self.training)
        steps = mask.any(-1)
        graph = torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling()
        full = self.own.mask_padding and self.own.attention == "full"
        if not full or graph or x.device.type != "cpu":
            return self._encoded(x, steps)
        pairs = zip(x.split(TOGETHER), steps.split(TOGETHER))
        return torch.cat([self._packed(*some) for some in pairs])

    def _packed(self, x: Tensor, steps: Tensor) -> Tensor:
        """`_encoded` for a CPU: only observed steps go through the layers."""
        found = self._tokens(x)[steps]
        lengths = tuple(n for n in steps.sum(1).tolist() if n)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            if self.own.recompute and torch.is_grad_enabled():
                found = checkpoint(layer.packed, found, lengths, use_reentrant=False)
            else:
                found = layer.packed(found, lengths)
        found = self.drop(self.norm(found))
        if self.own.pool == "mean":
            total = found.new_zeros(len(x), found.shape[1])
            total = total.index_add(0, torch.where(steps)[0], found)
            mean: Tensor = total / steps.sum(1, keepdim=True).clamp(min=1)
            return mean
        whole: Tensor = found.new_zeros(*steps.shape, found.shape[1]).index_put((steps,), found)
        return whole.flatten(1)

    def _encoded(self, x: Tensor, steps: Tensor) -> Tensor:
        allowed, whole = None, x.shape[1]
        if self.own.mask_padding:
            used = int(torch.where(steps.any(0))[0].max()) + 1 if bool(steps.any()) else 1
            x, steps = x[:, :used], steps[:, :used]
            if not bool(steps.all()):
                allowed = steps | ~steps.any(1, keepdim=True)  # a softmax needs one step
        x = self._tokens(x)
        for layer in self.layers:
            if self.own.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, allowed, use_reentrant=False)
            else:
                x = layer(x, allowed)
        x = self.drop(self.norm(x)) * steps.unsqueeze(-1)
        if self.own.pool == "mean":
            mean: Tensor = x.sum(1) / steps.sum(1, keepdim=True).clamp(min=1)
            return mean
        return functional.pad(x, (0, 0, 0, whole - x.shape[1])).flatten(1)

    def _tokens(self, x: Tensor) -> Tensor:
        # Circular padding ties the last step to the first: right for the published weights only.
        ends = "constant" if self.own.mask_padding else "circular"
        around = functional.pad(x.transpose(1, 2), (1, 1), mode=ends)
        places: Tensor = self.get_buffer("places")
        tokens: Tensor = self.drop_tokens(self.embed(around).transpose(1, 2) + places[: x.shape[1]])
        return tokens


def window(x: Tensor, mask: Tensor, length: int, anywhere: bool) -> tuple[Tensor, Tensor]:
    """A run of `length` of the observed steps of curves [B, L, C], observed steps first.

    Args:
        anywhere: Each start is as likely as another, both ends in; else the middle is taken.

    Source:
        Rizhko & Bloom 2025, arXiv:2411.08842, section 2 and public code: a random start in
        training, (n - length) // 2 otherwise.
    """
    if x.shape[1] <= length:
        return x, mask
    more = (mask.any(-1).sum(1) - length).clamp(min=0)
    start = more // 2
    if anywhere:
        start = ((more + 1) * torch.rand(len(x), device=x.device)).long().clamp(max=more)
    at = start.unsqueeze(1) + torch.arange(length, device=x.device)
    index = at.unsqueeze(-1).expand(-1, -1, x.shape[-1])
    return x.gather(1, index), mask.gather(1, index)


def sinusoids(length: int, width: int) -> Tensor:
    """Fixed places [length, width]: sines and cosines of base 10,000 (arXiv:1706.03762, 3.5)."""
    rate = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle = torch.arange(length).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(length, width)


def translate(published: Weights) -> Weights:
    """Weights of AstroM3's public code (its photometry encoder, prefix removed)."""
    made: Weights = {}
    convolution = "enc_embedding.value_embedding.tokenConv.weight"
    renamed = {
        "attention.out_projection": "leave", "conv1": "widen", "conv2": "narrow",
        "norm1": "norms.0", "norm2": "norms.1",
    }  # fmt: skip
    for key, value in published.items():
        if key == convolution:
            made["embed.weight"] = value
        elif key.startswith("encoder.norm."):
            made[key.removeprefix("encoder.")] = value
        elif key.startswith("encoder.attn_layers."):
            number, rest = key.removeprefix("encoder.attn_layers.").split(".", 1)
            place, kind = rest.rsplit(".", 1)
            if place in renamed:
                # 1 x 1 convolutions are dense layers.
                flat = value.squeeze(-1) if place.startswith("conv") and kind == "weight" else value
                made[f"layers.{number}.{renamed[place]}.{kind}"] = flat
            elif place == "attention.query_projection":
                parts = [
                    published[f"encoder.attn_layers.{number}.attention.{p}_projection.{kind}"]
                    for p in ("query", "key", "value")
                ]
                made[f"layers.{number}.enter.{kind}"] = torch.cat(parts)
    return made


ENCODER = Encoder("informer", Informer, Options, axes=(1, 2), translate=translate)
