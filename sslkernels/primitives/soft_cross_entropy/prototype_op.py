"""The same operator on features and prototypes, whose logits live a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..._ext import new_pages
from ..._operator import Differentiable, accumulation_dtype, operator, plain, unit_of
from .._prototypes import Prototypes, chunks
from .kernels import kernels
from .op import differentiates, known, summary
from .problem import Problem, merge

_problem = (
    "Tensor student, Tensor prototypes, Tensor? magnitude, Tensor teacher,"
    " Tensor teacher_prototypes, Tensor? teacher_magnitude, Tensor? center, Tensor pairs,"
    " float student_temperature, float teacher_temperature, str impl"
)
# student (S, B, D), teacher (T, B, D'). Results: as of soft_cross_entropy.


class _Chunk(NamedTuple):
    columns: slice  # which prototypes
    prototypes: Tensor  # these, (k, D)
    logits: Tensor  # the students', (S · B, k), writable
    problem: Problem  # of these logits and the teachers'


class _Head:
    """The problem whose logits are not there yet."""

    def __init__(
        self, student, prototypes, magnitude, teacher, teacher_prototypes, teacher_magnitude,
        center, pairs, student_temperature, teacher_temperature, impl,
    ):  # fmt: skip
        dtype = accumulation_dtype(student)
        self.rows, self.student = student.shape[1], student.flatten(0, 1)
        self.teacher, self.prototypes = teacher.flatten(0, 1), Prototypes(prototypes, magnitude)
        self.teacher_prototypes = Prototypes(teacher_prototypes, teacher_magnitude)
        self.kernels = kernels(impl)
        # tensor cores take operands of one dtype
        self.operand = student.dtype if student.is_cuda else dtype
        self.problem = Problem(
            (),
            (),
            None if center is None else center.to(dtype),
            pairs.to(dtype),
            student_temperature,
            teacher_temperature,
        )

    def chunks(self) -> Iterator[_Chunk]:
        heights = len(self.student), len(self.teacher)
        memory, center = self.problem.pairs.new_empty(0), self.problem.center
        for columns in chunks(sum(heights), len(self.prototypes.weight), memory.device):
            both = memory.resize_(sum(heights), columns.stop - columns.start)
            logits, others = both.split(heights)
            prototypes = self.prototypes.part(columns, self.operand)
            self.kernels.product(self.student, prototypes.T, logits)
            theirs = self.teacher_prototypes.part(columns, self.operand)
            self.kernels.product(self.teacher, theirs.T, others)
            problem = self.problem._replace(
                student=logits.split(self.rows),
                teacher=others.split(self.rows),
                center=None if center is None else center[..., columns],
            )
            yield _Chunk(columns, prototypes, logits, problem)


def _forward(*arguments):
    head, statistics = _Head(*arguments), None
    with plain(head.student):
        for chunk in head.chunks():
            statistics = merge(statistics, head.kernels.reduce(chunk.problem))
        return summary(head.problem, statistics)


def _backward(*arguments):
    *arguments, student_rows, teacher_rows, row_grad, needs = arguments
    head = _Head(*arguments)
    features, product = head.student, head.kernels.product
    with plain(features):
        statistics = known(head.problem, student_rows, teacher_rows)
        dtype, rounds = head.problem.dtype, head.operand != head.problem.dtype
        unit = unit_of(row_grad.abs().amax()).to(dtype) if rounds else row_grad.new_ones(())
        row_grad = row_grad.to(dtype) * unit
        dstudent, dweight, dmagnitude = _gradients(arguments, needs)
        new_pages(dweight)
        in_place = needs[1] and head.prototypes.magnitude is None and dweight.dtype == dtype
        total, memory = (features.new_empty(0, dtype=dtype) for _ in range(2))
        if needs[0]:
            total = total.resize_(features.shape).zero_()
        for columns, prototypes, logits, problem in head.chunks():
            weights = torch.empty_like(logits, dtype=head.operand) if rounds else logits
            head.kernels.weigh(problem, statistics, row_grad, weights.split(head.rows))
            if needs[0]:
                product(weights, prototypes, total, accumulate=True)
            if needs[1] or needs[2]:
                grad = dweight[columns] if in_place else memory.resize_(prototypes.shape)
                product(weights.T, features, grad)
                if rounds:
                    grad /= unit
                grads = (None, None) if in_place else head.prototypes.gradients(columns, grad)
                for whole, part, need in zip((dweight, dmagnitude), grads, needs[1:], strict=True):
                    if need and part is not None:
                        whole[columns] = part
        if needs[0]:
            dstudent.copy_(total.div_(unit).view_as(dstudent))
        return dstudent, dweight, dmagnitude


def _gradients(arguments, needs):
    return tuple(
        arguments[0].new_empty(0) if x is None or not need else torch.empty_like(x)
        for x, need in zip(arguments[:3], needs, strict=True)
    )


def _forward_fake(student, prototypes, magnitude, teacher, *_):
    (students, rows, _), dtype = student.shape, accumulation_dtype(student)
    shapes = ((students, rows), (2, students, rows), (2, teacher.shape[0], rows))
    return tuple(student.new_empty(shape, dtype=dtype) for shape in shapes)


def _backward_fake(*arguments):
    return _gradients(arguments, arguments[-1])


_forward_op = operator(
    f"prototype_cross_entropy({_problem}) -> (Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_backward_op = operator(
    f"prototype_cross_entropy_backward({_problem}, Tensor student_rows, Tensor teacher_rows,"
    " Tensor row_grad, bool[3] needs) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class PrototypeCrossEntropy(Differentiable):
    """Rows (S, B) of :func:`prototype_cross_entropy`."""

    @staticmethod
    def forward(*arguments):
        return _forward_op(*arguments)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, student_temperature, teacher_temperature, impl = inputs
        ctx.how = student_temperature, teacher_temperature, impl
        _, *rows = output
        ctx.save_for_backward(*tensors, *rows)
        ctx.mark_non_differentiable(*rows)

    @staticmethod
    def gradients(ctx, saved, row_grad, *_):
        *tensors, student_rows, teacher_rows = saved
        needs = list(ctx.needs_input_grad[:3])
        grads = _backward_op(*tensors, *ctx.how, student_rows, teacher_rows, row_grad, needs)
        grads = (grad if need else None for grad, need in zip(grads, needs, strict=True))
        return *grads, *[None] * (len(ctx.needs_input_grad) - 3)


def prototype_cross_entropies(*arguments) -> Tensor:
    """The rows, with a derivative where one is asked for."""
    if differentiates(arguments[:3]):
        return PrototypeCrossEntropy.apply(*arguments)[0]
    return _forward_op(*arguments)[0]
