"""Checks of every step on a device, and its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from oracle import repeated
from torch import Tensor

Step = Callable[[], Sequence[Tensor]]


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Matrix products of float32 as ``"ieee"`` or ``"tf32"``."""
    before = torch.backends.cuda.matmul.fp32_precision
    torch.backends.cuda.matmul.fp32_precision = precision
    try:
        yield
    finally:
        torch.backends.cuda.matmul.fp32_precision = before


def assert_no_wait(step: Step) -> None:
    """The host never waits for the device."""
    torch.use_deterministic_algorithms(False)  # it would fill new memory
    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def assert_repeats(step: Step, times: int = 5) -> None:
    """Bit for bit, without torch's deterministic mode."""
    torch.use_deterministic_algorithms(False)
    first = step()
    for again in repeated(step, times):
        assert_equal(again, first)


def assert_repeats_as_graph(step: Step) -> None:
    """Captured in a CUDA graph and replayed, it gives the same results."""
    torch.use_deterministic_algorithms(False)
    expected = step()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    assert_equal(captured, expected)


def assert_equal(found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)
