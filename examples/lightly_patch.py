"""Existing code that uses lightly, unchanged but for one line: ``sslkernels.patch("lightly")``."""

import time

import torch
from lightly.loss import NTXentLoss, VICRegLoss

import sslkernels


def step(loss_function, view0, view1):
    """The loss, its gradient, and the seconds of the fastest of five repetitions."""
    fastest = float("inf")
    for _ in range(5):
        leaf = view0.clone().requires_grad_()
        start = time.perf_counter()
        loss = loss_function(leaf, view1)
        loss.backward()
        fastest = min(fastest, time.perf_counter() - start)
    return loss.item(), leaf.grad, fastest


torch.manual_seed(0)
view0 = torch.randn(2048, 128)
view1 = view0 + torch.randn(2048, 128)

for make, options in ((NTXentLoss, {"temperature": 0.1}), (VICRegLoss, {})):
    value, gradient, seconds = step(make(**options), view0, view1)
    with sslkernels.patch("lightly"):  # or once, at the top of a script, without "with"
        patched = make(**options)  # losses made from now on are computed by sslkernels
    ours, our_gradient, our_seconds = step(patched, view0, view1)
    error = ((our_gradient - gradient).norm() / gradient.norm()).item()
    print(f"{make.__name__}: loss {value:.6f} and {ours:.6f}, gradients differ by {error:.0e}")
    print(f"  lightly {1000 * seconds:.0f} ms, patched {1000 * our_seconds:.0f} ms")
    assert isinstance(patched, make) and 0 < error < 1e-4
