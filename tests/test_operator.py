"""How operators are called, and which memory their derivatives may overwrite."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode

from sslkernels import _operator, functional


def double(x, others, factor):
    return x * factor


call = _operator.operator(
    "doubled_for_a_test(Tensor x, Tensor[] others, float factor) -> Tensor",
    double,
    lambda x, others, factor: torch.empty_like(x),
)
NAME = "sslkernels::doubled_for_a_test"


class Recorder(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:DeprecationWarning")
def test_whoever_watches_sees_the_operator():
    x = torch.randn(3)
    with Recorder() as recorder:
        call(x, [x], 2.0)
    assert NAME in recorder.names
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        call(x, [x], 2.0)
    assert NAME in {event.name for event in profiled.events()}
    traced = torch.jit.trace(lambda x: call(x, [x], 2.0), (x,))
    assert "doubled_for_a_test" in str(traced.graph)


def test_otherwise_the_dispatcher_is_not_asked():
    x = torch.nn.Parameter(torch.randn(3))
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_operator, "_is_watched", lambda: False)
        with Recorder() as recorder:
            found = call(x, [x, x], 2.0)
    assert NAME not in recorder.names
    assert torch.equal(found, 2 * x)


@pytest.mark.parametrize("place", ["first", "in a list"])
@pytest.mark.parametrize("kind", ["negated", "meta", "subclass", "transformed", "followed"])
def test_what_is_more_than_memory_is_dispatched(kind, place):
    class Subclass(torch.Tensor):
        pass

    x = torch.randn(3)
    special = {
        "negated": torch._neg_view(x),
        "meta": x.to("meta"),
        "subclass": x.as_subclass(Subclass),
        "transformed": x,
        "followed": torch.randn(3, requires_grad=True),
    }[kind]

    def arguments(special):
        return [special, []] if place == "first" else [x, [x, special]]

    if kind == "transformed":
        torch.func.vmap(lambda y: _assert_not_plain(arguments(y)) or y)(x[None])
    else:
        _assert_not_plain(arguments(special))


def _assert_not_plain(arguments):
    assert not _operator._are_plain(arguments)


def test_values_of_a_negated_view():
    views = [torch.randn(8, 6, dtype=torch.complex64).conj().imag for _ in range(2)]
    assert all(x.is_neg() for x in views)
    found = functional.nt_xent(*views)
    torch.testing.assert_close(found, functional.nt_xent(*(x.clone() for x in views)))


@pytest.mark.parametrize("loss", [functional.nt_xent, functional.vicreg], ids=lambda f: f.__name__)
def test_a_retained_graph_gives_the_same_gradients_again(loss):
    views = [torch.randn(8, 6, requires_grad=True) for _ in range(2)]
    value = loss(*views)
    weight = torch.tensor(3.0)
    first = torch.autograd.grad(value, views, weight, retain_graph=True)
    kept = [x.clone() for x in first]
    for x in first:
        x.zero_()
    second = torch.autograd.grad(value, views, weight, retain_graph=True)
    last = torch.autograd.grad(value, views, weight)
    assert all(map(torch.equal, kept, second))
    assert all(map(torch.equal, kept, last))


@pytest.mark.parametrize("loss", [functional.nt_xent, functional.vicreg], ids=lambda f: f.__name__)
def test_a_batch_of_gradients(loss):
    views = [torch.randn(8, 6, requires_grad=True) for _ in range(2)]
    single = torch.autograd.grad(loss(*views), views)
    factors = torch.tensor([1.0, -2.0, 0.5])
    found = torch.autograd.grad(loss(*views), views, factors, is_grads_batched=True)
    for batch, one in zip(found, single, strict=True):
        assert torch.equal(batch, factors[:, None, None] * one)


def test_gradients_need_no_memory_of_their_own():
    views = [torch.randn(8, 6, requires_grad=True) for _ in range(2)]
    value = functional.nt_xent(*views)
    derivatives = value.grad_fn.saved_tensors[0]
    gradients = torch.autograd.grad(value, views)
    assert gradients[0].data_ptr() == derivatives.data_ptr()


def test_what_a_function_lacks_itself_is_no_matter_of_derivatives():
    class Unfinished(_operator.Differentiable):
        @staticmethod
        def forward(x):
            raise NotImplementedError("no such device")

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        def gradients(ctx, saved, grad):
            return grad

    with pytest.raises(NotImplementedError, match="no such device"):
        Unfinished.apply(torch.randn(3, requires_grad=True))
