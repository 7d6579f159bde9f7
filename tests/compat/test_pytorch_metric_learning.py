"""``sslkernels.compat.pytorch_metric_learning`` against formulas, and the installed package."""

from functools import partial

import formulas
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_same_signature, assert_same_steps

import sslkernels
from sslkernels.compat import pytorch_metric_learning as ours
from sslkernels.compat.peer import Peer

NAMES = sorted(ours.PEER.defined_in)


def nt_xent(z, labels, temperature):
    """One positive pair at a time."""
    scores = F.normalize(z, dim=1) @ F.normalize(z, dim=1).T / temperature
    losses = []
    for i, label in enumerate(labels):
        negatives = scores[i, labels != label].exp().sum()
        for p in (labels == label).nonzero()[:, 0]:
            if p != i:
                losses.append((1 + negatives / scores[i, p].exp()).log())
    if not losses or (labels == labels[0]).all():
        return 0 * z.sum()
    return torch.stack(losses).mean()


def supcon(z, labels, temperature):
    if (labels == labels[0]).all():
        return 0 * z.sum()
    rows, count = formulas.supcon_rows(z[:, None], formulas.same(labels), temperature)
    return rows[count > 0].sum() / (count > 0).sum().clamp(min=1)


@st.composite
def labelled(draw):
    count = draw(st.integers(2, 24))
    labels = draw(st.lists(st.integers(0, 5), min_size=count, max_size=count))
    torch.manual_seed(draw(st.integers(0, 99)))
    z = torch.randn(count, draw(st.integers(2, 9)), dtype=torch.float64, requires_grad=True)
    return z, torch.tensor(labels)


