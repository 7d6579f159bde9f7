"""A measured implementation, and the implementations common to all operations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sslkernels._ext import extension

Loss = Callable[..., Tensor]
Load = Callable[[float], Loss]


@dataclass(frozen=True)
class Baseline:
    """``load(temperature)`` returns the loss, or raises ImportError if it cannot run."""

    load: Load
    about: str
    matrices: float = 0  # peak memory, in units of the matrix of all scores
    devices: tuple[str, ...] = ("cpu", "cuda")


def everywhere(
    name: str,
    ours: Callable[[float, str], Loss],
    eager: Load,
    eager_matrices: float,
    compiled_matrices: float,
    has_cuda: bool = True,
    has_fused: bool = True,
) -> dict[str, Baseline]:
    """The implementations measured for every operation."""

    def cuda(temperature: float) -> Loss:
        try:
            extension(cuda=True)
        except RuntimeError as error:
            raise ImportError("not built with CUDA") from error
        return ours(temperature, "cuda")

    def compiled(temperature: float) -> Loss:
        torch._dynamo.reset()
        return torch.compile(eager(temperature), dynamic=False)

    baselines = {
        "ours": Baseline(partial(ours, impl="auto"), f"sslkernels.{name}"),
        "fused": Baseline(
            partial(ours, impl="triton"),
            "ours with impl='triton': one operator, not yet the default",
            devices=("cuda",),
        ),
        "tiled": Baseline(partial(ours, impl="tiled"), "ours with impl='tiled': plain torch"),
        "cuda": Baseline(cuda, "ours with impl='cuda'", devices=("cuda",)),
        "eager": Baseline(eager, "plain torch, all scores at once", eager_matrices),
        "compile": Baseline(compiled, "torch.compile of eager", compiled_matrices),
    }
    if not has_cuda:
        del baselines["cuda"]
    if not has_fused:
        del baselines["fused"]
    return baselines
