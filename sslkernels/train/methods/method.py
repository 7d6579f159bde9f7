"""What the loop expects of a method."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ...data import ViewBatch
from ...metrics import embedding_spread


class Method(nn.Module):
    """A method: embeddings of views, and their loss.

    Whatever has to survive an interruption is a parameter or a buffer. Random numbers come from
    torch's own generator of the device. Each parameter that requires a gradient gets one in every
    step.

    Attributes:
        forward: embeddings and whatever else the loss needs, each with a row per image.
        loss: a method, or a module where it has parameters of its own: ``loss(*embeddings)`` is
            what training lowers.
        backbone: maps images to (n, ``backbone.feature_size``) features; what is evaluated, and
            what most users of a checkpoint want.
        projector: what follows the evaluated backbone, layer by layer; empty if nothing does.
        progress: which fraction of all steps is done; the loop keeps it.
    """

    forward: Callable[..., tuple[Tensor, ...]]
    loss: Callable[..., Tensor]
    backbone: nn.Module
    projector: nn.Sequential
    progress: float = 0.0

    def inputs(self, batch: ViewBatch) -> tuple[Tensor, ...]:
        """What ``forward`` takes of a batch, each with a row per image."""
        return tuple(batch.views)

    def monitor(self, *embeddings: Tensor) -> dict[str, Tensor]:
        """Scalars to watch besides the loss."""
        return {"embedding_spread": embedding_spread(embeddings[0])}

    def rate(self, name: str) -> float:
        """How fast the parameter of this name learns, as a multiple of the learning rate."""
        return 1.0

    def before_step(self) -> None:
        """Called when gradients are there, and the optimiser has not used them yet."""

    def after_step(self) -> None:
        """Called after each step of the optimiser: here teachers follow."""
