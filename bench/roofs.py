"""The machine's limits, measured between the implementations, and the resulting lower bounds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .case import Work


@dataclass(frozen=True)
class Roof:
    """``run`` does ``amount`` of one resource: FLOPs, bytes or exponentials."""

    resource: str  # "GEMM", "DRAM" or "exp"
    amount: int
    run: Callable[[], object]


def make_roofs(features: int, dtype: torch.dtype, device: str) -> list[Roof]:
    """Matrix products and a copy; on the CPU also ``torch.exp`` in the cache."""
    if device == "cuda":
        return [_product(8192, 8192, torch.mm, dtype, device), _copy(2**28, device)]
    roofs = [_copy(2**28, device), _exponential()]
    products = [torch.mm]
    if dtype == torch.float32 and torch.backends.mkldnn.is_available():
        products.append(_mm_onednn)
    for product in products:
        tile = _product(512, features, product, dtype, device)
        roofs += [_repeat(tile, 2**29), _product(2048, 2048, product, dtype, device)]
    return roofs


def _mm_onednn(a: Tensor, b: Tensor) -> Tensor:
    # torch.mm uses MKL for float32, which does not use AVX-512 on some CPUs
    return torch.ops.mkldnn._linear_pointwise(a, b.T, None, "none", [], "")


def _product(
    n: int, k: int, mm: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype, device: str
) -> Roof:
    a, b = (torch.randn(n, k, device=device).to(dtype) for _ in range(2))
    return Roof("GEMM", 2 * n * n * k, lambda: mm(a, b.T))


def _repeat(roof: Roof, amount: int) -> Roof:
    times = max(1, amount // roof.amount)
    return Roof(roof.resource, times * roof.amount, lambda: [roof.run() for _ in range(times)])


def _exponential() -> Roof:
    """One thread's rate times the threads: with threads, such short passes measure waiting."""
    threads = torch.get_num_threads()
    x, out = torch.randn(2**15), torch.empty(2**15)

    def run() -> None:
        torch.set_num_threads(1)
        for _ in range(100):
            torch.exp(x, out=out)
        torch.set_num_threads(threads)

    return Roof("exp", 100 * threads * x.numel(), run)


def _copy(size: int, device: str) -> Roof:
    source = torch.ones(size // 4, device=device)
    target = torch.empty_like(source)
    return Roof("DRAM", 2 * size, lambda: target.copy_(source))


def rates(roofs: list[Roof], milliseconds: list[float]) -> dict[str, float]:
    """The best rate per second of each resource."""
    best: dict[str, float] = {}
    for roof, time in zip(roofs, milliseconds, strict=True):
        best[roof.resource] = max(best.get(roof.resource, 0.0), 1e3 * roof.amount / time)
    if "exp" not in best:
        device = torch.cuda.get_device_properties(0)
        # 16 per clock and multiprocessor, from NVIDIA's throughput table
        best["exp"] = 16.0 * device.multi_processor_count * device.clock_rate * 1e3
    return best


def floors(
    work: Work, dtype: torch.dtype, device: str, mode: str, rate: dict[str, float]
) -> dict[str, float]:
    """Milliseconds that each resource alone would need."""
    amounts = {
        "GEMM": work.flops(device),
        "DRAM": work.bytes(dtype),
        "exp": work.exps(device),
    }
    return {
        resource: 1e3 * in_mode(amount, mode) / rate[resource]
        for resource, amount in amounts.items()
    }


def in_mode(amount: dict[str, int], mode: str) -> int:
    """The part of {"fwd": …, "bwd": …} that belongs to ``mode``."""
    return sum(amount.values()) if mode == "fwdbwd" else amount[mode]
