"""The operator as torch sees it: schema, fake, implementations, and its derivative."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._ext import new_pages
from ..._operator import Differentiable, operator, plain
from .kernels import Kernels, kernels
from .problem import Problem, Statistics, cross_entropies, dtype_of

_problem = (
    "Tensor[] student, Tensor[] teacher, Tensor? center, Tensor pairs,"
    " float student_temperature, float? teacher_temperature, str impl"
)
# Results: (S, B), and of the students' and of the teachers' rows the maximum and the sum.


def _forward(*arguments):
    problem, found = unpack(*arguments)
    with plain(problem.pairs):
        statistics = found.reduce(problem)
        return summary(problem, statistics)


def _backward(*arguments):
    *arguments, student_rows, teacher_rows, row_grad = arguments
    problem, found = unpack(*arguments)
    with plain(problem.pairs):
        out = new_pages(_gradient(problem.student))
        statistics = known(problem, student_rows, teacher_rows)
        found.weigh(problem, statistics, row_grad.to(problem.dtype), out.unbind())
        return out


def _forward_fake(student, teacher, center, pairs, *_):
    rows, dtype = student[0].shape[0], dtype_of(student[0], teacher[0])
    shapes = ((len(student), rows), (2, len(student), rows), (2, len(teacher), rows))
    return tuple(pairs.new_empty(shape, dtype=dtype) for shape in shapes)


def _backward_fake(student, *_):
    return _gradient(student)


def unpack(
    student, teacher, center, pairs, student_temperature, teacher_temperature, impl
) -> tuple[Problem, Kernels]:
    """An operator's arguments as a problem in one dtype, and what shall solve it."""
    dtype = dtype_of(student[0], teacher[0])
    center = None if center is None else center.to(dtype)
    problem = Problem(
        student, teacher, center, pairs.to(dtype), student_temperature, teacher_temperature
    )
    return problem, kernels(impl)


def summary(problem: Problem, statistics: Statistics) -> tuple[Tensor, Tensor, Tensor]:
    """The cross-entropies, and the statistics that a backward pass needs."""
    student_max, student_sum, teacher_max, teacher_sum, _ = statistics
    return (
        cross_entropies(problem, statistics),
        torch.stack([student_max, student_sum]),
        torch.stack([teacher_max, teacher_sum]),
    )


def known(problem: Problem, student_rows: Tensor, teacher_rows: Tensor) -> Statistics:
    """The statistics, without the cost."""
    return Statistics(*student_rows.unbind(), *teacher_rows.unbind(), problem.pairs.new_empty(0))


def _gradient(student):
    return student[0].new_empty((len(student), *student[0].shape))


_forward_op = operator(
    f"soft_cross_entropy({_problem}) -> (Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_backward_op = operator(
    f"soft_cross_entropy_backward({_problem}, Tensor student_rows, Tensor teacher_rows,"
    " Tensor row_grad) -> Tensor",
    _backward,
    _backward_fake,
)


class SoftCrossEntropy(Differentiable):
    """Rows (S, B) of :func:`soft_cross_entropy`.

    Takes the other arguments of the operator, whether one tensor (S, B, K) holds all students, and
    that or S tensors (B, K); then the teachers' likewise.
    """

    @staticmethod
    def forward(center, pairs, student_temperature, teacher_temperature, impl, stacked, *views):
        student, teacher = _views(views, pairs, stacked)
        return _forward_op(
            student, teacher, center, pairs, student_temperature, teacher_temperature, impl
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        center, pairs, *ctx.how, ctx.stacked = inputs[:6]
        _, *rows = output
        ctx.save_for_backward(*rows, center, pairs, *inputs[6:])
        ctx.mark_non_differentiable(*rows)

    @staticmethod
    def gradients(ctx, saved, row_grad, *_):
        student_rows, teacher_rows, center, pairs, *views = saved
        student, teacher = _views(views, pairs, ctx.stacked)
        grad = _backward_op(
            student, teacher, center, pairs, *ctx.how, student_rows, teacher_rows, row_grad
        )
        grads = (grad,) if ctx.stacked else grad.unbind()
        return *[None] * 6, *grads, *[None] * (len(views) - len(grads))


def cross_entropies_of(tensors, center, pairs, temperatures, impl, stacked) -> Tensor:
    """The rows, with a derivative where one is asked for."""
    arguments = (center, pairs, *temperatures, impl)
    if differentiates(tensors):
        return SoftCrossEntropy.apply(*arguments, stacked, *tensors)[0]
    return _forward_op(*_views(tensors, pairs, stacked), *arguments)[0]


def differentiates(inputs: Sequence[Tensor | None]) -> bool:
    """Where not, an operator stands alone: torch.compile takes the arguments of a function without
    derivative by their number, which may vary."""
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)


def _views(tensors, pairs, stacked):
    """The students' and the teachers' views, each (B, K)."""
    first = 1 if stacked else len(pairs)
    return tuple(
        [view for x in side for view in (x.unbind() if x.dim() == 3 else (x,))]
        for side in (tensors[:first], tensors[first:])
    )
