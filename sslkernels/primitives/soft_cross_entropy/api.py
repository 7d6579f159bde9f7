"""The public functions: their contract, their checks, and the choice of implementation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._checks import check_positive, check_tensors, shown
from ..._operator import accumulation_dtype, full_precision
from .._arguments import choose, on_device_of
from .._prototypes import Prototypes, check_prototypes
from .op import Temperatures, cross_entropies_of, temperatures_of
from .problem import Pairs, Problem, dtype_of
from .prototype_op import prototype_cross_entropies
from .reference import soft_cross_entropy_reference

IMPLEMENTATIONS = ("auto", "reference", "tiled", "cpu", "triton", "cuda")


def soft_cross_entropy(
    student: Tensor | Sequence[Tensor],
    teacher: Tensor | Sequence[Tensor],
    *,
    student_temperature: float = 0.1,
    teacher_temperature: float | None = 0.04,
    center: Tensor | None = None,
    pairs: Tensor | Pairs | None = None,
    impl: str = "auto",
) -> Tensor:
    r"""Cross-entropies between teacher and student rows of logits; no distribution is stored.

    ``rows[s, b] = Σ_t pairs[s, t] · H(p[t, b], softmax(student[s, b] / student_temperature))`` with
    ``H(p, q) = −Σ_k p_k log q_k`` and ``p = softmax((teacher − center) / teacher_temperature)``,
    which centres and sharpens (DINO, Caron et al. 2021, arXiv:2104.14294). Centred by the result of
    :func:`sslkernels.sinkhorn`, p is the Sinkhorn-Knopp assignment of SwAV and DINOv2.

    Args:
        student: logits of S views of B rows: (S, B, K), or S tensors (B, K); or one view (B, K).
            float16, bfloat16, float32 or float64.
        teacher: logits of T views of the same rows, in the same forms; any of these dtypes. Gets
            no gradient.
        student_temperature: above 0.
        teacher_temperature: above 0; None: the teacher's rows are probabilities, used as they are
            (they need not sum to 1).
        center: subtracted from the teacher's logits: (K,), or anything that broadcasts to
            (T, C, K), where C divides B: row b then uses entry b mod C. No gradient.
        pairs: (S, T), the weight of each pair of views; None: all 1. A zero diagonal leaves out
            pairs of the same view.
        impl: ``"auto"`` chooses by device and dtype: ``"cpu"`` (C++) and ``"triton"`` for up to
            32-bit floats, else ``"tiled"`` (torch, chunk by chunk); ``"cuda"`` (CUDA C++, up to 4
            teachers) and ``"reference"`` (materialises the distributions) are used only when named.

    Returns:
        (S, B), or (B,) for one view (B, K), in float32 (float64 if a view is), regardless of
        autocast. Differentiable once in the students, whose gradient has their dtype. To weight
        rows (by iBOT's masks, say), multiply the result. A NaN gives NaN in each row that uses it.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes or devices that do not fit, a temperature not above 0, a centre with
            probabilities, an unknown ``impl``, or one that does not run on these tensors.
        RuntimeError: an ``impl`` that was named but not built or installed.
    """
    students, teachers = _check_views("student", student), _check_views("teacher", teacher)
    like, other = students[0], teachers[0]
    if like.shape[-2:] != other.shape[-2:]:
        raise ValueError(
            "student and teacher must agree in rows B and prototypes K, got (B, K) = "
            f"{tuple(like.shape[-2:])} and {tuple(other.shape[-2:])}"
        )
    if like.device != other.device:
        raise ValueError(f"student and teacher must be on one device, got {like.device} and "
                         f"{other.device}")  # fmt: skip
    counts = _count(students), _count(teachers)
    pairs = check_pairs(pairs, counts, like, dtype_of(like, other))
    check_temperatures(student_temperature, teacher_temperature, center)
    count, width = like.shape[-2:]
    center = check_center(center, counts[1], count, width, like.device)
    impl = choose(impl, IMPLEMENTATIONS, other if other.dtype == torch.float64 else like)
    teachers = [x.detach() for x in teachers]
    temperatures = _temperatures(student_temperature, teacher_temperature, like)
    if impl == "reference":
        views = _unbound(students), _unbound(teachers)
        dtype = dtype_of(like, other)
        center = None if center is None else center.to(dtype)
        weights = matrix_of(pairs, counts, like, dtype)
        problem = Problem(*views, center, weights, *temperatures_of(*temperatures), dtype)
        rows = soft_cross_entropy_reference(problem)
    else:
        tensors = (*students, *teachers)
        rows = cross_entropies_of(tensors, center, pairs, temperatures, impl, len(students))
    return rows[0] if isinstance(student, Tensor) and student.dim() == 2 else rows


def prototype_cross_entropy(
    student: Tensor | Sequence[Tensor],
    prototypes: Tensor,
    teacher: Tensor | Sequence[Tensor],
    teacher_prototypes: Tensor,
    *,
    magnitude: Tensor | None = None,
    teacher_magnitude: Tensor | None = None,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.04,
    center: Tensor | None = None,
    pairs: Tensor | Pairs | None = None,
    impl: str = "auto",
) -> Tensor:
    r""":func:`sslkernels.soft_cross_entropy` of features and prototypes, without storing logits.

    The student's logits are ``student @ prototypesᵀ``, the teacher's ``teacher @
    teacher_prototypesᵀ``: the last layer of a DINO, iBOT or SwAV head, without a bias, fused with
    the loss. Logits are computed in chunks, in the forward and again in the backward pass. They are
    kept for the backward pass only if all fit in one chunk (at most 128 MiB on a GPU, 3 MiB on a
    CPU).

    Args:
        student: features of S views of B rows: (S, B, D), or S tensors (B, D); or one view (B, D).
            float16, bfloat16, float32 or float64.
        prototypes: (K, D), of any of these dtypes; multiplied in that of the features.
        teacher: features of T views of the same rows, in the same forms. No gradient.
        teacher_prototypes: (K, D'), for features of the teacher (…, D'). No gradient.
        magnitude: (K,) or (K, 1), for weight normalisation, ``magnitude · prototypes /
            ‖prototypes‖`` by row, as in ``torch.nn.utils.weight_norm`` (its ``weight_g``). None: no
            weight normalisation.
        teacher_magnitude: the same for the teacher.
        student_temperature, teacher_temperature, center, pairs, impl: see
            :func:`sslkernels.soft_cross_entropy`; the teacher's rows are always logits.

    Returns:
        (S, B), or (B,) for one view (B, D), in float32 (float64 for float64 features), regardless
        of autocast. Differentiable once in student, prototypes and magnitude; gradients have
        their dtypes.

    Raises:
        TypeError, ValueError, RuntimeError: see :func:`sslkernels.soft_cross_entropy`.
    """
    students = _stacked("student", student)
    teachers = _stacked("teacher", teacher).detach()
    if students.shape[1] != teachers.shape[1] or students.device != teachers.device:
        raise ValueError(
            "student and teacher must agree in rows B and in device, got (views, B, D) = "
            f"{tuple(students.shape)} on {students.device} and {tuple(teachers.shape)} on "
            f"{teachers.device}"
        )
    if students.dtype != teachers.dtype:
        raise TypeError(
            f"student and teacher must have one dtype, got {students.dtype} and {teachers.dtype}"
        )
    own = check_prototypes("student", students, "prototypes", prototypes, magnitude)
    their = check_prototypes(
        "teacher", teachers, "teacher_prototypes", teacher_prototypes, teacher_magnitude
    )
    if len(own.weight) != len(their.weight):
        raise ValueError(
            f"prototypes and teacher_prototypes must be as many, got {len(own.weight)} and "
            f"{len(their.weight)}"
        )
    if teacher_temperature is None:
        raise ValueError("teacher_temperature must be finite and above 0, got None")
    counts, dtype = (len(students), len(teachers)), accumulation_dtype(students)
    pairs = check_pairs(pairs, counts, students, dtype)
    check_temperatures(student_temperature, teacher_temperature, center)
    center = check_center(center, counts[1], students.shape[1], len(own.weight), students.device)
    temperatures = _temperatures(student_temperature, teacher_temperature, students)
    impl = choose(impl, IMPLEMENTATIONS, students)
    their = their.detached()
    if impl == "reference":
        logits = _logits(students, own, dtype), _logits(teachers, their, dtype)
        center = None if center is None else center.to(dtype)
        weights = matrix_of(pairs, counts, students, dtype)
        student_logits, teacher_logits = (x.unbind() for x in logits)
        how = temperatures_of(*temperatures)
        problem = Problem(student_logits, teacher_logits, center, weights, *how, dtype)
        rows = soft_cross_entropy_reference(problem)
    else:
        rows = prototype_cross_entropies(
            students, *own, teachers, *their, center, pairs, temperatures, impl
        )
    return rows[0] if isinstance(student, Tensor) and student.dim() == 2 else rows


def check_temperatures(student: float, teacher: float | None, center: Tensor | None) -> None:
    """Raise unless they are numbers above 0, and there is no centre with probabilities."""
    check_positive(student_temperature=student)
    if teacher is not None:
        check_positive(teacher_temperature=teacher)
    elif center is not None:
        raise ValueError("center is for a teacher's logits; with teacher_temperature=None "
                         "its rows are probabilities: leave out center")  # fmt: skip


def _temperatures(student: float, teacher: float | None, like: Tensor) -> Temperatures:
    """The numbers; tensors under torch.compile, which would otherwise specialise on them."""
    if not torch.compiler.is_compiling():
        return None, float(student), None if teacher is None else float(teacher)
    numbers = student, 1.0 if teacher is None else teacher
    on_device = torch.stack([on_device_of(x, like) for x in numbers])
    return on_device, 1.0, None if teacher is None else 1.0


def check_pairs(
    pairs: Tensor | Pairs | None, counts: tuple[int, int], like: Tensor, dtype: torch.dtype
) -> Tensor | Pairs:
    """(S, T) in the dtype and on the device of computation, or a rule."""
    if pairs is None:
        return Pairs(1.0)
    if isinstance(pairs, Pairs):
        return pairs
    if not isinstance(pairs, Tensor):
        raise TypeError(f"pairs must be a torch.Tensor or None, got {shown(pairs)}")
    if pairs.is_complex() or pairs.layout is not torch.strided:
        raise TypeError(f"pairs must be dense and real, got {shown(pairs)}")
    if pairs.shape != counts:
        raise ValueError(f"pairs must be (students, teachers) = {counts}, got {tuple(pairs.shape)}")
    return pairs.detach().to(like.device, dtype)


def matrix_of(
    pairs: Tensor | Pairs, counts: tuple[int, int], like: Tensor, dtype: torch.dtype
) -> Tensor:
    """(S, T)."""
    return pairs.matrix(counts, like.device, dtype) if isinstance(pairs, Pairs) else pairs


def check_center(
    center: Tensor | None, teachers: int, rows: int, width: int, device: torch.device
) -> Tensor | None:
    """(1 or T, 1 or C, K), detached; None stays None."""
    if center is None:
        return None
    check_tensors(center=center)
    shape = (1,) * (3 - center.dim()) + tuple(center.shape)
    if (
        len(shape) != 3
        or shape[0] not in (1, teachers)
        or shape[1] < 1
        or rows % shape[1]
        or shape[2] != width
    ):
        raise ValueError(
            f"center must be (K,) or broadcast to (T, C, K) = ({teachers}, C, {width}), where C "
            f"divides the {rows} rows; got {tuple(center.shape)}"
        )
    if center.device != device:
        raise ValueError(f"center must be on {device} like the logits, got {center.device}")
    return center.detach().reshape(shape)


def _check_views(name: str, views: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """One tensor (V, B, K), or several (B, K)."""
    if not isinstance(views, (Tensor, list, tuple)):
        raise TypeError(f"{name} must be a torch.Tensor or a list of them, got {shown(views)}")
    tensors = [views] if isinstance(views, Tensor) else list(views)
    dimensions = (2, 3) if isinstance(views, Tensor) else (2,)
    for x in tensors:
        check_tensors(**{name: x})
    if not tensors or any(
        x.dim() not in dimensions or 0 in x.shape or x.shape != tensors[0].shape for x in tensors
    ):
        raise ValueError(
            f"{name} must be (views, B, K), or views that are each (B, K), none of them empty; "
            f"got {', '.join(str(tuple(x.shape)) for x in tensors) or 'no views'}"
        )
    if any(x.dtype != tensors[0].dtype or x.device != tensors[0].device for x in tensors):
        raise ValueError(f"the views of {name} must have one dtype and device, got "
                         + ", ".join(f"{x.dtype} on {x.device}" for x in tensors))  # fmt: skip
    return tensors


def _unbound(tensors: list[Tensor]) -> list[Tensor]:
    """The views, each (B, K)."""
    return [view for x in tensors for view in (x.unbind() if x.dim() == 3 else [x])]


def _count(tensors: list[Tensor]) -> int:
    return len(tensors[0]) if tensors[0].dim() == 3 else len(tensors)


def _stacked(name: str, views: Tensor | Sequence[Tensor]) -> Tensor:
    """The views as one tensor (V, B, D); a copy of features is small."""
    tensors = _check_views(name, views)
    return tensors[0] if tensors[0].dim() == 3 else torch.stack(tensors)


def _logits(features: Tensor, prototypes: Prototypes, dtype: torch.dtype) -> Tensor:
    with full_precision(features):
        return features.to(dtype) @ prototypes.part(slice(None), dtype).T
