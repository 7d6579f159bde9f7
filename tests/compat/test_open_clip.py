"""``sslkernels.compat.open_clip`` against formulas, and the package if it is installed."""

import formulas
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from parity import assert_same_signature, assert_same_steps, installed
from torch.distributed import all_reduce, get_world_size
from torch.distributed import nn as dist_nn

import sslkernels
from bench import peers
from sslkernels.compat import open_clip as ours
from sslkernels.compat.peer import Peer

quick = settings(max_examples=25, deadline=None, derandomize=True)
dtypes = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)


@st.composite
def features(draw):
    torch.manual_seed(draw(st.integers(0, 99)))
    shape = draw(st.integers(1, 20)), draw(st.integers(1, 9))
    pair = [F.normalize(torch.randn(shape, dtype=torch.float64), dim=1) for _ in range(2)]
    scale, bias = draw(st.floats(1, 50)), draw(st.floats(-15, 5))
    numbers = [torch.tensor(x, dtype=torch.float64) for x in (scale, bias)]
    return [x.requires_grad_() for x in (*pair, *numbers)]


@dtypes
@quick
@given(features())
def test_formulas(dtype, inputs):
    clip, siglip = ours.ClipLoss(), ours.SigLipLoss()
    assert_same_steps(clip, formulas.clip, [inputs[:3]], dtype)
    assert_same_steps(clip, lambda i, t, s, b: formulas.clip(i, t, s) + 0 * b, [inputs], dtype)
    assert_same_steps(siglip, formulas.siglip, [inputs], dtype)
    assert torch.equal(clip(*inputs[:3], output_dict=True)["contrastive_loss"], clip(*inputs[:3]))
    assert torch.equal(siglip(*inputs, output_dict=True)["contrastive_loss"], siglip(*inputs))


def test_captions_by_formula():
    inputs = [F.normalize(torch.randn(5, 4), dim=1) for _ in range(2)]
    logits, labels = torch.randn(5, 3, 7), torch.randint(7, (5, 3))
    loss = ours.CoCaLoss(2.0, 0.5, pad_id=3)
    found = loss(*inputs, logits, labels, 10.0)
    expected = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=3)
    torch.testing.assert_close(found[0], formulas.clip(*inputs, 10.0) / 2)
    torch.testing.assert_close(found[1], 2 * expected)
    assert loss(*inputs, logits, labels, 10.0, True)["caption_loss"] == found[1]
    assert ours.CoCaLoss(2.0, 0)(*inputs, logits, labels, 10.0)[0] == 0


def test_errors(monkeypatch):
    monkeypatch.setattr(Peer, "own", lambda peer, name: None)  # as if it were not installed
    with pytest.raises(ValueError, match="use_horovod must be False"):
        ours.ClipLoss(use_horovod=True)
    with pytest.raises(ValueError, match="local_loss=True needs gather_with_grad=True"):
        ours.ClipLoss(local_loss=True, world_size=2)
    with pytest.raises(AssertionError, match="dist_impl must be one of bidir, shift"):
        ours.SigLipLoss(dist_impl="ring")
    x = torch.ones(2, 3)
    for loss in (ours.ClipLoss(world_size=2), ours.SigLipLoss(world_size=2)):
        with pytest.raises(ValueError, match="world_size=2, but torch.distributed knows 1 ranks"):
            loss(x, x, 1.0, 0.0)


