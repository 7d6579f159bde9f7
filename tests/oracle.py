"""The rule of exactness: at most twice the error of eager torch in the same dtype."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sslkernels import (
    Standardized,
    nearest_neighbor,
    offdiagonal_norm,
    pairwise_logsumexp,
    pairwise_softplus,
    sinkhorn,
)

T = TypeVar("T")


class RoundedProduct(torch.autograd.Function):
    """a b with operands rounded to TF32, in the backward pass as well."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return rounded(a) @ rounded(b)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        return rounded(grad) @ rounded(b).T, rounded(a).T @ rounded(grad)


def rounded(x: Tensor) -> Tensor:
    """Round to the 10 bits of TF32's fraction, by adding and subtracting a multiple."""
    large = x * (2**13 + 1)
    return large - (large - x)


def product(a: Tensor, b: Tensor) -> Tensor:
    """a b as torch computes it on a GPU: with rounded operands if TF32 is allowed."""
    as_tf32 = torch.backends.cuda.matmul.fp32_precision == "tf32" and a.dtype == torch.float32
    return RoundedProduct.apply(a, b) if as_tf32 and not a.is_cuda else a @ b


def eager_logsumexp(q: Tensor, k: Tensor, scale: Tensor, exclude: Sequence[int]):
    """In plain torch: the scores in the inputs' dtype, then float32."""
    scores = masked(product(q, k.T) * scale.to(q.dtype), exclude)
    return scores.logsumexp(1), scores.logsumexp(0)


def eager_softplus(q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, exclude: Sequence[int]):
    """The same for softplus."""
    scores = product(q, k.T) * scale.to(q.dtype) + bias.to(q.dtype)
    return F.softplus(masked(scores, exclude)).sum(1)


def eager_offdiagonal_norm(a: Tensor, b: Tensor, columns: str | Standardized):
    """The same for the cross-product of features, also standardised in the inputs' dtype."""
    cross = product(eager_columns(a, columns).T, eager_columns(b, columns))
    cross = cross.to(torch.promote_types(cross.dtype, torch.float32))
    diagonal = cross.diagonal()
    return (cross - torch.diag(diagonal)).square().sum(), diagonal


