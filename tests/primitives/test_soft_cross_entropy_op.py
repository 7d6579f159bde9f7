"""The operators under torch's transformations."""

import itertools

import pytest
import torch

from sslkernels import prototype_cross_entropy, soft_cross_entropy
from sslkernels._ext import HAS_EXTENSION

ops = torch.ops.sslkernels
built = pytest.mark.parametrize("impl", ["tiled"] + ["cpu"] * HAS_EXTENSION)


@pytest.mark.parametrize("impl", ["tiled", "reference"])
@pytest.mark.parametrize("teacher_temperature", [0.5, None])
def test_gradcheck(impl, teacher_temperature):
    student = torch.randn(3, 4, 7, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 4, 7, dtype=torch.float64).softmax(2)
    center = None if teacher_temperature is None else torch.randn(2, 2, 7).double()
    pairs = torch.rand(3, 2).double()

    def function(student):
        return soft_cross_entropy(
            student, teacher, student_temperature=0.3, teacher_temperature=teacher_temperature,
            center=center, pairs=pairs, impl=impl,
        )  # fmt: skip

    assert torch.autograd.gradcheck(function, student)
    views = tuple(x.clone().requires_grad_() for x in student.detach())
    assert torch.autograd.gradcheck(lambda *x: function(x), views)


@pytest.mark.parametrize("impl", ["tiled", "reference"])
def test_gradcheck_of_prototypes(impl):
    leaves = [torch.randn(2, 3, 5), torch.randn(9, 5), torch.rand(9) + 0.5]
    leaves = [x.double().requires_grad_() for x in leaves]
    teacher, prototypes = torch.randn(2, 3, 4).double(), torch.randn(9, 4).double()

    def function(x, w, g):
        return prototype_cross_entropy(
            x, w, teacher, prototypes, magnitude=g,
            student_temperature=0.5, teacher_temperature=0.3, impl=impl,
        )  # fmt: skip

    assert torch.autograd.gradcheck(function, leaves)


@built
@pytest.mark.parametrize("teacher_temperature", [0.04, None])
def test_opcheck(impl, teacher_temperature):
    student = [torch.randn(5, 20) for _ in range(3)]
    teacher = [torch.randn(5, 20).softmax(1) for _ in range(2)]
    center = None if teacher_temperature is None else torch.randn(1, 1, 20)
    for temperatures in (None, torch.tensor([0.1, 0.04], dtype=torch.float64)):
        arguments = (
            student,
            teacher,
            center,
            torch.ones(3, 2),
            temperatures,
            0.0,
            True,
            0.1,
            teacher_temperature,
            impl,
        )
        torch.library.opcheck(ops.soft_cross_entropy, arguments)
        _, *rows = ops.soft_cross_entropy(*arguments)
        arguments = (*arguments, *rows, torch.randn(3, 5))
        torch.library.opcheck(ops.soft_cross_entropy_backward, arguments)


@built
def test_opcheck_of_prototypes(impl):
    x, y, w, g = torch.randn(3, 5, 8), torch.randn(2, 5, 8), torch.randn(20, 8), torch.rand(20)
    for magnitude in (g, None):
        arguments = (x, w, magnitude, y, w, *[None] * 4, 1.0, False, 0.1, 0.04, impl)
        torch.library.opcheck(ops.prototype_cross_entropy, arguments)
        _, *rows = ops.prototype_cross_entropy(*arguments)
        for needs in itertools.product([True, False], repeat=3):
            torch.library.opcheck(
                ops.prototype_cross_entropy_backward,
                (*arguments, *rows, torch.randn(3, 5), list(needs)),
            )


@pytest.mark.parametrize("impl", ["auto", "tiled", "reference"] + ["cpu"] * HAS_EXTENSION)
def test_compile_without_graph_breaks(impl):
    torch.compiler.reset()

    def function(x, w, y):
        pairs = torch.ones(3, 2, device=x.device).fill_diagonal_(0)
        rows = soft_cross_entropy(x @ w.T, y @ w.T, center=w.mean(1), pairs=pairs, impl=impl)
        listed = soft_cross_entropy(list((x @ w.T).unbind()), y @ w.T, impl=impl)
        fused = prototype_cross_entropy(x, w, y, w, magnitude=w.norm(dim=1), impl=impl)
        return rows.sum() + listed.square().sum() + fused.mean()

    leaves = [torch.randn(3, 6, 8), torch.randn(40, 8), torch.randn(2, 6, 8)]
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    outcomes = []
    for f in (function, compiled):
        inputs = [x.clone().requires_grad_() for x in leaves]
        loss = f(*inputs)
        loss.backward()
        outcomes.append([loss.detach(), *[x.grad for x in inputs]])
    torch.testing.assert_close(*outcomes)


def test_functional_transforms():
    x, y = torch.randn(3, 4, 20), torch.randn(2, 4, 20)

    def loss(x, impl="auto"):
        return soft_cross_entropy(x, y, impl=impl).sum()

    gradient = torch.func.grad(loss)
    torch.testing.assert_close(gradient(x), gradient(x, impl="reference"))


@pytest.mark.parametrize("impl", ["auto", "tiled"])
def test_autocast_changes_nothing(impl):
    x, y, w = torch.randn(2, 5, 8), torch.randn(2, 5, 8), torch.randn(300, 8)

    def run(autocast):
        a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            rows = prototype_cross_entropy(a, b, y, w, impl=impl)
            rows = rows + soft_cross_entropy(a, y, impl=impl)
            grads = torch.autograd.grad(rows.sum(), (a, b))
        assert rows.dtype == torch.float32
        return rows, *grads

    for inside, outside in zip(run(True), run(False), strict=True):
        assert torch.equal(inside, outside)


def test_second_derivative_is_refused_not_wrong():
    x = torch.randn(2, 3, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(soft_cross_entropy(x, x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()
