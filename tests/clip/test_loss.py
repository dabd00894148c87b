"""Chunked, sigmoid, cached and distributed losses against the naive one in float64."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.nn.functional import normalize

from mmclip.clip.loss import chunked_clip_loss, clip_loss, contrastive, sigmoid_loss
from mmclip.clip.model import ClipModel, Shape
from mmclip.clip.objective import Objective, alignment_loss, backward, embed_batch
from mmclip.clip.retrieval_metrics import accuracy, measure, ranks, uniformity
from mmclip.encoders import EncoderConfig
from mmclip.training.distributed import ALONE, Group


def pair(stars, dimension=32, seed=0, noise=1.0):
    """Unit vectors that agree in part, as those of a model half trained."""
    torch.manual_seed(seed)
    shared = torch.randn(stars, dimension)
    left, right = (normalize(shared + noise * torch.randn(stars, dimension), dim=-1) for _ in "ab")
    return left, right


def naive(left, right, scale):
    """Value and gradients of the definition, in float64: cross-entropies by a softmax."""
    a, b = (v.double().clone().requires_grad_() for v in (left, right))
    s = torch.tensor(scale, dtype=torch.float64, requires_grad=True)
    logits = s * a @ b.T
    rows = -torch.log_softmax(logits, 1).diagonal().mean()
    columns = -torch.log_softmax(logits, 0).diagonal().mean()
    loss = (rows + columns) / 2
    loss.backward()
    return loss.item(), a.grad, b.grad, s.grad


@pytest.mark.parametrize(("stars", "rows"), [(97, 13), (600, 101), (600, 4000)])
@pytest.mark.parametrize(
    ("scale", "kind", "within"),
    [
        (1.0, torch.float32, 1e-6), (10.0, torch.float32, 1e-6), (30.0, torch.float32, 1e-6),
        (100.0, torch.float32, 1e-5), (10.0, torch.float64, 1e-12), (100.0, torch.float64, 1e-12),
    ],
)  # fmt: skip
def test_the_chunked_loss_and_its_gradient_are_those_of_the_naive_one_in_float64(
    stars, rows, scale, kind, within
):
    """In float32 a logit near 100 is itself rounded by 4e-6, hence the bound there."""
    left, right = (v.to(kind).clone() for v in pair(stars))
    value, of_left, of_right, of_scale = naive(left, right, scale)
    a, b = left.clone().requires_grad_(), right.clone().requires_grad_()
    s = torch.tensor(scale, dtype=kind, requires_grad=True)
    loss = chunked_clip_loss(a, b, s, rows=rows)
    loss.backward()
    assert loss.item() == pytest.approx(value, rel=within, abs=within / 10)
    for found, truth in ((a.grad, of_left), (b.grad, of_right)):
        assert (found.double() - truth).norm() <= within * truth.norm()
    assert s.grad.item() == pytest.approx(of_scale.item(), rel=100 * within, abs=within)


@pytest.mark.slow
def test_the_chunked_loss_holds_a_small_part_of_the_logits(forks):
    """Peak memory of a child process over what it held before; these logits alone are 604 MB.

    The figure of 65,536 objects (17 GB of logits) is measured by `mmclip bench train`.
    """
    code = (
        "import torch; from torch.nn.functional import normalize;"
        "from mmclip.tasks.bench.train import peak;"
        "from mmclip.clip.loss import chunked_clip_loss as f;"
        "torch.manual_seed(0); a, b = torch.randn(2, 12288, 16);"
        "a = normalize(a, dim=1).requires_grad_(); b = normalize(b, dim=1).requires_grad_();"
        "f(a[:64], b[:64], torch.tensor(9.)).backward();"
        "before = peak();"
        "loss = f(a, b, torch.tensor(9.)); loss.backward();"
        "print((peak() - before) * 2**30, loss.item())"
    )
    done = forks.run(code=code)
    assert done.code == 0, done.err
    memory, loss = (float(x) for x in done.out.split())
    assert memory < 1e8
    # Random vectors: ln N plus the log of the mean of exp(9 cos) over the sphere in 16 dimensions.
    cosine = np.linspace(-1, 1, 20001)
    weight = (1 - cosine**2) ** ((16 - 3) / 2)
    mean = (np.exp(9 * cosine) * weight).sum() / weight.sum()
    assert loss == pytest.approx(np.log(12288 * mean), rel=0.01)


def test_the_sigmoid_loss_is_its_definition():
    left, right = pair(11, 4)
    s, b = 5.0, -2.0
    logits = s * left.double().numpy() @ right.double().numpy().T + b
    z = 2 * np.eye(11) - 1
    truth = np.log1p(np.exp(-z * logits)).sum() / 11
    found = sigmoid_loss(left, right, torch.tensor(s), torch.tensor(b))
    assert found.item() == pytest.approx(truth, rel=1e-5)
    both = torch.ones(11, dtype=torch.bool)
    chunked = contrastive(left, right, both, torch.tensor(s), bias=torch.tensor(b), rows=3)
    assert chunked.item() == pytest.approx(truth, rel=1e-5)


def test_a_pair_of_fewer_than_two_objects_has_no_loss():
    left, right = pair(4)
    one = torch.tensor([True, False, False, False])
    assert contrastive(left, right, one, torch.tensor(1.0)) is None


def model(names=("a", "b"), dropout=0.0, bias=False, labels=0):
    torch.manual_seed(0)
    shape = Shape(
        dict.fromkeys(names, (6,)), dict.fromkeys(names, "mlp"), 8,
        EncoderConfig(16, 1, dropout), 10.0, bias=bias, generate=False, labels=labels,
    )  # fmt: skip
    return ClipModel(shape)


def made_batch(names="ab", stars=16):
    torch.manual_seed(3)
    batch = {n: (torch.randn(stars, 6), torch.rand(stars, 6) > 0.1) for n in names}
    batch[names[-1]][1][5:8] = False  # three objects lack the last view
    return batch


HOW = Objective("mean", "sum", reconstruction=0.5, self_contrast=0.7)


def gradients(net, batch, chunk=0, group=ALONE, how=HOW):
    twin = {"a": (batch["a"][0] + 0.1, batch["a"][1])}
    net.zero_grad()
    loss, _ = backward(net, batch, twin, how, chunk, group=group)
    grads = {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
    return float(group.total(loss)) / group.size, grads


@pytest.mark.parametrize("chunk", [1, 5, 16])
def test_gradients_by_chunks_are_those_of_the_whole_batch(chunk):
    net, batch = model(("a", "b", "c")), made_batch("abc")
    value, whole = gradients(net, batch)
    again, cached = gradients(net, batch, chunk)
    assert again == pytest.approx(value, rel=1e-6)
    assert cached.keys() == whole.keys()
    for name, grad in whole.items():
        torch.testing.assert_close(cached[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_the_second_pass_of_a_chunk_sees_the_same_dropout_as_the_first():
    net, batch = model(dropout=0.5).train(), made_batch()
    torch.manual_seed(7)
    _, cached = gradients(net, batch, 4)
    # The same graph by autograd alone: chunks encoded one after the other, then one loss.
    from mmclip.clip.objective import alignment_loss

    net.zero_grad()
    torch.manual_seed(7)
    twin = {"a": (batch["a"][0] + 0.1, batch["a"][1])}
    parts, twins = [], []
    for i in range(0, 16, 4):
        parts.append(
            embed_batch(net, {n: (v[i : i + 4], m[i : i + 4]) for n, (v, m) in batch.items()})
        )
        twins.append(
            embed_batch(net, {n: (v[i : i + 4], m[i : i + 4]) for n, (v, m) in twin.items()})
        )
    vectors = {n: torch.cat([p[n] for p in parts]) for n in batch}
    alignment_loss(net, vectors, batch, HOW, {"a": torch.cat([t["a"] for t in twins])})[
        0
    ].backward()
    for name, parameter in net.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(cached[name], parameter.grad, rtol=1e-4, atol=1e-6, msg=name)


def one_rank(rank, size, bias, out):
    """The gradient of this process's share of the batch; rank 0 writes it down."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{out}-meeting", rank=rank, world_size=size)
    group, share = Group(rank, size), 16 // size
    part = slice(rank * share, (rank + 1) * share)
    mine = {n: (v[part], m[part]) for n, (v, m) in made_batch("abc").items()}
    for chunk in (0, 2):
        made = gradients(model(("a", "b", "c"), bias=bias), mine, chunk, group)
        if rank == 0:
            torch.save(made, f"{out}-{chunk}")
    dist.barrier()  # nobody leaves while another still sends
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize(("size", "bias"), [(2, True), (4, False)])
def test_gradients_of_several_processes_are_those_of_one(forks, size, bias, tmp_path):
    value, whole = gradients(model(("a", "b", "c"), bias=bias), made_batch("abc"))
    out = str(tmp_path / "grads")
    done = forks.run(
        code="import torch.multiprocessing as m; from tests.clip.test_loss import one_rank;"
        f"m.start_processes(one_rank, ({size}, {bias}, {out!r}), {size}, start_method='fork')"
    )
    assert done.code == 0, done.err
    for chunk in (0, 2):
        again, shared = torch.load(f"{out}-{chunk}")
        assert again == pytest.approx(value, rel=1e-5)
        assert shared.keys() == whole.keys()
        for name, grad in whole.items():
            torch.testing.assert_close(shared[name], grad, rtol=1e-4, atol=1e-6, msg=name)


