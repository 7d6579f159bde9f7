"""Run by cibuildwheel with a wheel installed: the compiled kernels are in it, and compute."""

import torch
from torch.testing import assert_close

import sslkernels
from sslkernels import _ext


def gradients(impl: str, queries: torch.Tensor, keys: torch.Tensor) -> list[torch.Tensor]:
    leaves = [x.clone().requires_grad_() for x in (queries, keys)]
    loss = sslkernels.NTXentLoss(impl=impl)(*leaves)
    loss.backward()
    return [loss.detach(), *[x.grad for x in leaves]]


def main() -> None:
    assert "site-packages" in sslkernels.__file__, sslkernels.__file__
    _ext.extension()  # raises, where it is absent
    embeddings = torch.randn(200, 64), torch.randn(200, 64)
    expected = gradients("reference", *embeddings)
    for name in _ext._C.instruction_sets():
        assert _ext._C.use_instruction_set(name)
        assert_close(gradients("cpu", *embeddings), expected)
        print(f"{name}: loss and gradients as the reference")


if __name__ == "__main__":
    main()
