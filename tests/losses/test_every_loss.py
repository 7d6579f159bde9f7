"""Every loss against its formula: values, all gradients, half precision, autocast, compile."""

import pytest
import torch
from cases import CASES
from oracle import assert_as_exact_as_eager, results

LABELS = torch.arange(67) % 10 * 1_000_003 - 5

each_loss = pytest.mark.parametrize("name", CASES)


@each_loss
def test_float64(name):
    case = CASES[name]
    inputs = case.inputs(67, 16)
    labels = LABELS[: len(inputs[0])]
    ours, exact = (
        results(lambda *x, f=f: (f(list(x), labels),), inputs, torch.float64, [torch.ones(())],
                constant=range(case.embeddings - case.constant, case.embeddings))
        for f in (case.compute, case.expect)
    )  # fmt: skip
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() <= 1e-6 * b.norm()
        assert (a - b).norm() <= 1e-10 * b.norm()  # float64 throughout


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_as_exact_as_eager(name, dtype):
    case = CASES[name]

    def draw():
        inputs = case.inputs(67, 16, dtype)
        constant = range(case.embeddings - case.constant, case.embeddings)
        return tuple(
            results(lambda *x, f=f: (f(list(x), LABELS),), inputs, as_dtype, [torch.ones(())],
                    constant=constant)
            for f, as_dtype in (
                (case.compute, dtype), (case.expect, dtype), (case.expect, torch.float64)
            )
        )  # fmt: skip

    assert_as_exact_as_eager([draw() for _ in range(32)])


@pytest.mark.parametrize("name", ["nt_xent", "moco", "moco_v3", "info_nce", "clip", "siglip"])
def test_relative_accuracy_where_positives_dominate(name):
    """After convergence a naive loss is a small difference of large numbers."""
    case = CASES[name]
    base = case.prepare(torch.randn(50, 16, dtype=torch.float64))
    scalars = {"clip": [60.0], "siglip": [60.0, -45.0], "moco": [0.03]}.get(name, [0.016])
    inputs = [base.float() for _ in range(2)] + [torch.tensor(x) for x in scalars]
    # a key equal to its query has no gradient, unless it is a negative of others
    constant = [1] if name == "moco" else range(2 - case.constant, 2)
    ours, exact = (
        results(lambda *x, f=f: (f(list(x)),), inputs, dtype, [torch.ones(())], constant=constant)
        for f, dtype in ((case.compute, torch.float32), (case.expect, torch.float64))
    )
    assert exact[0] < 1e-3
    for a, b in zip(ours, exact, strict=True):
        assert (a - b).norm() <= 3e-5 * b.norm()


@each_loss
def test_autocast_keeps_float32(name):
    case = CASES[name]
    inputs = case.inputs(40, 16, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = case.compute(inputs, LABELS[:40])
    assert inside.dtype == torch.float32
    assert torch.equal(inside, case.compute(inputs, LABELS[:40]))


@each_loss
def test_compile_without_graph_breaks(name):
    torch.compiler.reset()
    case = CASES[name]
    inputs = [x.requires_grad_() for x in case.inputs(20, 16, torch.float32)]

    def function(*inputs):
        return case.compute(list(inputs), LABELS[:20])

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    a, b = compiled(*inputs), function(*inputs)
    torch.testing.assert_close(a, b)
    gradients = (torch.autograd.grad(x, inputs, allow_unused=True) for x in (a, b))
    for x, y in zip(*gradients, strict=True):
        assert (x is None) == (y is None)
        if x is not None:
            torch.testing.assert_close(x, y)


@each_loss
def test_functional_gradient(name):
    case = CASES[name]
    first, *rest = case.inputs(20, 16, torch.float32)

    def function(first):
        return case.compute([first, *rest], LABELS[:20])

    found = torch.func.grad(function)(first)
    first.requires_grad_()
    assert torch.equal(found, torch.autograd.grad(function(first), first)[0])


@each_loss
def test_half_precision_gives_half_gradients_and_a_float32_loss(name):
    case = CASES[name]
    inputs = [x.requires_grad_() for x in case.inputs(30, 16, torch.bfloat16)]
    loss = case.compute(inputs, LABELS[:30])
    assert loss.dtype == torch.float32
    for gradient in torch.autograd.grad(loss, inputs, allow_unused=True):
        assert gradient is None or gradient.dtype == torch.bfloat16


@each_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_zero_embeddings_are_pulled_little(name, dtype):
    case = CASES[name]
    inputs = case.inputs(12, 16, dtype)
    for x in inputs[: case.embeddings]:
        x[:3] = 0
    inputs = [x.requires_grad_() for x in inputs]
    loss = case.compute(inputs, LABELS[:12])
    assert torch.isfinite(loss)
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True)
    for gradient in gradients:
        assert gradient is None or torch.isfinite(gradient).all()
    for gradient in gradients[: case.embeddings]:
        assert gradient is None or gradient[:3].abs().max() <= 1e3
