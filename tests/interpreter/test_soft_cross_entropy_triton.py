"""Values of the Triton kernels, run by the interpreter: float32 and float16 on ragged shapes."""

from functools import reduce as fold

import pytest
import torch
from covering import covering
from soft_cross_entropy_oracle import check_prototype_cross_entropy, check_soft_cross_entropy

from sslkernels import functional, soft_cross_entropy
from sslkernels.primitives.soft_cross_entropy import triton
from sslkernels.primitives.soft_cross_entropy.op import cross_entropies_of
from sslkernels.primitives.soft_cross_entropy.problem import Pairs, Problem, merge

NAN, INFINITY = float("nan"), float("inf")


def outcome(student, teacher, **how):
    """Rows, and the students' gradients, one tensor for each student."""
    leaves = [x.detach().requires_grad_() for x in student]
    rows = soft_cross_entropy(leaves, teacher, **{"impl": "triton", **how})
    ramp = torch.arange(1.0, 1.0 + rows.numel()).view_as(rows)
    return rows.detach(), torch.stack(torch.autograd.grad((ramp * rows).sum(), leaves))


def assert_equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


def assert_close(found, expected, relative=1e-5):
    for a, b in zip(found, expected, strict=True):
        assert (a - b).norm() <= relative * b.norm()


@pytest.mark.parametrize("dtype, temperature, sizes", covering(
    [torch.float32, torch.float16],
    [0.04, None],  # of logits, of probabilities
    [(1, 1, 5, 17), (1, 1, 1, 2), (2, 1, 2, 4097), (10, 2, 2, 2048), (3, 3, 2, 3001),
     (2, 5, 3, 700)],
), ids=str)  # fmt: skip
def test_as_exact_as_eager(dtype, temperature, sizes):
    check_soft_cross_entropy(
        "triton", *sizes, teacher_temperature=temperature, dtype=dtype, draws=2, floor=2e-6
    )


@pytest.mark.parametrize("options", [
    {"centers": None}, {"centers": (3, 1)}, {"centers": (1, 2)}, {"centers": (3, 6)},
    {"student_temperature": 1.0, "teacher_temperature": 0.07}, {"size": 0.01}, {"size": 100.0},
], ids=str)  # fmt: skip
def test_centers_temperatures_and_sizes(options):
    check_soft_cross_entropy("triton", 2, 3, 6, 1500, **options, draws=2, floor=2e-6)


@pytest.mark.parametrize("teacher_temperature", [0.07, None])
def test_temperatures_that_only_the_device_knows(teacher_temperature):
    students, teachers = torch.randn(2, 3, 700), torch.randn(1, 3, 700).softmax(2)
    numbers = 0.15, teacher_temperature
    on_device = torch.tensor([0.15, teacher_temperature or 1.0], dtype=torch.float64)
    results = []
    for temperatures in ((None, *numbers), (on_device, 1.0, teacher_temperature and 1.0)):
        x = students.clone().requires_grad_()
        rows = cross_entropies_of([x, teachers], None, Pairs(1.0), temperatures, "triton", 1)
        rows.sum().backward()
        results.append((rows.detach(), x.grad))
    assert_close(*results, relative=1e-7)


@pytest.mark.parametrize("normalized", [False, True])
def test_prototypes(normalized):
    sizes = (3, 2, 4, 5000, 8)
    check_prototype_cross_entropy("triton", *sizes, normalized=normalized, draws=2, floor=2e-6)


def test_views_wherever_they_lie():
    students, teachers = torch.randn(5, 3, 40), torch.randn(3, 3, 40)
    pairs = torch.rand(5, 3)
    expected = outcome(students.unbind(), teachers, pairs=pairs)
    one_by_one = [x.clone() for x in students]
    wide = torch.randn(3, 90)
    wide[:, 20:60] = students[1]
    backwards = students.flip(0).clone()
    for views in (
        one_by_one,
        [*students[:2], *one_by_one[2:4], students[4]],  # two runs, of two and of one between
        [students[0], wide[:, 20:60], *students[2:]],  # another stride of rows
        [students[0], backwards[3], backwards[2], *students[3:]],
        backwards.unbind()[::-1],  # a negative distance
        torch.cat(list(students), 1).chunk(5, 1),  # closer than the length of a row
    ):
        assert_equal(outcome(views, teachers, pairs=pairs), expected)
    theirs = [x.clone() for x in teachers]
    for views in (theirs, [teachers[0], theirs[1], teachers[2]], teachers.flip(0).unbind()[::-1]):
        assert_equal(outcome(students.unbind(), views, pairs=pairs), expected)
    same = outcome([students[0]] * 3, teachers, pairs=pairs[:3])
    assert_equal(same, outcome(students[:1].expand(3, 3, 40).clone(), teachers, pairs=pairs[:3]))


