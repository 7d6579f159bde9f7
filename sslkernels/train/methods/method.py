"""What the loop expects of a method."""

from __future__ import annotations

from torch import Tensor, nn


class Method(nn.Module):
    """A self-supervised method: embeddings of views, and their loss.

    Attributes:
        loss: a method or module: ``loss(*embeddings)`` is what training lowers.
        backbone: maps images to (n, ``backbone.feature_size``) features; what is evaluated, and
            what most users of a checkpoint want.
    """

    backbone: nn.Module

    def forward(self, *views: Tensor) -> tuple[Tensor, ...]:
        """Embeddings of the views, each with a row per image."""
        raise NotImplementedError

    def after_step(self, progress: float) -> None:
        """Called after each step of the optimiser, with the fraction of all steps that are done.

        Here is the place of schedules and of teachers that follow; most methods have neither.
        """
