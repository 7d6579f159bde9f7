"""The ranks that share a batch, and the way a loss gathers their embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, ParamSpec, TypeVar

import torch.distributed as dist

from .._checks import check_choice, shown

ROUTES = ("all", "ring")
GRADIENT_SCALES = ("mean", "reference")
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Gather:
    """How a loss gathers the embeddings of the other ranks.

    Ranks may hold different numbers of rows; D and dtype must agree. Where torch.distributed is
    not initialised, or the group has one rank, nothing is gathered.

    Attributes:
        route: ``"all"`` gathers the global batch on every rank, by one collective. With ``"ring"``
            blocks are sent from rank to rank while the current one is computed, and no rank ever
            holds more than three blocks. Both are exact.
        group: the ranks that share a batch, as a process group or its name; None means all ranks.
        grad_scale: ``"mean"`` gives the gradient of the global batch after
            DistributedDataParallel's mean. ``"reference"`` divides the embeddings' gradients by
            the number of ranks, as a plain all-gather without gradient does in public code
            (open_clip's defaults, for one); gradients of temperature, scale and bias are unchanged.

    Raises:
        ValueError: an unknown ``route`` or ``grad_scale``.
    """

    route: str = "all"
    group: dist.ProcessGroup | str | None = None
    grad_scale: str = "mean"

    def __post_init__(self) -> None:
        check_choice("route", self.route, ROUTES)
        check_choice("grad_scale", self.grad_scale, GRADIENT_SCALES)
        if self.group is not None and not isinstance(self.group, str):
            if not hasattr(self.group, "group_name"):
                raise TypeError(
                    f"group must be a process group or its name, got {shown(self.group)}"
                )
            object.__setattr__(self, "group", self.group.group_name)  # can be pickled


class Ranks(NamedTuple):
    """A gather over more than one rank, as operators take it."""

    route: str
    group: str  # its name
    size: int


def ranks_of(gather: Gather | None) -> Ranks | None:
    """The ranks to gather from; None if there are no others."""
    if gather is None:
        return None
    if not isinstance(gather, Gather):
        raise TypeError(f"gather must be a sslkernels.Gather or None, got {shown(gather)}")
    size, name = _size_and_name(gather.group)  # type: ignore[arg-type]
    return Ranks(gather.route, name, size) if size > 1 else None


def all_ranks() -> tuple[int, int]:
    """This process's rank and the number of ranks; (0, 1) without torch.distributed."""
    if not (dist.is_available() and dist.is_initialized()):
        return 0, 1
    return dist.get_rank(), dist.get_world_size()


def _constant(function: Callable[P, T]) -> Callable[P, T]:
    """Like torch.compiler.assume_constant_result, without importing the compiler."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@_constant
def rank_of(gather: Gather | None) -> int:
    """This rank's index in its group; 0 without other ranks."""
    ranks = ranks_of(gather)
    return 0 if ranks is None else dist.get_rank(process_group(ranks.group))


@_constant
def _size_and_name(group: str | None) -> tuple[int, str]:
    if not (dist.is_available() and dist.is_initialized()):
        return 1, ""
    ranks = dist.group.WORLD if group is None else process_group(group)
    return dist.get_world_size(ranks), ranks.group_name  # type: ignore[union-attr]


def process_group(name: str) -> dist.ProcessGroup:
    return dist.distributed_c10d._resolve_process_group(name)  # type: ignore[arg-type]
