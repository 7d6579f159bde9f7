"""The torch operator: schema, fake, implementations, and its derivative."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..._ext import new_pages
from ..._operator import Differentiable, is_transformed, operator, plain
from .kernels import Kernels, kernels
from .problem import Pairs, Problem, Statistics, dtype_of

Temperatures = tuple[Tensor | None, float, float | None]  # on the device, or the numbers
_problem = (
    "Tensor[] student, Tensor[] teacher, Tensor? center, Tensor? pairs, Tensor? temperatures,"
    " float weight, bool same, float student_temperature, float? teacher_temperature, str impl"
)
# temperatures: (2,) float64, instead of the numbers if only the device knows them.
# Results: (S, B), and the maximum and sum of the students' and of the teachers' rows.


def _forward(*arguments: Any) -> Any:
    problem, found = unpack(*arguments)
    with plain(problem.student[0]):
        return found.forward(problem)


def _backward(*arguments: Any) -> Any:
    student_rows, teacher_rows, row_grad = arguments[-3:]
    problem, found = unpack(*arguments[:-3])
    with plain(problem.student[0]):
        out = new_pages(_gradient(problem.student))
        statistics = known(problem, student_rows, teacher_rows)
        found.weigh(problem, statistics, row_grad.to(problem.dtype), out.unbind())
        return out


def _forward_fake(student: Sequence[Tensor], teacher: Sequence[Tensor], *_: Any) -> Any:
    rows, dtype = student[0].shape[0], dtype_of(student[0], teacher[0])
    shapes = ((len(student), rows), (2, len(student), rows), (2, len(teacher), rows))
    return tuple(student[0].new_empty(shape, dtype=dtype) for shape in shapes)


def _backward_fake(student: Sequence[Tensor], *_: Any) -> Any:
    return _gradient(student)


def unpack(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    center: Tensor | None,
    pairs: Tensor | None,
    temperatures: Tensor | None,
    weight: float,
    same: bool,
    student_temperature: float,
    teacher_temperature: float | None,
    impl: str,
) -> tuple[Problem, Kernels]:
    """An operator's arguments as a problem in one dtype, and the kernels for it."""
    dtype = dtype_of(student[0], teacher[0])
    center = None if center is None else center.to(dtype)
    counts = len(student), len(teacher)
    how = pairs_of(pairs, weight, same, counts, student[0].device, dtype, impl)
    own = temperatures_of(temperatures, student_temperature, teacher_temperature)
    return Problem(student, teacher, center, how, *own, dtype), kernels(impl)


def temperatures_of(
    temperatures: Tensor | None, student: float, teacher: float | None
) -> tuple[float | Tensor, float | Tensor | None]:
    """The temperatures of students and teachers, as tensors or numbers."""
    if temperatures is None:
        return student, teacher
    own, other = temperatures.unbind()
    return own, None if teacher is None else other


def pairs_of(
    pairs: Tensor | None,
    weight: float,
    same: bool,
    counts: tuple[int, int],
    device: torch.device,
    dtype: torch.dtype,
    impl: str,
) -> Tensor | Pairs:
    """The pairs in the form that an implementation reads."""
    if pairs is not None:
        return pairs.to(dtype)
    rule = Pairs(weight, same)
    return rule if impl in ("triton", "cpu") else rule.matrix(counts, device, dtype)


def known(problem: Problem, student_rows: Tensor, teacher_rows: Tensor) -> Statistics:
    """The statistics, without the cost."""
    student_max, student_sum = student_rows
    teacher_max, teacher_sum = teacher_rows
    nothing = student_rows.new_empty(0)
    return Statistics(student_max, student_sum, teacher_max, teacher_sum, nothing)


def _gradient(student: Sequence[Tensor]) -> Tensor:
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

    Takes the other arguments of the operator, the number of students' tensors, and these: one
    (S, B, K), or S (B, K); then the teachers' likewise.
    """

    @staticmethod
    def forward(
        center: Tensor | None,
        pairs: Tensor | None,
        temperatures: Tensor | None,
        weight: float,
        same: bool,
        student_temperature: float,
        teacher_temperature: float | None,
        impl: str,
        first: int,
        *views: Tensor,
    ) -> Any:
        how = weight, same, student_temperature, teacher_temperature, impl
        return _forward_op(*_views(views, first), center, pairs, temperatures, *how)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        center, pairs, temperatures, *ctx.how, ctx.first = inputs[:9]
        _, *rows = output
        ctx.save_for_backward(*rows, center, pairs, temperatures, *inputs[9:])
        ctx.mark_non_differentiable(*rows)

    @staticmethod
    def gradients(ctx: Any, saved: Any, row_grad: Any, *_: Any) -> Any:
        student_rows, teacher_rows, center, pairs, temperatures, *views = saved
        student, teacher = _views(views, ctx.first)
        grad = _backward_op(
            student,
            teacher,
            center,
            pairs,
            temperatures,
            *ctx.how,
            student_rows,
            teacher_rows,
            row_grad,
        )
        grads = (grad,) if views[0].dim() == 3 else grad.unbind()
        return *[None] * 9, *grads, *[None] * (len(views) - len(grads))


def cross_entropies_of(
    tensors: Sequence[Tensor],
    center: Tensor | None,
    pairs: Tensor | Pairs,
    temperatures: Temperatures,
    impl: str,
    first: int,
) -> Tensor:
    """The rows, with a derivative if one is needed."""
    arguments = (center, *split(pairs, temperatures), impl)
    if differentiates(tensors):
        return SoftCrossEntropy.apply(*arguments, first, *tensors)[0]
    return _forward_op(*_views(tensors, first), *arguments)[0]


def split(pairs: Tensor | Pairs, temperatures: Temperatures) -> tuple[Any, ...]:
    """As arguments of operators: the tensors, the rule of the pairs, the numbers."""
    on_device, *numbers = temperatures
    if isinstance(pairs, Pairs):
        return None, on_device, *pairs, *numbers
    return pairs, on_device, 0.0, True, *numbers


def differentiates(inputs: Sequence[Tensor | None]) -> bool:
    """Whether a derivative is needed. If not, the operator is called directly: torch.compile
    specialises on the number of arguments of a function without derivative."""
    if is_transformed():
        return True
    return torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs)


def _views(tensors: Sequence[Tensor], first: int) -> Any:
    """The students' and the teachers' views, each (B, K)."""
    return tuple(
        [view for x in side for view in (x.unbind() if x.dim() == 3 else (x,))]
        for side in (tensors[:first], tensors[first:])
    )
