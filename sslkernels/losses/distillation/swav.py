"""SwAV: each crop predicts the cluster assignments of the other crops."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

import torch
from torch import Tensor

from ..._checks import (
    MOST_ITERATIONS,
    check_integers,
    check_positive,
    check_sequence,
    check_tensors,
)
from ...distributed import Gather
from ...primitives.sinkhorn import prototype_sinkhorn, sinkhorn
from .._common import Gathering, GatheringLoss, check_embeddings
from .dino import dino
from .views import Prototypes, split

MOST_COPIED = 1 << 20  # logits, on a CPU


def swav(
    high_resolution: Sequence[Tensor],
    low_resolution: Sequence[Tensor] = (),
    queue: Sequence[Tensor] | None = None,
    *,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    prototypes: Prototypes | None = None,
    gather: Gather | None = None,
    impl: str = "auto",
) -> Tensor:
    """SwAV (Caron et al. 2020, arXiv:2006.09882): the mean over pairs of a high-resolution crop and
    another crop of the cross-entropy between the Sinkhorn-Knopp assignment of the first and the
    prediction of the second.

    Args:
        high_resolution: logits (B, K) of T crops, similarities with the prototypes. Their
            assignments are balanced for each crop separately, and carry no gradient.
        low_resolution: logits (B, K) of further crops, which only predict.
        queue: T tensors (Q, K), logits of earlier batches, balanced together with each crop's own.
        temperature: of the predictions.
        epsilon: temperature of the assignments.
        iterations: of Sinkhorn-Knopp, see :func:`sslkernels.sinkhorn`.
        prototypes: (K, D), or (prototypes, magnitude) under weight normalisation: then crops and
            queue are features (…, D), whose logits are never stored.
        gather: the ranks over whose crops assignments are balanced and the mean is taken.
        impl: see :func:`sslkernels.soft_cross_entropy`.

    Returns:
        The loss, a scalar in float32 (float64 for float64 inputs).

    Raises:
        TypeError, ValueError: arguments of the wrong type, dtype or shape; fewer than two crops.
    """
    high, low = _crops("high_resolution", high_resolution), _crops("low_resolution", low_resolution)
    queue = None if queue is None else _crops("queue", queue)
    check_positive(temperature=temperature, epsilon=epsilon)
    if queue is not None and len(queue) != len(high):
        raise ValueError(
            f"queue must hold logits for each of the {len(high)} high-resolution crops, "
            f"got {len(queue)}"
        )
    if not high or len(high) + len(low) < 2:
        raise ValueError(
            "high_resolution and low_resolution must hold a high-resolution crop and another one "
            f"to predict its assignment, got {len(high)} and {len(low)} crops"
        )
    check_embeddings(
        **{f"high_resolution[{i}]": x for i, x in enumerate(high)},
        **{f"low_resolution[{i}]": x for i, x in enumerate(low)},
    )
    for i, (x, past) in enumerate(zip(high, queue or [], strict=queue is not None)):
        check_embeddings(**{f"a row of high_resolution[{i}]": x[:1], f"of queue[{i}]": past[:1]})
    options: dict[str, Any] = {"gather": gather, "impl": impl}
    logits = high if queue is None else [torch.cat(x) for x in zip(high, queue, strict=True)]
    logits = [x.detach() for x in logits]
    if prototypes is not None:
        weight, magnitude = split(prototypes)
        how = {"magnitude": magnitude, **options}
        center = torch.stack(
            [prototype_sinkhorn(x, weight, epsilon, iterations, **how) for x in logits]
        )
    elif _is_cheaper_together(logits):
        center = sinkhorn(torch.stack(logits), epsilon, iterations, **options)
    else:
        center = torch.stack([sinkhorn(x, epsilon, iterations, **options) for x in logits])
    return dino(
        student=high + low,
        teacher=high,
        student_temp=temperature,
        teacher_temp=epsilon,
        center=center[:, None],
        prototypes=prototypes,
        teacher_prototypes=prototypes,
        **options,
    )


def _crops(name: str, crops: Sequence[Tensor]) -> list[Tensor]:
    if isinstance(crops, Tensor):
        check_tensors(**{name: crops})
        if crops.dim() != 3:
            raise ValueError(f"{name} must be (crops, B, K) or a list, got {tuple(crops.shape)}")
    else:
        check_sequence(name, crops)
        for x in crops:
            check_tensors(**{name: x})
    return list(crops)


def _is_cheaper_together(logits: Sequence[Tensor]) -> bool:
    """Whether one call for all crops is worth a copy of them; on a GPU it is fewer launches."""
    first = logits[0]
    if any(x.shape != first.shape or x.dtype != first.dtype for x in logits):
        return False
    return first.is_cuda or len(logits) * first.numel() <= MOST_COPIED


class SwaVLoss(GatheringLoss):
    """SwAV as a module: lightly's constructor, defaults and results (but as a scalar).

    Formula and shapes: :func:`sslkernels.functional.swav`. The training loop fills the queue, as in
    the authors' code, where it is used only after some epochs.

    Args:
        temperature, sinkhorn_iterations, sinkhorn_epsilon: temperature of the predictions,
            iterations and temperature of the assignments.
        sinkhorn_gather_distributed: balance assignments over all ranks' crops.
        gather, group, grad_scale, impl: see :class:`sslkernels.losses.GatheringLoss`.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        sinkhorn_iterations: int = 3,
        sinkhorn_epsilon: float = 0.05,
        sinkhorn_gather_distributed: bool = False,
        **gathering: Unpack[Gathering],
    ) -> None:
        super().__init__(sinkhorn_gather_distributed, **gathering)
        check_positive(temperature=temperature, sinkhorn_epsilon=sinkhorn_epsilon)
        check_integers(0, MOST_ITERATIONS, sinkhorn_iterations=sinkhorn_iterations)
        self.temperature = temperature
        self.sinkhorn_iterations, self.sinkhorn_epsilon = sinkhorn_iterations, sinkhorn_epsilon

    def forward(
        self,
        high_resolution_outputs: Sequence[Tensor],
        low_resolution_outputs: Sequence[Tensor] = (),
        queue_outputs: Sequence[Tensor] | None = None,
        *,
        prototypes: Prototypes | None = None,
    ) -> Tensor:
        """Return the loss of crops' logits, or of their features if ``prototypes`` are given."""
        return swav(
            high_resolution_outputs,
            low_resolution_outputs,
            queue_outputs,
            temperature=self.temperature,
            epsilon=self.sinkhorn_epsilon,
            iterations=self.sinkhorn_iterations,
            prototypes=prototypes,
            gather=self.gather,
            impl=self.impl,
        )