def test_ranks_are_those_of_brute_force_and_ties_are_worse():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1100, 5)).astype("f4")
    scores = a @ b.T
    truth = [(scores[i] >= scores[i, i]).sum() for i in range(1100)]
    assert ranks(torch.tensor(a), torch.tensor(b)).tolist() == truth
    same = torch.ones(7, 3)
    assert ranks(same, same).tolist() == [7] * 7


def test_measures_of_known_vectors():
    turn = torch.tensor([[1.0, 0], [0, 1], [-1, 0], [0, -1]])
    there = torch.ones(4, dtype=torch.bool)
    same = measure({"a": turn, "b": turn}, {"a": there, "b": there})
    assert same["recall@1"] == 1.0
    assert same["median rank a->b"] == 1.0
    assert same["alignment a-b"] == 0.0
    assert same["gap a-b"] == pytest.approx(0.0, abs=1e-6)
    # Four corners: four pairs at distance^2 = 2, two at 4.
    truth = np.log((4 * np.exp(-4) + 2 * np.exp(-8)) / 6)
    assert uniformity(turn) == pytest.approx(truth, rel=1e-5)
    opposite = measure({"a": turn, "b": -turn}, {"a": there, "b": there})
    assert opposite["alignment a-b"] == pytest.approx(4.0)
    assert opposite["recall@1"] == 0.0
    assert opposite["candidates a-b"] == 4


