"""What losses of random directions share: the step that draws them."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import MOST_SEED, check_integers
from ...primitives import random_directions
from .._common import Gathering, GatheringLoss


class SlicedLoss(GatheringLoss):
    """A loss of embeddings' projections on random directions, other ones at every call in training.

    Directions follow from the seed and the step alone, so that they are the same on all ranks and
    devices, and nobody waits to agree on them: ranks must have counted alike, as they do from one
    checkpoint. Activation checkpointing, which calls a loss twice, is an error in training unless
    directions are given.

    Args:
        num_slices: directions, M.
        seed: of directions.
        gather_distributed, gather, group, grad_scale, impl: see
            :class:`sslkernels.losses.GatheringLoss`. Both ways to gather are one here: ranks
            exchange sums.

    Attributes:
        global_step: calls so far in training, an int64 tensor in the ``state_dict``.
    """

    global_step: Tensor

    def __init__(
        self,
        num_slices: int,
        gather_distributed: bool,
        seed: int,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_integers(1, num_slices=num_slices)
        check_integers(0, MOST_SEED, seed=seed)
        self.num_slices, self.seed = num_slices, seed
        self.register_buffer("global_step", torch.zeros((), dtype=torch.int64))

    def draw(self, z: Tensor) -> Tensor:
        """Directions (D, M) for embeddings (…, D), in their dtype; in training the step then
        moves on."""
        if self.training and _is_repeated():
            raise RuntimeError(
                f"{type(self).__name__} is computed again within a backward pass, as activation "
                "checkpointing does, and would draw other directions: give it directions, or leave "
                "the loss out of the checkpointed part"
            )
        directions = random_directions(
            self.global_step, z.shape[-1], self.num_slices, seed=self.seed, dtype=z.dtype
        )
        if self.training:
            with torch.no_grad():
                self.global_step += 1
        return directions


def _is_repeated() -> bool:
    """Whether a backward pass runs, which computes again what was not kept."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
