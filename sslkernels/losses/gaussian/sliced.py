"""Shared by losses of random directions: the step counter that determines the directions."""

from __future__ import annotations

from typing import Unpack

import torch
from torch import Tensor

from ..._checks import MOST_SEED, check_integers
from ...primitives import random_directions
from .._common import Gathering, GatheringLoss


class SlicedLoss(GatheringLoss):
    """A loss of embeddings projected on random directions, drawn anew at every training call.

    Directions follow from the seed and the step alone, so they are the same on all ranks and
    devices without communication, as long as the ranks have made the same number of calls (they
    have, from a common checkpoint). Activation checkpointing, which calls a loss twice, is an
    error in training unless directions are given.

    Args:
        num_slices: M, the number of directions.
        seed: seed of the directions.
        gather_distributed, gather, group, grad_scale, impl: see
            :class:`sslkernels.losses.GatheringLoss`. Both values of ``gather`` are the same here:
            ranks exchange sums.

    Attributes:
        global_step: number of calls so far in training, an int64 tensor in the ``state_dict``.
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
        """Directions (D, M) for embeddings (…, D), in their dtype; in training this advances
        ``global_step``."""
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
    """Whether a backward pass is running, which recomputes activations under checkpointing."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1