def test_accuracy_is_the_arg_max_of_the_mean_probability():
    logits = torch.tensor([[2.0, 0.0, 0.0], [5.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
    p = np.exp(logits.numpy())
    q = np.exp(logits.numpy().T)
    mean = p / p.sum(1, keepdims=True) + q / q.sum(1, keepdims=True)
    assert int(accuracy([logits])) == (mean.argmax(1) == np.arange(3)).sum() == 1


@pytest.mark.parametrize("stars", [64, 512])
def test_at_scale_100_random_unit_vectors_cost_what_was_measured_on_the_published_loss(stars):
    """84.6 at N = 512 for the sum of six cross-entropies; ln N each at scale 0."""
    torch.manual_seed(0)
    views = [normalize(torch.randn(stars, 512), dim=-1) for _ in range(3)]
    pairs = [(0, 1), (1, 2), (2, 0)]
    total = sum(clip_loss(views[a], views[b], torch.tensor(100.0), "sum") for a, b in pairs)
    if stars == 512:
        assert total.item() == pytest.approx(84.6, rel=0.03)
    flat = sum(clip_loss(views[a], views[b], torch.tensor(1e-6), "sum") for a, b in pairs)
    assert flat.item() == pytest.approx(6 * np.log(stars), rel=1e-4)


def test_labels_are_told_by_the_stars_that_have_them_alone():
    net, batch = model(labels=2), made_batch(stars=12)
    vectors = {n: net.embed(n, *v) for n, v in batch.items()}
    labels = torch.tensor([[0.5, torch.nan], [3.0, -1.0], *[[torch.nan] * 2] * 10])
    loss, parts = alignment_loss(net, vectors, batch, Objective(labels=2.0), labels=labels)
    plain, _ = alignment_loss(net, vectors, batch, Objective())
    for name in ("a", "b"):
        told = net.label_heads[name](vectors[name] * 8**0.5)[:2]
        off = (told - labels[:2]).abs()[torch.isfinite(labels[:2])]
        huber = torch.where(off < 1, off**2 / 2, off - 0.5)
        assert parts[f"labels {name}"].item() == pytest.approx(huber.mean().item(), rel=1e-5)
    wanted = 2.0 * (parts["labels a"] + parts["labels b"]) / 2
    assert (loss - plain).item() == pytest.approx(wanted.item(), rel=1e-5)
