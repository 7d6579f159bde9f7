"""NT-Xent: all other embeddings of the batch, or a memory bank, are negatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from torch import Tensor

from ..._checks import check_choice, check_integers, check_temperature
from ...distributed import Gather
from ...primitives.contrastive import Contrastive, contrastive_loss
from .._common import Gathering, GatheringLoss, check_embeddings, inverse
from .memory_bank import MemoryBank
from .moco import moco

CONVENTIONS = ("mean", "google")


def nt_xent(
    out0: Tensor,
    out1: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    convention: str = "mean",
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    r"""NT-Xent, the loss of SimCLR (Chen et al. 2020, arXiv:2002.05709, equation 1).

    Each of the 2N embeddings has its other view as positive and the 2N − 2 others as negatives:
    ``mean_i [log Σ_{j≠i} exp(cos(z_i, z_j) / T) − cos(z_i, z_pair(i)) / T]``, the mean over all 2N.

    Args:
        out0: (N, D) embeddings of one view, not necessarily normalised; float16, bfloat16, float32
            or float64.
        out1: (N, D) embeddings of the other view, in the same order, dtype and device.
        temperature: T, a number or a one-element tensor, which may require a gradient; T may be
            negative.
        convention: ``"mean"`` over all 2N rows, as in the paper, lightly and solo-learn; or
            ``"google"``, the sum of the two views' means as in the original TensorFlow code,
            which is twice as large.
        gather: the ranks whose embeddings are negatives too; the loss is the mean over this
            rank's rows.
        impl: see :func:`sslkernels.pairwise_logsumexp`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs). No NaN at low temperatures,
        since sums are shifted by their largest term. A zero embedding has similarity 0.

    Raises:
        TypeError: an argument of the wrong type or dtype.
        ValueError: shapes that differ, an unknown convention, or a temperature with ``|T| < 1e-8``.
    """
    check_embeddings(out0=out0, out1=out1)
    check_temperature(temperature=temperature)
    check_choice("convention", convention, CONVENTIONS)
    n = out0.shape[0]
    problem = Contrastive(
        out0, out1, scale=inverse(temperature, out0), offset=n, exclude=(-n, 0, n)
    )
    loss = contrastive_loss(problem, gather=gather, impl=impl)
    return 2 * loss if convention == "google" else loss


class NTXentLoss(GatheringLoss):
    """NT-Xent as a module: constructor, defaults and values of ``lightly.loss.NTXentLoss``.

    Formula, shapes and dtypes: :func:`sslkernels.functional.nt_xent`. With a memory bank the loss
    is :func:`sslkernels.functional.moco` of the rows of ``out0`` against the bank; afterwards
    ``out1`` is enqueued if the module is in training mode and ``out0`` requires a gradient.

    Args:
        temperature: T, a number or a one-element tensor or ``nn.Parameter`` (then it is learned).
        memory_bank_size: 0 for none, or (number of embeddings, D).
        gather_distributed: take the other ranks' embeddings as negatives; with a memory bank,
            enqueue them.
        convention: see :func:`sslkernels.functional.nt_xent`; ignored with a memory bank.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.

    Raises:
        ValueError: ``|temperature| < 1e-8``, a memory bank size that is not 0 or a pair of positive
            numbers, or an unknown convention.
    """

    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
        *,
        convention: str = "mean",
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(gather_distributed, **gathering)
        check_temperature(temperature=temperature)
        check_choice("convention", convention, CONVENTIONS)
        self.temperature = temperature
        self.convention = convention
        self.memory_bank_size = memory_bank_size
        self.memory_bank = _memory_bank(memory_bank_size)

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of two views' embeddings, each (N, D)."""
        if self.memory_bank is None:
            return nt_xent(
                out0,
                out1,
                self.temperature,
                convention=self.convention,
                gather=self.gather,
                impl=self.impl,
            )
        check_embeddings(out0=out0, out1=out1)
        queue = self.memory_bank.negatives(out0.dtype)
        loss = moco(out0, out1, queue, self.temperature, gather=self.gather, impl=self.impl)
        if self.training and out0.requires_grad:
            self.memory_bank.enqueue(out1, self.gather)
        return loss


class DirectCLRLoss(NTXentLoss):
    """NT-Xent of the first features only, for training without a projector (Jing et al. 2022,
    arXiv:2110.09348).

    Constructor, defaults and values of ``lightly.loss.DirectCLRLoss``.

    Args:
        loss_dim: number of leading features, out of D, that enter the loss.
        temperature, memory_bank_size, gather_distributed: see
            :class:`sslkernels.NTXentLoss`; the bank's D is ``loss_dim``.

    Raises:
        ValueError: as for :class:`sslkernels.NTXentLoss`, or ``loss_dim`` below 1; in
            ``forward``, above D.
    """

    def __init__(
        self,
        loss_dim: int = 64,
        temperature: float | Tensor = 0.5,
        memory_bank_size: int | Sequence[int] = 0,
        gather_distributed: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(temperature, memory_bank_size, gather_distributed, **options)
        check_integers(1, loss_dim=loss_dim)
        self.loss_dim = loss_dim

    def forward(self, out0: Tensor, out1: Tensor) -> Tensor:
        """Return the loss of two views' representations, each (N, D) with D ≥ ``loss_dim``."""
        check_embeddings(out0=out0, out1=out1)
        if out0.shape[1] < self.loss_dim:
            raise ValueError(
                f"out0 and out1 must have at least loss_dim={self.loss_dim} features, "
                f"got {out0.shape[1]}"
            )
        return super().forward(out0[:, : self.loss_dim], out1[:, : self.loss_dim])


def _memory_bank(size: int | Sequence[int]) -> MemoryBank | None:
    sizes: list[Any] = list(size) if isinstance(size, (list, tuple)) else [size]
    for x in sizes:
        check_integers(0, memory_bank_size=x)
    if sizes in ([0], []) or (len(sizes) == 2 and sizes[0] == 0):
        return None
    if len(sizes) != 2:
        raise ValueError(
            f"memory_bank_size must be 0 or (number of embeddings, D), got {size}; "
            "the embeddings' D cannot be guessed"
        )
    return MemoryBank(*sizes)