def on_a_rank(rank, local_loss, gather_with_grad):
    """Value and gradients of ours, and of open_clip's formula, on each rank."""
    world_size = get_world_size()
    everything = F.normalize(torch.randn(2, 3 * world_size, 5, dtype=torch.float64), dim=2)
    results = []
    for own in (True, False):
        rows = everything[:, 3 * rank : 3 * rank + 3].clone().requires_grad_()
        scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
        if own:
            loss = ours.ClipLoss(local_loss, gather_with_grad, rank=rank, world_size=world_size)
            value = loss(*rows, scale)
        elif gather_with_grad:
            image, text = (torch.cat(dist_nn.all_gather(x.contiguous())) for x in rows)
            labels = torch.arange(3) + 3 * rank
            if local_loss:
                scores = rows[0] @ text.T * scale, rows[1] @ image.T * scale
                value = sum(F.cross_entropy(x, labels) for x in scores) / 2
            else:
                value = formulas.clip(image, text, scale)
        else:
            gathered = everything.clone()
            image, text = (
                torch.cat([x[: 3 * rank], y, x[3 * rank + 3 :]])
                for x, y in zip(gathered, rows, strict=True)
            )
            value = formulas.clip(image, text, scale)
        value.backward()
        all_reduce(scale.grad)  # as DistributedDataParallel does
        results.append((value.detach(), rows.grad, scale.grad / world_size))
    return results


@pytest.mark.parametrize("flags", [(False, False), (False, True), (True, True)])
def test_ranks(gang, flags):
    for found, expected in gang.run(on_a_rank, *flags):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


def theirs_on_a_rank(rank, local_loss, gather_with_grad):
    """The same for open_clip's own code."""
    world_size = get_world_size()
    everything = F.normalize(torch.randn(2, 3 * world_size, 5, dtype=torch.float64), dim=2)
    results = []
    for module in (ours, peers.open_clip_losses()):
        rows = everything[:, 3 * rank : 3 * rank + 3].clone().requires_grad_()
        scale = torch.tensor(7.0, dtype=torch.float64, requires_grad=True)
        options = {"rank": rank, "world_size": world_size}
        loss = module.ClipLoss(local_loss, gather_with_grad, **options)
        sigmoid = module.SigLipLoss(dist_impl="gather", **options)
        (loss(*rows, scale) + sigmoid(*rows, scale, -3.0)).backward()
        all_reduce(scale.grad)
        with torch.no_grad():
            results.append((loss(*rows, scale), rows.grad, scale.grad / world_size))
    return results


@pytest.mark.parametrize("gang", [2], indirect=True)
@pytest.mark.parametrize("flags", [(False, False), (False, True), (True, True)])
def test_ranks_as_open_clip(gang, theirs, flags):
    for found, expected in gang.run(theirs_on_a_rank, *flags):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)


@pytest.fixture(scope="module")
def theirs():
    return installed(peers.open_clip_losses)


@dtypes
@quick
@given(features())
def test_same_results(theirs, dtype, inputs):
    assert_same_steps(ours.ClipLoss(), theirs.ClipLoss(), [inputs[:3], inputs], dtype)
    for name in (None, "bidir", "shift", "reduce", "gather"):
        pair = (x.SigLipLoss(dist_impl=name) for x in (ours, theirs))
        assert_same_steps(*pair, [inputs, [*inputs[:3], None]], dtype)
    image, text, scale, _ = inputs
    logits = torch.randn(len(image), 4, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(1, 6, (len(image), 4))
    pair = [x.CoCaLoss(2.0, 0.7) for x in (ours, theirs)]
    sums = [lambda *x, loss=loss: sum(loss(*x)) for loss in pair]
    assert_same_steps(*sums, [(image, text, logits, labels, scale)], dtype)


@pytest.mark.parametrize("name", ours.__all__)
def test_same_signature(theirs, name):
    assert_same_signature(getattr(ours, name), getattr(theirs, name))


def test_patch():
    def load():
        peers.torchvision_transforms()
        import open_clip

        return open_clip

    package = installed(load)
    before = package.ClipLoss, package.loss.CoCaLoss
    with sslkernels.patch("open_clip") as patch:
        places = {f"{x}.ClipLoss" for x in ("open_clip", "open_clip.loss", "open_clip.factory")}
        assert places <= set(patch.replaced)
        loss = package.ClipLoss()
        assert isinstance(loss, ours.ClipLoss)
        assert isinstance(loss, before[0])
    assert (package.ClipLoss, package.loss.CoCaLoss) == before
