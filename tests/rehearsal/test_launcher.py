"""A launch without binding finds the same kernel as Triton's own."""

from contextvars import Context, copy_context

import pytest
import torch
import triton
from cases import CASES
from steps import loss_step
from test_primitives import LOSSES, PRIMITIVES, run
from triton import knobs
from triton.knobs import HookChain
from triton.runtime import _allocation
from triton.runtime.jit import JITFunction

from bench.rehearsal import launches
from sslkernels.primitives._launcher import Kernel

each_dtype = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)


@pytest.fixture
def compared(monkeypatch):
    """Triton also binds every launch; counts launches, and those after the first."""
    fast, count = Kernel.run, [0, 0]

    def both(self, *arguments, grid, warmup, **constants):
        known = len(self._compiled)
        found = fast(self, *arguments, grid=grid, warmup=warmup, **constants)
        bound = JITFunction.run(self, *arguments, grid=grid, warmup=warmup, **constants)
        assert found is bound, self.fn.__name__
        count[0] += 1
        count[1] += len(self._compiled) == known
        return found

    monkeypatch.setattr(Kernel, "run", both)
    return count


@each_dtype
@pytest.mark.parametrize("name", CASES)
def test_of_losses(name, dtype, compared):
    for n, d in ((70, 20), (64, 64), (71, 36)):
        step = loss_step(name, n, d, dtype)
        step()
        step()
    launched, again = compared
    assert 2 * again >= launched


@each_dtype
@pytest.mark.parametrize("primitive", PRIMITIVES)
def test_of_primitives(primitive, dtype, compared):
    for impl in ("auto", *(["triton"] if primitive in LOSSES else [])):
        run(primitive, dtype, impl)
        run(primitive, dtype, impl)


def test_alignment_and_large_sizes_are_told_apart(compared):
    from sslkernels import pairwise_logsumexp, sinkhorn

    memory = torch.randn(71 * 64 + 8, device="cuda", dtype=torch.bfloat16)
    for offset in (0, 1, 8):
        x = memory[offset : offset + 70 * 64].view(70, 64)
        pairwise_logsumexp(x, x, impl="triton")
        for width in (64, 48, 63):
            sinkhorn(x[:, :width], impl="triton")
    huge = torch.empty(2**26, 64, device="cuda", dtype=torch.bfloat16)
    sinkhorn(huge, impl="triton")
    sinkhorn(huge.T, impl="triton")


@pytest.mark.parametrize("hook", [print, HookChain(), None])
def test_a_profiler_hears_of_every_launch(hook, monkeypatch):
    """Triton's own launch calls its hooks; ours is used only without hooks."""
    from sslkernels import sinkhorn

    x = torch.randn(70, 64, device="cuda")
    sinkhorn(x, impl="triton")
    monkeypatch.setattr(knobs.runtime, "launch_enter_hook", hook)
    bound, original = [], JITFunction.run

    def count(self, *arguments, **options):
        bound.append(self)
        return original(self, *arguments, **options)

    monkeypatch.setattr(JITFunction, "run", count)
    before = launches.launched.total()
    sinkhorn(x, impl="triton")
    launched = launches.launched.total() - before
    assert launched > 0 and len(bound) == (launched if hook is print else 0)


def test_integers_and_floats_are_told_apart(compared):
    from sslkernels.primitives.sinkhorn.triton import iterate

    x = torch.randn(70, 64, device="cuda")[None]
    for epsilon in (1, 0.5, 1.0, 2):
        iterate(x, epsilon, 3, None)


@pytest.mark.parametrize("of_user", [None, lambda size, alignment, stream: None])
def test_memory_for_descriptors_comes_from_torch(of_user, monkeypatch):
    """Also in the backward pass, whose thread has no allocator set, and whatever allocator a user
    has set in this thread."""
    from sslkernels import pairwise_logsumexp

    allocated = []

    def launch(self, *arguments):
        allocated.append(_allocation._allocator.get()(128, 128, 0))

    def step():
        if of_user is not None:
            triton.set_allocator(of_user)
        before = _allocation._allocator.get()
        loss = pairwise_logsumexp(x, x, exclude=(0,), impl="triton").sum()
        count = len(allocated)
        Context().run(loss.backward)  # as in a thread of its own
        assert _allocation._allocator.get() is before
        return count

    monkeypatch.setattr(launches.Kernel, "run", launch)
    x = torch.randn(70, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    assert 0 < copy_context().run(step) < len(allocated)
    assert {(memory.device.type, memory.numel()) for memory in allocated} == {("cuda", 128)}
