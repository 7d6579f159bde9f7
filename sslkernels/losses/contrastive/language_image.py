"""CLIP and SigLIP: contrastive losses of image and text features."""

from __future__ import annotations

from torch import Tensor

from ..._checks import check_scalars
from ...distributed import Gather
from ...primitives.contrastive import Contrastive, contrastive_loss
from .._common import GatheringLoss, check_embeddings


def clip(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """The loss of CLIP (Radford et al. 2021, arXiv:2103.00020), rows and columns in one pass.

    With s = ``logit_scale`` · I Tᵀ: the mean of the row-wise and column-wise cross-entropies of s,
    whose targets are on the diagonal.

    Args:
        image_features: (N, D), normalised by the caller, as in open_clip.
        text_features: (N, D), normalised by the caller, in the same order.
        logit_scale: multiplies the similarities; a number or one-element tensor, may require a
            gradient.
        gather: the ranks whose features are negatives too.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(image_features=image_features, text_features=text_features)
    check_scalars(logit_scale=logit_scale)
    problem = Contrastive(
        image_features,
        key=text_features,
        scale=logit_scale,
        exclude=(0,),
        columns=True,
        unit_query=False,
        unit_key=False,
    )
    return contrastive_loss(problem, gather=gather, impl=impl)


class CLIPLoss(GatheringLoss):
    """The loss of CLIP as a module, a replacement for ``open_clip.loss.ClipLoss``.

    Formula and shapes: :func:`sslkernels.functional.clip`.

    Args:
        gather_distributed: take the other ranks' features as negatives. The gradients are then
            those of open_clip's ``local_loss=True, gather_with_grad=True``;
            ``grad_scale="reference"`` gives those of its defaults.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def forward(
        self, image_features: Tensor, text_features: Tensor, logit_scale: float | Tensor
    ) -> Tensor:
        """Return the loss of normalised features, each (N, D)."""
        return clip(image_features, text_features, logit_scale, gather=self.gather, impl=self.impl)


def siglip(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor = 0.0,
    *,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """The pairwise sigmoid loss of SigLIP (Zhai et al. 2023, arXiv:2303.15343).

    With s_ij = ``logit_scale`` · ⟨I_i, T_j⟩ + ``logit_bias``:
    ``1/N Σ_i [softplus(−s_ii) + Σ_{j≠i} softplus(s_ij)]``, with N images on this rank.

    Args:
        image_features: (N, D), normalised by the caller, as in open_clip and big_vision.
        text_features: (N, D), normalised by the caller, in the same order.
        logit_scale: multiplies the similarities; a number or one-element tensor, may require a
            gradient.
        logit_bias: is added to the logits; a number or one-element tensor, may require a gradient.
        gather: the ranks whose features are negatives too.
        impl: see :func:`sslkernels.pairwise_softplus`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape.
    """
    check_embeddings(image_features=image_features, text_features=text_features)
    check_scalars(logit_scale=logit_scale)
    check_scalars(logit_bias=logit_bias)
    problem = Contrastive(
        image_features,
        key=text_features,
        scale=logit_scale,
        bias=logit_bias,
        exclude=(0,),
        form="sigmoid",
        unit_query=False,
        unit_key=False,
    )
    return contrastive_loss(problem, gather=gather, impl=impl)


class SigLIPLoss(GatheringLoss):
    """The loss of SigLIP as a module, a replacement for ``open_clip.loss.SigLipLoss``.

    Formula and shapes: :func:`sslkernels.functional.siglip`.

    Args:
        gather_distributed: take the other ranks' features as negatives.
        gather: ``"ring"`` corresponds to open_clip's ``dist_impl="shift"``; both routes are exact.
        group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor = 0.0,
    ) -> Tensor:
        """Return the loss of normalised features, each (N, D)."""
        return siglip(
            image_features,
            text_features,
            logit_scale,
            logit_bias,
            gather=self.gather,
            impl=self.impl,
        )
