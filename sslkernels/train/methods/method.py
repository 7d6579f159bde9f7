"""The interface of a method to the training loop."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from ...data import ViewBatch
from ...metrics import embedding_spread


class Method(nn.Module):
    """A method: embeddings of views, and their loss.

    All state that must survive an interruption is in parameters or buffers. Random numbers come
    from torch's default generator of the device. Each parameter that requires a gradient must get
    one in every step.

    Attributes:
        forward: embeddings and whatever else the loss needs, each with a row per image.
        loss: a method, or a module if it has parameters of its own: ``loss(*embeddings)`` is the
            training loss.
        backbone: maps images to (n, ``backbone.feature_size``) features; used in evaluation, and
            by most users of a checkpoint.
        projector: the layers after the evaluated backbone; empty if there are none.
        progress: the fraction of all steps done, set by the loop.
    """

    forward: Callable[..., tuple[Tensor, ...]]
    loss: Callable[..., Tensor]
    backbone: nn.Module
    projector: nn.Sequential
    progress: float = 0.0

    def inputs(self, batch: ViewBatch) -> tuple[Tensor, ...]:
        """The arguments of ``forward`` for a batch, each with a row per image."""
        return tuple(batch.views)

    def monitor(self, *embeddings: Tensor) -> dict[str, Tensor]:
        """Scalars to log besides the loss."""
        return {"embedding_spread": embedding_spread(embeddings[0])}

    def rate(self, name: str) -> float:
        """The learning rate of the parameter of this name, as a multiple of the recipe's."""
        return 1.0

    def before_step(self) -> None:
        """Called between the backward pass and the optimiser's step."""

    def after_step(self) -> None:
        """Called after each optimiser step: momentum teachers are updated here."""
