"""The same operator on features and prototypes; logits are computed a chunk at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce as fold
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..._ext import new_pages
from ..._operator import Differentiable, accumulation_dtype, operator, plain, unit_of
from .._prototypes import Prototypes, chunks, is_one_chunk
from .kernels import kernels
from .op import differentiates, known, pairs_of, split, temperatures_of
from .problem import Problem, merge, summary

_problem = (
    "Tensor student, Tensor prototypes, Tensor? magnitude, Tensor teacher,"
    " Tensor teacher_prototypes, Tensor? teacher_magnitude, Tensor? center, Tensor? pairs,"
    " Tensor? temperatures, float weight, bool same, float student_temperature,"
    " float teacher_temperature, str impl"
)
# student (S, B, D), teacher (T, B, D'). Results: as of soft_cross_entropy, and all logits, the
# students' first (S B + T B, K), if they are one chunk: backward then does not recompute them.


class _Chunk(NamedTuple):
    columns: slice  # of the prototypes
    prototypes: Tensor  # these, (k, D)
    logits: Tensor  # the students', (S · B, k), writable
    problem: Problem  # of these logits and the teachers'


class _Head:
    """The problem whose logits are computed on the fly."""

    def __init__(
        self,
        student: Tensor,
        prototypes: Tensor,
        magnitude: Tensor | None,
        teacher: Tensor,
        teacher_prototypes: Tensor,
        teacher_magnitude: Tensor | None,
        center: Tensor | None,
        pairs: Tensor | None,
        temperatures: Tensor | None,
        weight: float,
        same: bool,
        student_temperature: float,
        teacher_temperature: float | None,
        impl: str,
    ) -> None:
        dtype, counts = accumulation_dtype(student), (len(student), len(teacher))
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
            pairs_of(pairs, weight, same, counts, student.device, dtype, impl),
            *temperatures_of(temperatures, student_temperature, teacher_temperature),
            dtype,
        )

    def chunks(self, kept: Tensor | None = None) -> Iterator[_Chunk]:
        """``kept``: the logits, if they are one chunk and already computed."""
        heights = len(self.student), len(self.teacher)
        memory = self.student.new_empty(0, dtype=self.problem.dtype)
        center = self.problem.center
        for columns in chunks(sum(heights), len(self.prototypes.weight), memory.device):
            prototypes = self.prototypes.part(columns, self.operand)
            if kept is None:
                both = memory.resize_(sum(heights), columns.stop - columns.start)
                logits, others = both.split(heights)
                self.kernels.product(self.student, prototypes.T, logits)
                theirs = self.teacher_prototypes.part(columns, self.operand)
                self.kernels.product(self.teacher, theirs.T, others)
            else:
                logits, others = kept.split(heights)
            problem = self.problem._replace(
                student=logits.split(self.rows),
                teacher=others.split(self.rows),
                center=None if center is None else center[..., columns],
            )
            yield _Chunk(columns, prototypes, logits, problem)


def _forward(*arguments: Any) -> Any:
    head = _Head(*arguments)
    (students, rows, _), teachers = arguments[0].shape, arguments[3].shape[0]
    with plain(head.student):
        if is_one_chunk((students + teachers) * rows, len(arguments[1]), head.student.device.type):
            [chunk] = head.chunks()
            results = head.kernels.forward(chunk.problem)
            both = (students + teachers) * rows, len(arguments[1])
            return *results, chunk.logits.as_strided(both, (both[1], 1))
        parts = (head.kernels.reduce(chunk.problem) for chunk in head.chunks())
        return *summary(head.problem, fold(merge, parts)), head.student.new_empty(0, 0)


def _backward(*arguments: Any) -> Any:
    student_rows, teacher_rows, kept, row_grad, needs = arguments[-5:]
    head = _Head(*arguments[:-5])
    features, product = head.student, head.kernels.product
    with plain(features):
        statistics = known(head.problem, student_rows, teacher_rows)
        dtype, rounds = head.problem.dtype, head.operand != head.problem.dtype
        is_narrow = head.operand == torch.float16  # small weights would underflow
        row_grad = row_grad.to(dtype)
        unit = row_grad.new_empty(())
        if is_narrow:
            unit = unit_of(row_grad.abs().amax()).to(dtype)
            row_grad = row_grad * unit
        dstudent, dweight, dmagnitude = _gradients(arguments, needs)
        new_pages(dweight)
        is_one = kept.numel() > 0
        dtypes = (dtype, head.operand) if is_one and not is_narrow else (dtype,)
        in_place = needs[1] and head.prototypes.magnitude is None and dweight.dtype in dtypes
        total, memory = (features.new_empty(0, dtype=dtype) for _ in range(2))
        is_direct = is_one and dstudent.dtype in dtypes
        if needs[0]:
            total = dstudent.view(features.shape) if is_direct else total.resize_(features.shape)
            if not is_one:
                total.zero_()
        for columns, prototypes, logits, problem in head.chunks(kept if is_one else None):
            is_apart = rounds or is_one
            weights = torch.empty_like(logits, dtype=head.operand) if is_apart else logits
            head.kernels.weigh(problem, statistics, row_grad, weights.split(head.rows))
            if needs[0]:
                product(weights, prototypes, total, accumulate=not is_one)
            if needs[1] or needs[2]:
                grad = dweight[columns] if in_place else memory.resize_(prototypes.shape)
                product(weights.T, features, grad)
                if is_narrow:
                    grad /= unit
                grads = (None, None) if in_place else head.prototypes.gradients(columns, grad)
                for whole, part, need in zip((dweight, dmagnitude), grads, needs[1:], strict=True):
                    if need and part is not None:
                        whole[columns] = part
        if needs[0] and is_narrow:
            total /= unit
        if needs[0] and not is_direct:
            dstudent.copy_(total.view_as(dstudent))
        return dstudent, dweight, dmagnitude


def _gradients(arguments: Any, needs: Sequence[bool]) -> Any:
    return tuple(
        arguments[0].new_empty(0) if x is None or not need else torch.empty_like(x)
        for x, need in zip(arguments[:3], needs, strict=True)
    )


def _forward_fake(
    student: Tensor, prototypes: Tensor, magnitude: Tensor | None, teacher: Tensor, *__: Any
) -> Any:
    (students, rows, _), dtype = student.shape, accumulation_dtype(student)
    shapes = ((students, rows), (2, students, rows), (2, teacher.shape[0], rows))
    kept = 0, 0
    height = (students + teacher.shape[0]) * rows
    if is_one_chunk(height, prototypes.shape[0], student.device.type):
        kept = height, prototypes.shape[0]
    return tuple(student.new_empty(shape, dtype=dtype) for shape in (*shapes, kept))


def _backward_fake(*arguments: Any) -> Any:
    return _gradients(arguments, arguments[-1])


_forward_op = operator(
    f"prototype_cross_entropy({_problem}) -> (Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _forward_fake,
)
_backward_op = operator(
    f"prototype_cross_entropy_backward({_problem}, Tensor student_rows, Tensor teacher_rows,"
    " Tensor kept, Tensor row_grad, bool[3] needs) -> (Tensor, Tensor, Tensor)",
    _backward,
    _backward_fake,
)


class PrototypeCrossEntropy(Differentiable):
    """Rows (S, B) of :func:`prototype_cross_entropy`."""

    @staticmethod
    def forward(*arguments: Any) -> Any:
        return _forward_op(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        tensors, ctx.how = inputs[:9], inputs[9:]
        _, *rows = output
        ctx.save_for_backward(*tensors, *rows)
        ctx.mark_non_differentiable(*rows)

    @staticmethod
    def gradients(ctx: Any, saved: Any, row_grad: Any, *_: Any) -> Any:
        tensors, rows = saved[:9], saved[9:]
        needs = list(ctx.needs_input_grad[:3])
        grads = _backward_op(*tensors, *ctx.how, *rows, row_grad, needs)
        grads = (grad if need else None for grad, need in zip(grads, needs, strict=True))
        return *grads, *[None] * (len(ctx.needs_input_grad) - 3)


def prototype_cross_entropies(*arguments: Any) -> Tensor:
    """The rows, with a derivative if one is needed."""
    *tensors, pairs, temperatures, impl = arguments
    arguments = (*tensors, *split(pairs, temperatures), impl)
    if differentiates(arguments[:3]):
        return PrototypeCrossEntropy.apply(*arguments)[0]
    return _forward_op(*arguments)[0]
