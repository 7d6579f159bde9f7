"""W-MSE: alignment of whitened views; whitening prevents collapse."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn

from ..._checks import check_flags, check_integers, check_shares, check_tensors, shown
from ..._copy import to_device
from ..._operator import Differentiable, accumulation_dtype, full_precision
from ...distributed import Gather, mean_over_ranks, scale_gradient, sum_over_ranks
from ...primitives._rows import normalize
from .._common import check_embeddings, settings


def whiten(x: Tensor, eps: float = 0.0, *, gather: Gather | None = None) -> Tensor:
    """Rows with zero mean and covariance I, by the Cholesky factor: ``L⁻¹ (x − mean)``.

    ``L Lᵀ = (1 − eps) Σ + eps I``, where Σ is the covariance divided by N − 1 (Ermolov et al. 2021,
    arXiv:2007.06346). A triangular solve on the rows, in at least float32.

    Args:
        x: (…, N, D), batches of rows, each whitened separately.
        eps: from 0 to 1; with 0, N must exceed D.
        gather: the ranks whose rows form one batch; the rows themselves are not exchanged.

    Returns:
        The shape of x, in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape; a singular covariance.
    """
    check_shares(eps=eps)
    check_tensors(x=x)
    if x.dim() < 2 or 0 in x.shape:
        raise ValueError(f"x must be (…, N, D), each at least 1; got {tuple(x.shape)}")
    with full_precision(x):
        x = scale_gradient(x, gather).to(accumulation_dtype(x))
        return _whiten(x, eps, gather)[0]


def norm_mse(x0: Tensor, x1: Tensor) -> Tensor:
    """``2 − 2 mean cos(x0, x1)``: the squared distance of unit vectors, for (N, D) each."""
    return 2 - 2 * _cosines(x0, x1).mean()


def w_mse(z_a: Tensor, z_b: Tensor, eps: float = 0.0, *, gather: Gather | None = None) -> Tensor:
    """W-MSE (Ermolov et al. 2021, arXiv:2007.06346) of two views, each whitened as one batch:
    ``2 − 2 mean cos(whiten(z_a), whiten(z_b))``.

    Args:
        z_a, z_b: (N, D) embeddings of the views.
        eps: from 0 to 1, see :func:`sslkernels.functional.whiten`.
        gather: the ranks whose rows are whitened together.

    Returns:
        A scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape; a singular covariance.
    """
    check_embeddings(z_a=z_a, z_b=z_b)
    x0, x1 = (whiten(x, eps, gather=gather) for x in (z_a, z_b))
    with full_precision(z_a):
        return 2 - 2 * mean_over_ranks(_cosines(x0, x1), gather)


class Whitening(nn.Module):
    """Whitens batches of rows; in evaluation mode with running statistics.

    The buffers are those of ``lightly.loss.wmse_loss.Whitening2d``.

    Args:
        num_features: D.
        momentum: weight of a batch in the running statistics.
        track_running_stats: False uses the batch's statistics in evaluation too.
        eps: see :func:`sslkernels.functional.whiten`.

    Attributes:
        running_mean: (1, D, 1, 1).
        running_variance: (D, D), the covariance before eps.
    """

    running_mean: Tensor
    running_variance: Tensor

    def __init__(
        self,
        num_features: int,
        momentum: float = 0.01,
        track_running_stats: bool = True,
        eps: float = 0.0,
    ) -> None:
        super().__init__()
        check_integers(1, num_features=num_features)
        check_shares(momentum=momentum, eps=eps)
        check_flags(track_running_stats=track_running_stats)
        self.num_features, self.momentum, self.eps = num_features, momentum, eps
        self.track_running_stats = track_running_stats
        if track_running_stats:
            self.register_buffer("running_mean", torch.zeros(1, num_features, 1, 1))
            self.register_buffer("running_variance", torch.eye(num_features))

    def forward(self, x: Tensor) -> Tensor:
        """Whiten (…, N, D); batches update the running statistics in order of their index."""
        if x.shape[-1] != self.num_features:
            raise ValueError(f"x must be (…, N, {self.num_features}), got {tuple(x.shape)}")
        with full_precision(x):
            x = x.to(accumulation_dtype(x))
            if self.track_running_stats and not self.training:
                root = _cholesky(self.running_variance.to(x.dtype), self.eps, x)
                return _Solve.apply(x - self.running_mean.flatten().to(x.dtype), root)
            whitened, mean, covariance, _ = _whiten(x, self.eps, None)
            if self.track_running_stats and mean is not None:
                self._track(mean, covariance)
            return whitened

    @torch.no_grad()
    def _track(self, mean: Tensor, covariance: Tensor) -> None:
        """The successive updates of the moving average, in closed form."""
        d, kept = self.num_features, 1 - self.momentum
        count = covariance.shape[:-2].numel()
        powers = kept ** torch.arange(count - 1, -1, -1, dtype=mean.dtype, device=mean.device)
        for running, batches in (
            (self.running_mean, mean.reshape(count, d)),
            (self.running_variance, covariance.reshape(count, d * d)),
        ):
            new = (self.momentum * powers) @ batches
            running.mul_(kept**count).add_(new.view_as(running))

    def extra_repr(self) -> str:
        return f"{self.num_features}, eps={self.eps}"


class WMSELoss(nn.Module):
    """W-MSE: constructor, defaults, buffers and values of ``lightly.loss.WMSELoss``.

    Draws the same random numbers as lightly; all sub-batches are whitened in one batched
    factorisation. The statistics are those of a sub-batch on one rank, which is correct under
    DistributedDataParallel without gathering if all ranks hold equally many rows.

    Args:
        embedding_dim: D.
        momentum: weight of a sub-batch in the running statistics.
        eps: weight of the identity in the covariance, from 0 to 1.
        track_running_stats: whiten with running statistics in evaluation.
        w_iter: number of random divisions of the batch, over which the loss is averaged.
        w_size: rows of a sub-batch, at least 2 D.
        loss_fn: maps two whitened views (N, D) to a scalar; by default
            ``2 − 2 mean cos(x0, x1)``.
        num_samples: views of each image.

    Raises:
        ValueError: ``w_size`` below 2 D, ``w_iter`` below 1, ``num_samples`` below 2, or ``eps``
            out of range.
    """

    def __init__(
        self,
        embedding_dim: int = 128,
        momentum: float = 0.01,
        eps: float = 0.0,
        track_running_stats: bool = True,
        w_iter: int = 1,
        w_size: int = 256,
        loss_fn: Callable[[Tensor, Tensor], Tensor] = norm_mse,
        num_samples: int = 2,
    ) -> None:
        super().__init__()
        check_integers(1, embedding_dim=embedding_dim, w_size=w_size, w_iter=w_iter)
        check_integers(2, num_samples=num_samples)
        if not callable(loss_fn):
            raise TypeError(f"loss_fn must be a function, got {shown(loss_fn)}")
        if w_size < 2 * embedding_dim:
            raise ValueError(
                f"w_size must be at least twice embedding_dim = {embedding_dim}, got {w_size}"
            )
        self.whitening = Whitening(embedding_dim, momentum, track_running_stats, eps)
        self.w_iter, self.w_size, self.num_samples = w_iter, w_size, num_samples
        self.loss_f = loss_fn

    def extra_repr(self) -> str:
        return settings(self)

    def forward(self, input: Tensor) -> Tensor:
        """Return the loss of (num_samples · N, D), one view after the other.

        Raises:
            ValueError: N not a multiple of ``w_size``; a singular covariance.
        """
        check_embeddings(input=input)
        if input.shape[1] != self.whitening.num_features:
            raise ValueError(
                f"input must have embedding_dim={self.whitening.num_features} features, "
                f"got {tuple(input.shape)}"
            )
        n, rest = divmod(len(input), self.num_samples)
        if rest or n % self.w_size:
            raise ValueError(
                f"input must be num_samples={self.num_samples} times N rows, N a multiple of "
                f"w_size={self.w_size}, got {tuple(input.shape)}"
            )
        views = input.to(accumulation_dtype(input)).unflatten(0, (self.num_samples, n))
        losses = []
        for _ in range(self.w_iter):
            order = to_device(torch.randperm(n), input.device)
            batches = views[:, order].unflatten(1, (-1, self.w_size)).transpose(0, 1)
            whitened = self.whitening(batches).transpose(0, 1).flatten(1, 2)  # (samples, N, D)
            whitened = whitened[:, order.argsort()]
            with full_precision(input):
                losses += [self.loss_f(x0, x1) for x0, x1 in combinations(whitened, 2)]
        return torch.stack(losses).mean()


def _whiten(x: Tensor, eps: float, gather: Gather | None) -> tuple[Any, ...]:
    """As :class:`_Whiten`; NaN without statistics if rows are not finite."""
    try:
        return _Whiten.apply(x, eps, gather)
    except ValueError:
        if x.isfinite().all():
            raise
        return x * float("nan"), None, None, None


class _Whiten(Differentiable):
    """Whitened rows; and mean, covariance and the Cholesky factor, without gradient."""

    @staticmethod
    def forward(x: Tensor, eps: float, gather: Gather | None) -> tuple[Tensor, ...]:
        count = sum_over_ranks(x.new_full((), x.shape[-2]), gather)
        mean = sum_over_ranks(x.sum(-2, keepdim=True), gather) / count
        centred = x - mean
        covariance = sum_over_ranks(centred.mT @ centred, gather) / (count - 1).clamp(min=1)
        root = _cholesky(covariance, eps, x)
        return _solve(centred, root), mean, covariance, root

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, ctx.eps, ctx.gather = inputs
        whitened, mean, covariance, root = output
        ctx.save_for_backward(whitened, root, x)
        ctx.mark_non_differentiable(mean, covariance, root)

    @staticmethod
    def gradients(
        ctx: Any, saved: tuple[Tensor, ...], grad: Tensor, *rest: Tensor
    ) -> tuple[Tensor | None, ...]:
        whitened, root, _ = saved
        with full_precision(grad):
            count = sum_over_ranks(grad.new_full((), grad.shape[-2]), ctx.gather)
            along = sum_over_ranks(grad.mT @ whitened, ctx.gather).tril()
            factor = (1 - ctx.eps) / (count - 1).clamp(min=1)
            along = (along.tril(-1) + along.mT) * factor  # lower triangle, mirrored
            grad = torch.linalg.solve_triangular(
                root, grad - whitened @ along, upper=False, left=False
            )
            return (
                grad - sum_over_ranks(grad.sum(-2, keepdim=True), ctx.gather) / count,
                None,
                None,
            )


class _Solve(Differentiable):
    """``L⁻¹ x`` for every row x, differentiable in x."""

    @staticmethod
    def forward(x: Tensor, root: Tensor) -> Tensor:
        return _solve(x, root)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def gradients(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
        _, root = saved
        with full_precision(grad):
            return torch.linalg.solve_triangular(root, grad, upper=False, left=False), None


def _solve(x: Tensor, root: Tensor) -> Tensor:
    return torch.linalg.solve_triangular(root.mT, x, upper=True, left=False)


def _cholesky(covariance: Tensor, eps: float, x: Tensor) -> Tensor:
    identity = torch.eye(covariance.shape[-1], dtype=covariance.dtype, device=covariance.device)
    try:
        return torch.linalg.cholesky((1 - eps) * covariance + eps * identity)
    except torch.linalg.LinAlgError as error:
        raise ValueError(
            "whitening needs a covariance that is positive definite; use a larger eps "
            f"(got {eps}) or more rows in a batch, w_size (got {x.shape[-2]} for "
            f"{x.shape[-1]} features)"
        ) from error


def _cosines(x0: Tensor, x1: Tensor) -> Tensor:
    return (normalize(x0) * normalize(x1)).sum(1)
