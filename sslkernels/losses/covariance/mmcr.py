"""Maximum manifold capacity: a large nuclear norm of centroids, small ones of the views."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import check_devices, check_flags, check_not_negative, check_tensors
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, gather_rows, mean_over_ranks, scale_gradient
from ...primitives import _rows
from .._common import Gathering, GatheringLoss
from .nuclear_norm import nuclear_norm


def mmcr(
    online: Tensor,
    momentum: Tensor,
    lmda: float = 5e-3,
    *,
    normalize: bool = False,
    gather: Gather | None = None,
) -> Tensor:
    """Maximum manifold capacity representations (Yerxa et al. 2023, arXiv:2303.03307).

    ``−‖C‖_* + λ mean_b ‖Z_b‖_*``, where Z_b (2k, D) are the views of image b from both networks, C
    (B, D) their means, and ``‖·‖_*`` the sum of singular values. Thin decompositions only.

    Args:
        online, momentum: (B, k, D), the k views of each image from either network.
        lmda: λ, at least 0.
        normalize: normalise the embeddings first, as in the authors' code. The default, like
            lightly, does not.
        gather: the ranks whose images form one batch, with all centroids in one matrix.

    Returns:
        A scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    _check(online, momentum)
    check_not_negative(lmda=lmda)
    check_flags(normalize=normalize)
    with full_precision(online):
        z = torch.cat([online, momentum], 1).to(accumulation_dtype(online))  # (B, 2k, D)
        z = scale_gradient(_rows.normalize(z) if normalize else z, gather)
        centroids = gather_rows(z.mean(1), gather)
        try:
            return lmda * mean_over_ranks(nuclear_norm(z), gather) - nuclear_norm(centroids)
        except torch.linalg.LinAlgError:  # NaN inputs
            return (z.sum() + centroids.sum()) * float("nan")


class MMCRLoss(GatheringLoss):
    """Maximum manifold capacity: constructor, defaults and values of ``lightly.loss.MMCRLoss``.

    Formula: :func:`sslkernels.functional.mmcr`.

    Args:
        lmda: λ, at least 0.
        normalize: see :func:`sslkernels.functional.mmcr`.
        gather_distributed: combine all ranks' centroids in one matrix.
        gather, group, grad_scale: see :class:`sslkernels.losses.GatheringLoss`.

    Raises:
        ValueError: ``lmda`` below 0.
    """

    def __init__(
        self,
        lmda: float = 5e-3,
        gather_distributed: bool = False,
        *,
        normalize: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_not_negative(lmda=lmda)
        check_flags(normalize=normalize)
        self.lmda, self.normalize = lmda, normalize

    def forward(self, online: Tensor, momentum: Tensor) -> Tensor:
        """Return the loss of two networks' embeddings, each (B, k, D)."""
        return mmcr(online, momentum, self.lmda, normalize=self.normalize, gather=self.gather)


def _check(online: Tensor, momentum: Tensor) -> None:
    check_tensors(online=online, momentum=momentum)
    if online.dim() != 3 or 0 in online.shape or online.shape != momentum.shape:
        raise ValueError(
            "online and momentum must have the same shape (B, k, D), each at least 1; "
            f"got {tuple(online.shape)} and {tuple(momentum.shape)}"
        )
    if online.dtype != momentum.dtype:
        raise TypeError(
            f"online and momentum must have one dtype, got {online.dtype} and {momentum.dtype}"
        )
    check_devices(online=online, momentum=momentum)
