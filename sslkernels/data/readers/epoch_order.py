"""The images of a batch, as a function of the seed, the rank and the step."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import torch
from torch import Tensor

from ..._checks import MOST_SEED, check_integers


def seeded_generator(*numbers: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator whose state follows from all of ``numbers``, each at least 0."""
    (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    return torch.Generator(device).manual_seed(int(seed))


class EpochOrder:
    """The order of images, new in each epoch, sharded over ranks and divided into batches.

    Stateless: a step counts batches from the start of the first epoch, and determines its images.
    Ranks share each epoch's permutation, and take every ``world_size``-th image of it; all have
    the same number of batches, and the remaining images are left out.

    Args:
        count: number of images.
        batch_size: images per batch of one rank.
        seed: of the permutations, from 0 to 2^63 − 1.
        rank, world_size: this process's rank, and the number of ranks.

    Raises:
        TypeError: an argument is not an integer.
        ValueError: a number is out of range, or there are too few images for a batch on each rank.
    """

    def __init__(
        self, count: int, batch_size: int, *, seed: int = 0, rank: int = 0, world_size: int = 1
    ):
        check_integers(0, count=count, rank=rank)
        check_integers(1, batch_size=batch_size, world_size=world_size)
        check_integers(0, MOST_SEED, seed=seed)
        if rank >= world_size:
            raise ValueError(f"rank must be in 0..world_size - 1, got {rank} of {world_size}")
        if count < batch_size * world_size:
            raise ValueError(
                f"{count} images do not fill a batch of {batch_size} on each of {world_size} "
                f"ranks; take a batch_size of {count // world_size} or less"
            )
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self._last_share = -1, torch.empty(0, dtype=torch.int64)  # epoch, images

    def __len__(self) -> int:
        """Batches per epoch, the same on each rank."""
        return self.count // (self.batch_size * self.world_size)

    def batch(self, step: int, skipped: Container[int] = ()) -> Tensor:
        """The images (batch_size,) int64 of a step.

        An image in ``skipped`` is replaced by the image half an epoch away in this rank's share, or
        the next one there that is not skipped. The replacement depends on which images are skipped,
        but not on when that was found out.

        Raises:
            ValueError: all images of this rank's share are skipped.
        """
        epoch, position = divmod(step, len(self))
        share = self._epoch_share(epoch)
        start = position * self.batch_size
        images = share[start : start + self.batch_size].clone()
        for row, image in enumerate(images.tolist()):
            if image in skipped:
                images[row] = self._replacement(share, start + row, skipped)
        return images

    def _epoch_share(self, epoch: int) -> Tensor:
        last_epoch, share = self._last_share
        if epoch != last_epoch:
            order = torch.randperm(self.count, generator=seeded_generator(self.seed, epoch))
            share = order[self.rank :: self.world_size]
            self._last_share = epoch, share
        return share

    def _replacement(self, share: Tensor, place: int, skipped: Container[int]) -> int:
        candidates = torch.roll(share, -(place + len(share) // 2)).tolist()
        for image in candidates:
            if image not in skipped:
                return image
        raise ValueError(f"none of the {len(share)} images of rank {self.rank} can be read")
