"""Losses of open_clip (2.x, 3.x): names, arguments, defaults, results and gradients.

Differences: ``sslkernels/compat/README.md``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..distributed import Gather, all_gather, all_ranks
from ..losses import clip, siglip
from .peer import OrPeers, Peer, ShowsArguments

__all__ = ["ClipLoss", "CoCaLoss", "SigLipLoss"]

PEER = Peer(
    package="open_clip",
    distribution="open_clip_torch",
    releases=("2.32.0", "3.3.0"),
    defined_in=dict.fromkeys(__all__, "open_clip.loss"),
)

DISTRIBUTIONS = {"bidir": "ring", "shift": "ring", "reduce": "all", "gather": "all"}


class ClipLoss(OrPeers, ShowsArguments, nn.Module):
    """``open_clip.ClipLoss``: :func:`sslkernels.functional.clip`.

    Args:
        local_loss: return the loss of this rank's rows; False: on every rank, that of all rows.
        gather_with_grad: gradients reach the other ranks' features, and are those of the global
            batch; False: as in open_clip, this rank's are divided by the number of ranks, those of
            the scale are not.
        cache_labels: no effect: there are no labels.
        rank, world_size: of this process.
        use_horovod: must be False.

    With ``use_horovod``, or with ``local_loss`` but not ``gather_with_grad`` on several ranks,
    whose gradient is not that of any loss, open_clip's own class is used.

    Raises:
        ValueError: one of these cases, if open_clip is not installed.
    """

    peer = PEER

    def __init__(
        self,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
    ) -> None:
        super().__init__()
        self.local_loss, self.gather_with_grad = local_loss, gather_with_grad
        self.cache_labels = cache_labels
        self.rank, self.world_size, self.use_horovod = rank, world_size, use_horovod
        refused = self._not_done(vars(self))
        if refused:
            raise ValueError(refused)
        scale = "mean" if gather_with_grad else "reference"
        self.gather = Gather(grad_scale=scale) if world_size > 1 else None

    @classmethod
    def _not_done(cls, arguments: dict[str, Any]) -> str:
        if arguments.get("use_horovod"):
            return "use_horovod must be False: ranks communicate by torch.distributed here"
        of_several = arguments.get("world_size", 1) > 1
        if of_several and arguments.get("local_loss") and not arguments.get("gather_with_grad"):
            return (
                "local_loss=True needs gather_with_grad=True on several ranks: without it the "
                "gradient is that of no loss"
            )
        return ""

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None = None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss of normalised features, each (N, D).

        ``logit_bias`` is constant in both softmaxes, and does not change the loss.
        """
        if isinstance(logit_bias, Tensor) and logit_bias.numel() != 1:
            raise ValueError(f"logit_bias must be one number, got shape {tuple(logit_bias.shape)}")
        loss = self._contrastive(image_features, text_features, logit_scale)
        if isinstance(logit_bias, Tensor) and logit_bias.requires_grad:
            loss = loss + 0 * logit_bias.sum()  # a zero gradient instead of None
        return {"contrastive_loss": loss} if output_dict else loss

    def _contrastive(self, image: Tensor, text: Tensor, scale: float | Tensor) -> Tensor:
        _check_world(self.world_size)
        loss = clip(image, text, scale, gather=self.gather)
        if self.gather is None or self.local_loss:
            return loss
        return loss + (_mean_of_ranks(loss) - loss.detach())


class CoCaLoss(ClipLoss):
    """``open_clip.CoCaLoss``: ``ClipLoss`` plus the cross-entropy of captions."""

    def __init__(
        self,
        caption_loss_weight: float,
        clip_loss_weight: float,
        pad_id: int = 0,
        local_loss: bool = False,
        gather_with_grad: bool = False,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        use_horovod: bool = False,
    ) -> None:
        super().__init__(local_loss, gather_with_grad, cache_labels, rank, world_size, use_horovod)
        self.clip_loss_weight, self.caption_loss_weight = clip_loss_weight, caption_loss_weight
        self.pad_id = pad_id
        self.caption_loss = nn.CrossEntropyLoss(ignore_index=pad_id)

    def forward(  # type: ignore[override]
        self,
        image_features: Tensor,
        text_features: Tensor,
        logits: Tensor,
        labels: Tensor,
        logit_scale: float | Tensor,
        output_dict: bool = False,
    ) -> tuple[Tensor, Tensor] | dict[str, Tensor]:
        """Return the weighted losses of features, each (N, D), and of captions' logits (N, L, V)
        with labels (N, L)."""
        if self.clip_loss_weight:
            contrastive = self._contrastive(image_features, text_features, logit_scale)
            contrastive = self.clip_loss_weight * contrastive
        else:
            contrastive = torch.tensor(0, device=logits.device)
        caption = self.caption_loss_weight * self.caption_loss(logits.transpose(1, 2), labels)
        if output_dict:
            return {"contrastive_loss": contrastive, "caption_loss": caption}
        return contrastive, caption


class SigLipLoss(ShowsArguments, nn.Module):
    """``open_clip.SigLipLoss``: :func:`sslkernels.functional.siglip`.

    Args:
        cache_labels, chunk_size: no effect: there are no labels, and no logits are stored.
        rank, world_size: of this process.
        dist_impl: ``"bidir"`` (also None) and ``"shift"`` pass texts from rank to rank,
            ``"reduce"`` and ``"gather"`` gather them; the results are the same.
    """

    def __init__(
        self,
        cache_labels: bool = False,
        rank: int = 0,
        world_size: int = 1,
        dist_impl: str | None = None,
        chunk_size: int = 0,
    ) -> None:
        super().__init__()
        self.cache_labels, self.chunk_size = cache_labels, chunk_size
        self.rank, self.world_size = rank, world_size
        self.dist_impl = dist_impl or "bidir"
        if self.dist_impl not in DISTRIBUTIONS:
            raise AssertionError(
                f"dist_impl must be one of {', '.join(DISTRIBUTIONS)}; got {dist_impl!r}"
            )
        self.gather = Gather(DISTRIBUTIONS[self.dist_impl]) if world_size > 1 else None

    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        logit_bias: float | Tensor | None,
        output_dict: bool = False,
    ) -> Tensor | dict[str, Tensor]:
        """Return the loss of normalised features, each (N, D)."""
        _check_world(self.world_size)
        bias = 0.0 if logit_bias is None else logit_bias
        loss = siglip(image_features, text_features, logit_scale, bias, gather=self.gather)
        return {"contrastive_loss": loss} if output_dict else loss


def _mean_of_ranks(loss: Tensor) -> Tensor:
    """The mean of all ranks' losses, without gradient."""
    return all_gather(loss.reshape(1), Gather()).mean()


def _check_world(world_size: int) -> None:
    found = all_ranks()[1]
    if world_size > 1 and world_size != found:
        raise ValueError(f"world_size={world_size}, but torch.distributed knows {found} ranks")