def eager_sinkhorn(logits: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Logarithms of both scalings, in the logits' dtype."""
    x = logits / epsilon  # (..., n, k)
    prototypes = x.logsumexp(-2, keepdim=True)
    for _ in range(iterations - 1):
        samples = (x - prototypes).logsumexp(-1, keepdim=True)
        prototypes = (x - samples).logsumexp(-2, keepdim=True)
    return epsilon * prototypes.squeeze(-2)


def eager_columns(x: Tensor, columns: str | Standardized) -> Tensor:
    if columns == "raw":
        return x
    x = x - x.mean(0)
    if columns == "centered":
        return x
    rule = Standardized() if columns == "standardized" else columns
    variance = x.var(0, correction=0) * (len(x) / max(len(x) - rule.correction, 1))
    return x / ((variance + rule.eps).sqrt() + rule.outer_eps)


def masked(scores: Tensor, exclude: Sequence[int]) -> Tensor:
    i = torch.arange(scores.shape[0], device=scores.device)[:, None]
    j = torch.arange(scores.shape[1], device=scores.device)[None, :]
    for offset in exclude:
        scores = scores.masked_fill(j - i == offset, float("-inf"))
    return scores.to(torch.promote_types(scores.dtype, torch.float32))


def results(
    function: Callable[..., tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    dtype: torch.dtype,
    weights: Sequence[Tensor],
    constant: Collection[int] = (),
) -> list[Tensor]:
    """Values of the function and gradients of their weighted sum, in float64.

    ``constant``: the inputs without gradient.
    """
    leaves = [x.detach().to(dtype) for x in inputs]
    learned = [x.requires_grad_() for i, x in enumerate(leaves) if i not in constant]
    values = function(*leaves)
    total = sum((v.double() * w).sum() for v, w in zip(values, weights, strict=True))
    grads = torch.autograd.grad(total, learned)
    return [x.detach().double() for x in (*values, *grads)]


def repeated(draw: Callable[[], T], times: int) -> list[T]:
    """Independent draws of one problem; a rehearsal without values uses a single one."""
    return [draw() for _ in range(times)]


def assert_as_exact_as_eager(
    draws: Sequence[tuple[list[Tensor], list[Tensor], list[Tensor]]], floor: float = 1.2e-7
) -> None:
    """Compare draws of (ours, eager, exact): root mean square and maximum, over entries and draws.

    ``floor`` is relative to the result: two roundings of float32.
    """
    for index, parts in enumerate(zip(*(zip(*draw, strict=True) for draw in draws), strict=True)):
        ours, eager, exact = (torch.stack(x).flatten() for x in zip(*parts, strict=True))
        assert torch.isfinite(ours).all(), f"result {index} is not finite"
        eager = torch.where(eager.isfinite(), eager, exact)  # otherwise it would allow any error
        for name, size in (
            ("norm", torch.linalg.vector_norm),
            ("maximum", lambda x: x.abs().max()),
        ):
            error, allowed = size(ours - exact), 2 * size(eager - exact) + floor * size(exact)
            assert error <= allowed, f"result {index}, {name}: {error:.3e} > {allowed:.3e}"


def embeddings(size: int, d: int, dtype: torch.dtype, device: str, unit: bool) -> Tensor:
    x = torch.randn(size, d, dtype=torch.float64, device=device)
    return (x / x.norm(dim=1, keepdim=True) if unit else x).to(dtype)


def check_pairwise_logsumexp(
    impl: str,
    n: int,
    m: int | None,
    d: int,
    scale: float,
    exclude: Sequence[int] = (),
    columns: bool = True,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    unit: bool = True,
    draws: int = 16,
    floor: float = 1.2e-7,
) -> None:
    """Random cases against float64; ``m=None`` is the symmetric case. Rows must not be empty."""
    sizes = (n, m or n) if columns else (n,)
    scale_tensor = torch.tensor(scale, dtype=torch.float32, device=device)

    def draw() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        inputs = [embeddings(size, d, dtype, device, unit) for size in (n, m) if size]
        inputs.append(scale_tensor)
        weights = [torch.randn(size, dtype=torch.float64, device=device) for size in sizes]

        def run(impl: str | None, dtype: torch.dtype) -> list[Tensor]:
            def function(q: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
                k = rest[0] if len(rest) == 2 else q
                if impl is None:
                    return eager_logsumexp(q, k, rest[-1], exclude)[: len(sizes)]
                out = pairwise_logsumexp(
                    q, k, rest[-1], exclude=exclude, columns=columns, impl=impl
                )
                return out if columns else (out,)

            return results(function, inputs, dtype, weights)

        return run(impl, dtype), run(None, dtype), run("reference", torch.float64)

    assert_as_exact_as_eager(repeated(draw, draws), floor)


def check_pairwise_softplus(
    impl: str,
    n: int,
    m: int,
    d: int,
    scale: float,
    bias: float,
    exclude: Sequence[int] = (),
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    unit: bool = True,
    draws: int = 16,
    floor: float = 1.2e-7,
) -> None:
    """Random cases against float64: the rows and the gradients of q, k, scale and bias."""
    scalars = [torch.tensor(x, dtype=torch.float32, device=device) for x in (scale, bias)]

    def draw() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        inputs = [embeddings(size, d, dtype, device, unit) for size in (n, m)] + scalars
        weights = [torch.randn(n, dtype=torch.float64, device=device)]

        def run(impl: str | None, dtype: torch.dtype) -> list[Tensor]:
            def function(*leaves: Tensor) -> tuple[Tensor]:
                if impl is None:
                    return (eager_softplus(*leaves, exclude),)
                return (pairwise_softplus(*leaves, exclude=exclude, impl=impl),)

            return results(function, inputs, dtype, weights)

        return run(impl, dtype), run(None, dtype), run("reference", torch.float64)

    assert_as_exact_as_eager(repeated(draw, draws), floor)


def check_nearest_neighbor(
    impl: str,
    n: int,
    m: int,
    d: int,
    topk: int = 1,
    exclude: Sequence[int] = (),
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    draws: int = 4,
    floor: float = 1.2e-7,
) -> None:
    """Random cases against float64: the similarities, and that the indices are of the largest.

    Every row must have topk entries.
    """

    def draw() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        q, k = (torch.randn(size, d, dtype=torch.float64, device=device) for size in (n, m))
        q, k = (torch.nn.functional.normalize(x, dim=1).to(dtype) for x in (q, k))
        exact = q.double() @ k.double().T
        error = (product(q, k.T).double() - exact).abs().max()
        i = torch.arange(n, device=device)[:, None]
        j = torch.arange(m, device=device)[None, :]
        for offset in exclude:
            exact = exact.masked_fill(j - i == offset, float("-inf"))
        similarities, indices = nearest_neighbor(q, k, topk, exclude=exclude, impl=impl)
        assert similarities.shape == indices.shape == (n, topk)
        assert (similarities.diff(dim=1) <= 0).all(), "not sorted"
        assert (indices.sort(1).values.diff(dim=1) > 0).all(), "an entry was chosen twice"
        chosen, best = exact.gather(1, indices), exact.topk(topk).values
        short = (best - chosen).max()
        assert short <= 2 * error + floor, f"chosen {short:.3e} below the best, eager {error:.1e}"
        eager = product(q, k.T).double().gather(1, indices)
        return [similarities.double()], [eager], [chosen]

    assert_as_exact_as_eager(repeated(draw, draws), floor)


def check_offdiagonal_norm(
    impl: str,
    n: int,
    d: int,
    columns: str | Standardized = "standardized",
    symmetric: bool = False,
    route: str = "auto",
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    draws: int = 4,
    floor: float = 1.2e-7,
) -> None:
    """Random cases against float64: norm, diagonal and gradients.

    The sample route, if named, is allowed eager's error relative to all of Σ C², because it
    computes the norm and its gradient by subtracting the diagonal from that.
    """

    def draw() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        a = torch.randn(n, d, dtype=torch.float64, device=device)
        b = 0.7 * a + torch.randn_like(a)
        shift = torch.randn(d, dtype=torch.float64, device=device)
        inputs = [(x + shift).to(dtype) for x in ([a] if symmetric else [a, b])]
        weights = [torch.randn(size, dtype=torch.float64, device=device) for size in ((), (d,))]
        weights[0] /= n  # so that norm and diagonal have similar weight in the gradients

        def run(impl: str | None, dtype: torch.dtype, whole: bool = False) -> list[Tensor]:
            def function(a: Tensor, b: Tensor | None = None) -> tuple[Tensor, ...]:
                if impl is None:
                    return eager_offdiagonal_norm(a, a if b is None else b, columns)
                norm, diagonal = offdiagonal_norm(a, b, columns=columns, impl=impl, route=route)
                return norm + diagonal.square().sum() if whole else norm, diagonal

            return results(function, inputs, dtype, weights)

        ours, eager, exact = run(impl, dtype), run(None, dtype), run("reference", torch.float64)
        if route == "sample":
            wholes = run("reference", torch.float64, whole=True)
            for i, whole in enumerate(wholes):
                times = whole.norm() / exact[i].norm().clamp_min(1e-30)
                ours[i] = whole + (ours[i] - exact[i])
                eager[i] = whole + (eager[i] - exact[i]) * times
            exact = wholes
        return ours, eager, exact

    assert_as_exact_as_eager(repeated(draw, draws), floor)


def check_sinkhorn(
    impl: str,
    shape: tuple[int, ...],
    epsilon: float = 0.05,
    iterations: int = 3,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    draws: int = 4,
    floor: float = 1.2e-7,
) -> None:
    """Random cases against float64: cosines that vary by 0.3, with distant prototypes."""

    def draw() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        logits = 0.3 * torch.randn(shape, dtype=torch.float64, device=device)
        logits = (logits + torch.randn(shape[-1], dtype=torch.float64, device=device)).to(dtype)
        ours = sinkhorn(logits, epsilon, iterations, impl=impl)
        eager = eager_sinkhorn(logits, epsilon, iterations)
        exact = sinkhorn(logits.double(), epsilon, iterations, impl="reference")
        centers = (x.double() for x in (ours, eager, exact))  # equivalent up to a constant
        return tuple([x - x.mean(-1, keepdim=True)] for x in centers)

    assert_as_exact_as_eager(repeated(draw, draws), floor)
