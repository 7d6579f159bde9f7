"""Supervised contrastive learning: all rows of the same class are positives."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import check_choice, check_positive, check_temperature, check_tensors, shown
from ..._operator import accumulation_dtype, full_precision
from ...distributed import Gather, all_reduce, rank_of, ranks_of
from ...primitives._rows import dot
from ...primitives.contrastive import Contrastive, contrastive_loss
from ...primitives.pairwise_logsumexp import pairwise_logsumexp
from ...primitives.same_label import same_label_logsumexp, same_label_sum
from .._common import Gathering, GatheringLoss, as_scalar, inverse, mean_loss, unit

CONVENTIONS = ("official", "pytorch_metric_learning", "solo_learn")
CONTRAST_MODES = ("all", "one")


def supcon(
    features: Tensor,
    labels: Tensor | None = None,
    mask: Tensor | None = None,
    temperature: float | Tensor = 0.07,
    contrast_mode: str = "all",
    base_temperature: float | None = 0.07,
    *,
    convention: str = "official",
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    r"""Supervised contrastive loss (Khosla et al. 2020, arXiv:2004.11362).

    For a row i with positives P(i), the other rows of its class:
    ``T / T_base · [log Σ_{j≠i} e^(z_i·z_j/T) − mean_{p ∈ P(i)} z_i·z_p/T]``, the paper's L_out.
    The positives cost O(N·D), as a sum over each class. Features are normalised here.

    Args:
        features: (N, V, D), V views of N images; or (N, D), one view each.
        labels: (N,) integers; None makes each image its own class (then this is NT-Xent).
        mask: (N, N), instead of labels: the weight of image j as a positive of image i. Not with
            ``gather``.
        temperature: T, a number or one-element tensor.
        contrast_mode: anchors, the rows that have a loss: ``"all"`` views or the first (``"one"``).
        base_temperature: T_base of the official convention; None means T, so the factor is 1.
        convention: ``"official"`` is HobbitLong/SupContrast: the mean over all rows, where a row
            without positives counts as 0. ``"pytorch_metric_learning"`` leaves such rows out of
            the mean and has no factor. ``"solo_learn"`` sums the positives inside the logarithm,
            ``log Σ_{j≠i} e^s − log Σ_{p ∈ P(i)} e^s`` (close to the paper's L_in; a different
            loss); rows without positives count as 0, and there is no factor.
        gather: the ranks whose rows are included.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape; both labels and a mask;
            a mask, or ``contrast_mode="one"``, where it is not supported.
    """
    _check(features, labels, mask, temperature, contrast_mode, convention, gather)
    _check_base(base_temperature)
    images, views = features.shape[0], features.shape[1] if features.dim() == 3 else 1
    factor: float | Tensor = 1.0
    is_scaled = False
    if convention == "official" and base_temperature is not None:
        is_scaled = isinstance(temperature, Tensor) or temperature != base_temperature
        if is_scaled:
            factor = as_scalar(temperature, features) / base_temperature
    rows_of_views = features.unflatten(1, (views, -1)) if features.dim() == 2 else features
    embeddings = rows_of_views.transpose(0, 1).reshape(images * views, -1)  # view by view
    if mask is None:
        classes = _row_labels(labels, images, views, features.device, gather)
    if mask is None and contrast_mode == "all" and convention != "solo_learn":
        problem = Contrastive(
            embeddings,
            labels=classes,
            scale=inverse(temperature, features),
            exclude=(0,),
            form="decoupled",
            skip_alone=convention == "pytorch_metric_learning",
        )
        loss = contrastive_loss(problem, gather=gather, impl=impl)
        return (factor * loss).to(loss.dtype) if is_scaled else loss
    temperature = as_scalar(temperature, features)
    with full_precision(features):
        z = unit(embeddings, gather)
        anchors = z if contrast_mode == "all" else z[:images]
        rows = pairwise_logsumexp(
            anchors, z, 1 / temperature, exclude=(0,), gather=gather, impl=impl
        )
        if mask is not None:
            total, count = _masked_sums(z, mask, views)
        else:
            if convention == "solo_learn":
                scale = 1 / temperature
                if not isinstance(scale, Tensor):
                    scale = rows.new_full((), scale)  # copying a number would synchronise
                scale = scale.to(rows.dtype)
                positives = same_label_logsumexp(z, scale, classes, gather)[: len(rows)]
                alone = torch.isneginf(positives)
                positives = positives.masked_fill(alone, 0.0)
                return mean_loss((rows - positives).masked_fill(alone, 0.0), features, gather)
            total, count = same_label_sum(z.to(rows.dtype), classes, gather)
            total, count = total - z, count - 1  # without the row itself
        total, count = total[: len(rows)], count[: len(rows)]
        positives = dot(anchors, total) / (temperature * count.clamp(min=1e-6))
        alone = count < 1e-6
        loss = (rows - positives).masked_fill(alone, 0.0)
        if convention == "pytorch_metric_learning":
            return _mean_of(loss, ~alone, gather).to(rows.dtype)
        return mean_loss(factor * loss, features, gather)


class SupConLoss(GatheringLoss):
    """Supervised contrastive loss: constructor and defaults of HobbitLong's ``SupConLoss``.

    Formula, shapes, conventions and errors: :func:`sslkernels.functional.supcon`.

    Args:
        temperature: T, a number or one-element tensor or parameter.
        contrast_mode: ``"all"`` or ``"one"``.
        base_temperature: T_base of the official convention; None: T.
        gather_distributed: include the other ranks' rows.
        convention: ``"official"``, ``"pytorch_metric_learning"`` or ``"solo_learn"`` (both have
            T = 0.1 by default).
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        contrast_mode: str = "all",
        base_temperature: float | None = 0.07,
        gather_distributed: bool = False,
        *,
        convention: str = "official",
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_temperature(temperature=temperature)
        check_choice("contrast_mode", contrast_mode, CONTRAST_MODES)
        check_choice("convention", convention, CONVENTIONS)
        _check_base(base_temperature)
        self.temperature = temperature
        self.contrast_mode = contrast_mode
        self.base_temperature = base_temperature
        self.convention = convention

    def forward(
        self, features: Tensor, labels: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """Return the loss of features (N, V, D) or (N, D) with labels (N,) or a mask (N, N)."""
        return supcon(
            features,
            labels,
            mask,
            self.temperature,
            self.contrast_mode,
            self.base_temperature,
            convention=self.convention,
            gather=self.gather,
            impl=self.impl,
        )


def _masked_sums(z: Tensor, mask: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """Weighted sum and total weight of each row's positives, the row itself left out."""
    mask = mask.to(z.device, accumulation_dtype(z))
    by_image = z.to(mask.dtype).unflatten(0, (views, -1)).sum(0)  # (N, D)
    own = mask.diagonal().repeat(views)
    total = (mask @ by_image).repeat(views, 1) - own[:, None] * z
    return total, views * mask.sum(1).repeat(views) - own


def _row_labels(
    labels: Tensor | None, images: int, views: int, device: torch.device, gather: Gather | None
) -> Tensor:
    if labels is not None:
        return labels.reshape(-1).to(device, torch.int64).repeat(views)
    own = torch.arange(images, device=device)
    return (own + (rank_of(gather) << 32)).repeat(views)  # unique across ranks


def _mean_of(x: Tensor, keep: Tensor, gather: Gather | None) -> Tensor:
    count, ranks = keep.sum().to(x.dtype), ranks_of(gather)
    if ranks is None:
        return x.sum() / count.clamp(min=1)
    return x.sum() * ranks.size / all_reduce(count, "sum", ranks).clamp(min=1)


def _check_base(base_temperature: float | None) -> None:
    if base_temperature is not None:
        check_positive(base_temperature=base_temperature)


def _check(
    features: Tensor,
    labels: Tensor | None,
    mask: Tensor | None,
    temperature: float | Tensor,
    contrast_mode: str,
    convention: str,
    gather: Gather | None,
) -> None:
    check_tensors(features=features)
    if features.dim() not in (2, 3) or 0 in features.shape:
        raise ValueError(
            f"features must be (N, V, D) or (N, D), nothing empty; got {tuple(features.shape)}"
        )
    check_temperature(temperature=temperature)
    check_choice("contrast_mode", contrast_mode, CONTRAST_MODES)
    check_choice("convention", convention, CONVENTIONS)
    n = features.shape[0]
    if labels is not None and mask is not None:
        raise ValueError("give labels or a mask, not both")
    for name, x in (("labels", labels), ("mask", mask)):
        if x is not None and not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a torch.Tensor or None, got {shown(x)}")
        if x is not None and (x.is_complex() or x.layout is not torch.strided):
            raise TypeError(f"{name} must be dense and real, got {shown(x)}")
    if labels is not None and (labels.numel() != n or labels.is_floating_point()):
        raise ValueError(f"labels must be {n} integers, one per image; got {shown(labels)}")
    if mask is not None and tuple(mask.shape) != (n, n):
        raise ValueError(f"mask must be ({n}, {n}), got {tuple(mask.shape)}")
    if mask is not None and ranks_of(gather) is not None:
        raise ValueError("a mask knows only this rank's images; across ranks give labels")
    if mask is not None and convention == "solo_learn":
        raise ValueError("convention='solo_learn' takes labels, not a mask")