temperatures = st.floats(0.05, 1)
quick = settings(max_examples=25, deadline=None, derandomize=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@dtypes
@quick
@given(labelled(), temperatures)
def test_formulas(dtype, inputs, temperature):
    for name, formula in (("NTXentLoss", nt_xent), ("SupConLoss", supcon)):
        loss = getattr(ours, name)(temperature)
        assert_same_steps(loss, lambda *x, f=formula: f(*x, temperature), [inputs], dtype)


def test_blocks_of_rows(monkeypatch):
    """Pairs do not depend on the block size."""
    z = torch.randn(25, 5, dtype=torch.float64, requires_grad=True)
    labels = torch.arange(25) % 4
    monkeypatch.setattr(ours, "_ROWS", 7)
    assert_same_steps(ours.NTXentLoss(0.2), lambda *x: nt_xent(*x, 0.2), [(z, labels)])


def test_wrapper_by_formula():
    views = [torch.randn(9, 5, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    loss = ours.SelfSupervisedLoss(ours.NTXentLoss(0.2))
    assert_same_steps(loss, lambda a, b: formulas.nt_xent(a, b, 0.2), [views])
    one_way = ours.SelfSupervisedLoss(ours.NTXentLoss(0.2), symmetric=False)
    assert_same_steps(one_way, lambda a, b: formulas.info_nce(a, b, 0.2), [views])
    loss = ours.SelfSupervisedLoss(ours.SupConLoss(0.2))
    assert_same_steps(loss, lambda a, b: formulas.nt_xent(a, b, 0.2), [views])
    loss = ours.VICRegLoss()
    assert_same_steps(lambda a, b: loss(a, ref_emb=b), lambda a, b: formulas.vicreg(a, b), [views])


def test_what_is_refused_without_the_package(monkeypatch):
    monkeypatch.setattr(Peer, "own", lambda peer, name: None)
    z, labels = torch.randn(6, 3), torch.arange(6) // 2
    for name in NAMES:
        arguments = (ours.NTXentLoss(),) if name == "SelfSupervisedLoss" else ()
        with pytest.raises(ValueError, match=f"{name} of sslkernels takes no distance, reducer"):
            getattr(ours, name)(*arguments, reducer=object(), distance=object())
    pairs = tuple(torch.zeros(2, dtype=torch.int64) for _ in range(4))
    for loss in (ours.NTXentLoss(), ours.SupConLoss()):
        with pytest.raises(ValueError, match="takes no pairs but those of the labels"):
            loss(z, labels, pairs)
        with pytest.raises(ValueError, match="labels must be given"):
            loss(z)
        with pytest.raises(ValueError, match=r"got \(6, 3\) and \(5,\)"):
            loss(z, labels[:5])
        with pytest.raises(ValueError, match=r"ref_emb must be .* got \(6, 3\) and \(5,\)"):
            loss(z, labels, ref_emb=z, ref_labels=labels[:5])
    with pytest.raises(ValueError, match="VICRegLoss takes no labels"):
        ours.VICRegLoss()(z, labels, ref_emb=z)
    with pytest.raises(ValueError, match="loss must be one of .*; got MSELoss"):
        ours.SelfSupervisedLoss(torch.nn.MSELoss())


def ref_nt_xent(z, labels, other, other_labels, temperature, skips_own):
    """One positive pair at a time, for rows of two tensors."""
    scores = F.normalize(z, dim=1) @ F.normalize(other, dim=1).T / temperature
    losses = []
    for i, label in enumerate(labels):
        negatives = scores[i, other_labels != label].exp().sum()
        for p in (other_labels == label).nonzero()[:, 0]:
            if not (skips_own and p == i):
                losses.append((1 + negatives / scores[i, p].exp()).log())
    return torch.stack(losses).mean()


def ref_supcon(z, labels, other, other_labels, temperature, skips_own):
    scores = F.normalize(z, dim=1) @ F.normalize(other, dim=1).T / temperature
    losses = []
    for i, label in enumerate(labels):
        counts = torch.arange(len(other)) != (i if skips_own else -1)
        positives = scores[i, counts & (other_labels == label)]
        if len(positives):
            losses.append(scores[i, counts].logsumexp(0) - positives.mean())
    return torch.stack(losses).mean()


@dtypes
@pytest.mark.parametrize("skips_own", [False, True])
def test_other_embeddings(dtype, skips_own):
    """With one labels object for both, or none for the others, row i is not its own positive."""
    z, other = (torch.randn(7, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    labels = torch.arange(7) % 3
    for name, formula in (("NTXentLoss", ref_nt_xent), ("SupConLoss", ref_supcon)):
        loss = getattr(ours, name)(0.3)
        for ref_labels in (labels, None) if skips_own else (labels.clone(),):
            assert_same_steps(
                lambda a, b, x=ref_labels, f=loss: f(a, labels, ref_emb=b, ref_labels=x),
                lambda a, b, f=formula: f(a, labels, b, labels, 0.3, skips_own),
                [(z, other)],
                dtype,
            )


def test_labels_of_any_kind_and_batches_of_any_size():
    z, labels = torch.randn(7, 4), torch.arange(7) % 3
    for loss in (ours.NTXentLoss(), ours.SupConLoss()):
        expected = loss(z, labels)
        for dtype in (torch.uint8, torch.int32, torch.float16, torch.float64):
            assert torch.equal(loss(z, labels.to(dtype)), expected)
        assert torch.equal(loss(z, labels * 0.1 - 0.1), expected)
        for count in (0, 1, 2):
            few = torch.randn(count, 4, requires_grad=True)
            value = loss(few, torch.arange(count))
            value.backward()
            assert value == 0
            assert not few.grad.any()


@pytest.fixture(scope="module")
def theirs():
    pytest.importorskip("pytorch_metric_learning", reason="needs pytorch-metric-learning")
    return ours.PEER.find(ours, NAMES)[0]


def with_other_view(loss, labels, z, other):
    return loss(z, labels, ref_emb=other, ref_labels=labels.flip(0))


@dtypes
@quick
@given(data=st.data())
def test_same_results(theirs, dtype, data):
    inputs, temperature = data.draw(labelled()), data.draw(temperatures)
    for name in ("NTXentLoss", "SupConLoss"):
        pair = getattr(ours, name)(temperature), theirs[name](temperature)
        assert_same_steps(*pair, [inputs, inputs], dtype)
    z, labels = inputs
    other = torch.randn_like(z).requires_grad_()
    pair = [x["NTXentLoss"](temperature) for x in (vars(ours), theirs)]
    calls = [partial(with_other_view, loss, labels) for loss in pair]
    assert_same_steps(*calls, [(z, other)], dtype)


@dtypes
@quick
@given(data=st.data())
def test_same_wrapper(theirs, dtype, data):
    z, _ = data.draw(labelled())
    views = z, (z + torch.randn_like(z)).detach().requires_grad_()
    temperature, symmetric = data.draw(temperatures), data.draw(st.booleans())
    for name in ("NTXentLoss", "SupConLoss")[: 2 if symmetric else 1]:
        own, their = (x[name](temperature) for x in (vars(ours), theirs))
        expected = theirs["SelfSupervisedLoss"](their, symmetric)
        assert_same_steps(ours.SelfSupervisedLoss(own, symmetric), expected, [views], dtype)
        # each of the two in the other's wrapper
        mixed = ours.SelfSupervisedLoss(their, symmetric)
        assert_same_steps(mixed, expected, [views])
        mixed = theirs["SelfSupervisedLoss"](own, symmetric)
        assert_same_steps(mixed, expected, [views], dtype)
    weights = data.draw(st.lists(st.floats(0, 30), min_size=3, max_size=3))
    pair = [x["VICRegLoss"](*weights) for x in (vars(ours), theirs)]
    calls = [lambda a, b, loss=loss: loss(a, ref_emb=b) for loss in pair]
    assert_same_steps(*calls, [views], dtype)


@pytest.mark.parametrize("name", NAMES)
def test_same_signature(theirs, name):
    assert_same_signature(getattr(ours, name), theirs[name])


def test_patch(theirs):
    from pytorch_metric_learning import losses

    with sslkernels.patch("pytorch_metric_learning") as patch:
        assert {f"pytorch_metric_learning.losses.{x}" for x in NAMES} <= set(patch.replaced)
        loss = losses.SelfSupervisedLoss(losses.NTXentLoss(0.2))
        assert isinstance(loss, ours.SelfSupervisedLoss)
        assert isinstance(loss.loss, ours.NTXentLoss)
        assert isinstance(loss.loss, theirs["NTXentLoss"])
    assert type(losses.NTXentLoss()) is theirs["NTXentLoss"]


def test_what_is_shown():
    assert repr(ours.NTXentLoss()) == "NTXentLoss()"
    assert repr(ours.VICRegLoss(1, eps=0.1)) == "VICRegLoss(invariance_lambda=1, eps=0.1)"
    loss = ours.SelfSupervisedLoss(ours.SupConLoss(0.3), symmetric=False)
    assert "symmetric=False" in repr(loss)
    assert repr(loss).count("temperature=0.3") == 1


def test_memory_grows_with_rows():
    """No similarities are kept for the backward pass."""
    kept = []

    def keep(x):
        kept.append(x.numel())
        return x

    z, labels = torch.randn(200, 4, requires_grad=True), torch.arange(200) // 3
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        ours.NTXentLoss()(z, labels).backward()
    assert sum(kept) < 30 * 200