@pytest.mark.parametrize("layout", ["transposed", "sliced", "expanded", "stepped"])
def test_strides(layout):
    x = {
        "transposed": torch.randn(130, 6).T,
        "sliced": torch.randn(6, 300)[:, 7:137],
        "expanded": torch.randn(1, 130).expand(6, 130),
        "stepped": torch.randn(12, 260)[::2, ::2],
    }[layout]
    center = torch.randn(130, 4).T[None, ::2]
    teacher = x.flip(0)
    plain = outcome([x.contiguous()], teacher.contiguous(), center=center.contiguous())
    assert_equal(outcome([x], teacher, center=center), plain)


def problem_of(students=3, teachers=2, rows=4, width=3000, **changes):
    problem = Problem(
        torch.randn(students, rows, width).unbind(),
        torch.randn(teachers, rows, width).unbind(),
        torch.randn(1, 1, width),
        torch.rand(students, teachers),
        0.1,
        0.04,
        torch.float32,
    )
    return problem._replace(**changes)


def test_the_gradient_may_take_the_place_of_the_students():
    problem, row_grad = problem_of(), torch.randn(4, 3).T
    statistics = triton.reduce(problem)
    apart = torch.empty(3, 4, 3000).unbind()
    triton.weigh(problem, statistics, row_grad, apart)
    triton.weigh(problem, statistics, row_grad, problem.student)
    assert_equal(problem.student, apart)


@pytest.mark.parametrize("probabilities", [False, True])
def test_parts_of_the_prototypes_merge(probabilities):
    problem = problem_of(teacher_temperature=0.04)
    if probabilities:
        teacher = [x.softmax(1) for x in problem.teacher]
        problem = problem._replace(teacher=teacher, center=None, teacher_temperature=None)
    parts = [problem.part(slice(*ends)) for ends in ((0, 1), (1, 2300), (2300, 3000))]
    assert_close(fold(merge, map(triton.reduce, parts)), triton.reduce(problem))


def test_far_logits():
    """Whole blocks below float32's range, and -inf for prototypes that a teacher excludes."""
    student, teacher = torch.randn(2, 3, 5000), torch.randn(1, 3, 5000)
    student[..., 4096:] -= 1e4
    teacher[..., :300] += 30.0
    for rest in (0.0, -INFINITY):
        teacher[..., 300:] += rest
        for temperature in (0.04, 0.07):  # their inverses: one float, two floats
            how = {"teacher_temperature": temperature}
            doubles = student.double(), teacher.double()
            expected = outcome(*doubles, **how, impl="reference")
            # the teacher's logits reach 750, where float32's precision is 3e-5
            assert_close(outcome(student, teacher, **how), expected, 5e-5)


@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_nan_only_in_the_rows_that_it_enters(value):
    student, teacher = torch.randn(2, 4, 5000), torch.randn(2, 4, 5000)
    student[0, 1, 4500], teacher[1, 3, 7] = value, value
    for pairs, bad in (
        (torch.ones(2, 2), [(0, 1), (0, 3), (1, 3)]),
        (torch.eye(2), [(0, 1), (1, 3)]),
    ):
        rows, grad = outcome(student, teacher, pairs=pairs)
        assert [tuple(x) for x in rows.isnan().nonzero().tolist()] == bad
        assert [tuple(x) for x in grad.isnan().any(2).nonzero().tolist()] == bad


@pytest.mark.parametrize("width", [40, 5000])
def test_a_row_of_nothing_is_nan(width):
    student, teacher = torch.randn(2, 4, width), torch.randn(2, 4, width)
    student[0, 1], teacher[1, 3] = -INFINITY, -INFINITY
    rows, _ = outcome(student, teacher, pairs=torch.eye(2))
    assert rows.isnan().nonzero().tolist() == [[0, 1], [1, 3]]


def test_bitwise_repeatable():
    student, teacher = torch.randn(2, 3, 5000), torch.randn(2, 3, 5000)
    assert_equal(outcome(student, teacher), outcome(student, teacher))


def test_how_many_teachers():
    student = torch.randn(1, 2, 300)
    for teachers in (33, 64):
        check_soft_cross_entropy("triton", 1, teachers, 2, 300, draws=1, floor=2e-6)
    with pytest.raises(ValueError, match="up to 64 teachers, got 65; use impl='tiled'"):
        outcome(student, torch.randn(65, 2, 300))


@pytest.mark.parametrize("same_view", [False, True])
@pytest.mark.parametrize("students", [2, 5, 19])
def test_losses_of_many_views_that_lie_anywhere(students, same_view):
    """Also more than fit in one launch; pairs by a rule."""
    views = [torch.randn(3 + i, 3, 50)[i].requires_grad_() for i in range(students)]
    teacher = [torch.randn(3, 50) for _ in range(2)]
    values = []
    for impl in ("triton", "tiled"):
        loss = functional.dino(student=views, teacher=teacher, same_view=same_view, impl=impl)
        values.append([loss, *torch.autograd.grad(loss, views)])
    for ours, theirs in zip(*values, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
