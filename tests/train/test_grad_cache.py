"""Micro-batches give the gradient of the whole batch."""

import copy
from collections import OrderedDict, UserDict

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sslkernels import NTXentLoss
from sslkernels.data import MovedDigitViews, load_digits
from sslkernels.train import GradCache


class TwoViews(nn.Module):
    """Embeds two views with one network."""

    def __init__(self, *layers):
        super().__init__()
        self.network = nn.Sequential(nn.Flatten(), *layers)

    def forward(self, view0, view1):
        return self.network(torch.cat([view0, view1])).chunk(2)


def small_network():
    torch.manual_seed(5)
    return TwoViews(nn.Linear(1024, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 16, bias=False))


def digit_views(batch_size):
    train_split, _ = load_digits()
    return next(iter(MovedDigitViews(train_split, batch_size))).views


def learned_loss():
    return NTXentLoss(nn.Parameter(torch.tensor(0.2)))


def one_shot(encoder, loss, views):
    value = loss(*encoder(*views))
    value.backward()
    return value


def gradients(*modules):
    return [p.grad for module in modules for p in module.parameters()]


def assert_equal(found, expected, tolerance=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= tolerance * b.norm()


@pytest.mark.parametrize("batch_size, micro_batch", [(4000, 256), (100, 33), (20, 20), (7, 100)])
def test_equals_one_shot(batch_size, micro_batch):
    encoder, loss, views = small_network(), learned_loss(), digit_views(batch_size)
    plain, plain_loss = copy.deepcopy(encoder), copy.deepcopy(loss)
    value, embeddings = GradCache(encoder, loss, micro_batch)(*views)
    expected = one_shot(plain, plain_loss, views)
    torch.testing.assert_close(value, expected.detach())
    assert not value.requires_grad and [x.shape for x in embeddings] == [(batch_size, 16)] * 2
    assert_equal(gradients(encoder, loss), gradients(plain, plain_loss))


def test_gradients_add_up():
    encoder, views = small_network(), digit_views(32)
    step = GradCache(encoder, NTXentLoss(0.2), 8)
    step(*views)
    once = [grad.clone() for grad in gradients(encoder)]
    step(*views)
    assert_equal(gradients(encoder), [2 * grad for grad in once])


class Recorder(nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.detach().clone())
        return x


def test_dropout_is_the_same_in_both_passes():
    recorder = Recorder()
    encoder = TwoViews(nn.Linear(1024, 8), nn.Dropout(0.5), recorder)
    GradCache(encoder, NTXentLoss(0.2), 8)(*digit_views(24))
    first, second = recorder.seen[:3], recorder.seen[3:]
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(first[0] == 0, first[1] == 0)

    torch.manual_seed(1)
    GradCache(encoder, NTXentLoss(0.2), 8)(*digit_views(24))
    after = torch.rand(1)
    torch.manual_seed(1)
    with torch.no_grad():
        for batch in zip(*(view.split(8) for view in digit_views(24)), strict=True):
            encoder(*batch)
    assert torch.equal(after, torch.rand(1))  # as after one pass


def test_batch_norm_takes_one_step_per_micro_batch():
    encoder = TwoViews(nn.Linear(1024, 8), nn.BatchNorm1d(8))
    once = copy.deepcopy(encoder)
    views = digit_views(24)
    GradCache(encoder, NTXentLoss(0.2), 8)(*views)
    with torch.no_grad():
        for batch in zip(*(view.split(8) for view in views), strict=True):
            once(*batch)
    for a, b in zip(encoder.buffers(), once.buffers(), strict=True):
        assert torch.equal(a, b)


class Center(nn.Module):
    """Keeps a running mean by replacing the tensor."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1024, 8)
        self.register_buffer("center", torch.zeros(8))

    def forward(self, view0, view1):
        views = [self.linear(view.flatten(1)) for view in (view0, view1)]
        self.center = self.center + views[0].detach().mean(0)
        return views


def test_buffers_that_are_put_in_place_anew_take_one_step_per_micro_batch():
    encoder, views = Center(), digit_views(24)
    once = copy.deepcopy(encoder)
    GradCache(encoder, NTXentLoss(0.2), 8)(*views)
    with torch.no_grad():
        for batch in zip(*(view.split(8) for view in views), strict=True):
            once(*batch)
    assert torch.equal(encoder.center, once.center) and encoder.center.any()


class Batch(UserDict):
    """Like the results of Hugging Face's tokenizers: a mapping, but not a dict."""


class OfMappings(nn.Module):
    """Like its networks: keywords in, a mapping out, in which some values may be None."""

    def __init__(self):
        super().__init__()
        self.network = small_network()

    def forward(self, first, second=None, mask=None):
        if isinstance(first, dict):  # both in one mapping, by position
            first, second = first["first"], first["second"]
        view0, view1 = self.network(first, second)
        return OrderedDict(first=view0, attentions=None, second=view1)


@pytest.mark.parametrize("by_keyword", [True, False])
def test_mappings_in_and_out(by_keyword):
    encoder, views = OfMappings(), digit_views(32)
    plain = copy.deepcopy(encoder.network)
    step, inputs = GradCache(encoder, NTXentLoss(0.2), 8), Batch(first=views[0], second=views[1])
    value, embeddings = step(**inputs, mask=None) if by_keyword else step(inputs)
    expected = one_shot(plain, NTXentLoss(0.2), views)
    torch.testing.assert_close(value, expected.detach())
    assert len(embeddings) == 2
    assert_equal(gradients(encoder), gradients(plain))


def test_autocast_reaches_the_weights():
    encoder, views = small_network(), digit_views(64)
    plain = copy.deepcopy(encoder)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, _ = GradCache(encoder, NTXentLoss(0.2), 16)(*views)
        expected = one_shot(plain, NTXentLoss(0.2), views)
    torch.testing.assert_close(value, expected.detach())
    assert_equal(gradients(encoder), gradients(plain), 0.02)


def test_scaled_gradients():
    encoder, views = small_network(), digit_views(32)
    plain = copy.deepcopy(encoder)
    value, _ = GradCache(encoder, NTXentLoss(0.2), 8, scale=lambda loss: 1024 * loss)(*views)
    expected = one_shot(plain, NTXentLoss(0.2), views)
    torch.testing.assert_close(value, expected.detach())
    assert_equal(gradients(encoder), [1024 * grad for grad in gradients(plain)])


class WithLoss(nn.Module):
    """Encoder and loss in one module, like a method."""

    def __init__(self):
        super().__init__()
        self.encoder, self.loss = small_network(), learned_loss()
        self.loss.gather = NTXentLoss(gather_distributed=True).gather

    def forward(self, *views):
        return self.encoder(*views)


def on_rank(rank, sizes, micro_batch):
    views = [view.split(sizes)[rank] for view in digit_views(sum(sizes))]
    model = WithLoss()
    ddp = DistributedDataParallel(model)
    exchanges = []

    def count(_, bucket):
        exchanges.append(1)
        future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
        return future.then(lambda f: f.value()[0].div_(len(sizes)))

    ddp.register_comm_hook(None, count)
    value, _ = GradCache(ddp, model.loss, micro_batch)(*views)
    return value, gradients(model), len(exchanges)


def test_distributed(gang):
    sizes = [24] * gang.size
    model = WithLoss()
    expected = one_shot(model, model.loss, digit_views(sum(sizes)))
    results = gang.run(on_rank, sizes, 8)
    values, grads, exchanges = zip(*results, strict=True)
    torch.testing.assert_close(torch.stack(values).mean(), expected.detach())
    for found in grads:
        assert_equal(found, gradients(model))
    assert set(exchanges) == {1}  # all parameters fit one bucket


@pytest.mark.parametrize("views, words", [
    ([torch.ones(3, 4), torch.ones(2, 4)], "3, 2"),
    ([], "nothing"),
    ([torch.ones(0, 4)], "0"),
    ([torch.ones(())], "0"),
    ([{"x": torch.ones(3, 4)}, torch.ones(2, 4)], "3, 2"),
])  # fmt: skip
def test_refuses_views(views, words):
    with pytest.raises(ValueError, match=words):
        GradCache(nn.Identity(), NTXentLoss(), 2)(*views)


@pytest.mark.parametrize("views", [["text"], [{"x": [1, 2]}], [3.0]])
def test_refuses_what_is_no_tensor(views):
    with pytest.raises(TypeError, match="views must be tensors, or mappings or lists of them, got"):
        GradCache(nn.Identity(), NTXentLoss(), 2)(*views)
    strings = type("Encoder", (nn.Module,), {"forward": lambda _, x: {"a": "b"}})
    with pytest.raises(TypeError, match="must return tensors, got 'b'"):
        GradCache(strings(), NTXentLoss(), 2)(torch.ones(4, 3))


def test_refuses_what_has_no_row_per_sample():
    with pytest.raises(ValueError, match="micro_batch must be at least 1"):
        GradCache(nn.Identity(), NTXentLoss(), 0)
    with pytest.raises(TypeError, match="nn.Module that takes all views, got a function"):
        GradCache(lambda x: x, NTXentLoss(), 2)
    twice = type("Encoder", (nn.Module,), {"forward": lambda _, x: x.repeat(2, 1)})
    step = GradCache(twice(), NTXentLoss(), 2)
    with pytest.raises(ValueError, match="row for each of its 2 samples"):
        step(torch.ones(4, 3))
