"""The benchmark cases of losses on random slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from .case import Case, Shape

GLOBAL, LOCAL = 2, 6  # views
VIEWS = GLOBAL + LOCAL
SLICES = 1024
KNOTS, MOST = 17, 3.0
LAMBDA = 0.05  # of lejepa
TOGETHER = 64  # slices of the exact result at a time


@dataclass(frozen=True)
class Slices:
    """Views of n rows of d features each, on m directions; ``knots`` is 0 if they are sorted."""

    n: int
    d: int
    m: int = SLICES
    knots: int = KNOTS

    def entries(self) -> int:
        """The number of angles, or of projections."""
        return VIEWS * self.n * self.m * max(1, self.knots)

    def flops(self, device: str) -> dict[str, int]:
        """Projections, then the product of their derivatives with the directions."""
        product = 2 * VIEWS * self.n * self.d * self.m
        return {"fwd": product, "bwd": product}

    def exps(self, device: str) -> dict[str, int]:
        """A sine and a cosine of each projection in each pass; those of its multiples follow."""
        pairs = VIEWS * self.n * self.m if self.knots else 0
        return {"fwd": 2 * pairs, "bwd": 2 * pairs}

    def bytes(self, dtype: torch.dtype) -> dict[str, int]:
        """Views and directions read, gradients written."""
        views, directions = VIEWS * self.n * self.d, self.d * self.m
        read = (views + directions) * dtype.itemsize
        return {"fwd": read, "bwd": read + views * dtype.itemsize}

    def describe(self, device: str) -> str:
        pairs = "; sines and cosines 16NM" if self.knots else ""
        return f"each pass: FLOPs 16NDM{pairs}"


@dataclass(frozen=True, kw_only=True)
class SlicedCase(Case):
    """``parts(*inputs)`` yields terms of the loss by slices, since all would need much memory."""

    parts: Callable[..., Iterator[Tensor]]
    has_temperature: bool = False
    more_sizes: int = 1

    def backward(self, inputs: list[Tensor], temperature: float) -> Tensor:
        total = torch.zeros((), dtype=torch.float64)
        for part in self.parts(*inputs):
            part.backward()
            total = total + part.detach().cpu()
        return total.to(inputs[0].device)


def views_and_directions(
    views: tuple[int, ...], shape: Shape, dtype: torch.dtype, device: str, temperature: float
) -> list[Tensor]:
    """Tensors with ``views`` views, and unit directions, which get no gradient."""
    n, d, m = (*shape, SLICES)[:3]
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(n, d, generator=generator)
    inputs = [0.7 * (base + torch.randn(v, n, d, generator=generator)) for v in views]
    directions = torch.randn(d, m, generator=generator)
    inputs = [x.to(device, dtype).requires_grad_() for x in inputs]
    return [*inputs, (directions / directions.norm(dim=0)).to(device, dtype)]


def _sigreg(z: Tensor, directions: Tensor, factor: float = 1.0) -> Iterator[Tensor]:
    t = torch.linspace(0, MOST, KNOTS, dtype=z.dtype, device=z.device)
    normal = torch.exp(-t.square() / 2)
    weights = 2 * MOST / (KNOTS - 1) * normal
    weights[0] /= 2
    weights[-1] /= 2
    for some in directions.split(TOGETHER, 1):
        angles = (z @ some)[..., None] * t
        error = (angles.cos().mean(-3) - normal).square() + angles.sin().mean(-3).square()
        yield factor * z.shape[-2] * (error @ weights).sum() / (len(z) * directions.shape[1])


def _invariance(global_proj: Tensor, local_proj: Tensor) -> Tensor:
    views = torch.cat([global_proj, local_proj])
    return (views - global_proj.mean(0)).square().mean()


def _lejepa(global_proj: Tensor, local_proj: Tensor, directions: Tensor) -> Iterator[Tensor]:
    yield (1 - LAMBDA) * _invariance(global_proj, local_proj)
    for views in (global_proj, local_proj):
        yield from _sigreg(views, directions, LAMBDA * len(views) / VIEWS)


def _visreg(global_proj: Tensor, local_proj: Tensor, directions: Tensor) -> Iterator[Tensor]:
    yield 0.1 * _invariance(global_proj, local_proj)
    for views in (global_proj, local_proj):
        mean = views.mean(1, keepdim=True)
        deviation = views.var(1, correction=0, keepdim=True).sqrt()
        scale = (1 - deviation).square().mean()
        yield 0.9 * len(views) / VIEWS * (scale + mean.square().mean())
        places = torch.arange(1, views.shape[1] + 1, dtype=torch.float64, device=views.device)
        targets = torch.special.ndtri(places / (len(places) + 1)).to(views.dtype)[:, None]
        for some in directions.split(TOGETHER, 1):
            standard = (views - views.mean(1, keepdim=True)) / (deviation.detach() + 1e-4)
            apart = ((standard @ some).sort(1).values - targets).square().mean((0, 1)).sum()
            yield 0.9 * len(views) / VIEWS * apart / directions.shape[1]


def _work(shape: Shape, knots: int = KNOTS) -> Slices:
    return Slices(*(*shape, SLICES)[:3], knots=knots)


SHAPES = {
    "cpu": ((256, 128), (2048, 128), (32, 64, 256)),
    "cuda": ((256, 128), (2048, 128), (256, 512), (32, 64, 256)),
    "quick": ((64, 64),),
}
MEANING = f"N rows x D features x M slices (default {SLICES:,}), {VIEWS} views"


def _case(
    parts: Callable[..., Iterator[Tensor]], *views: int, work: Callable[[Shape], Slices] = _work
) -> SlicedCase:
    return SlicedCase(
        shape_meaning=MEANING,
        shapes=SHAPES,
        make_inputs=partial(views_and_directions, views),
        work=work,
        parts=parts,
    )


CASES: dict[str, Case] = {
    "sigreg": _case(_sigreg, VIEWS),
    "lejepa": _case(_lejepa, GLOBAL, LOCAL),
    "visreg": _case(_visreg, GLOBAL, LOCAL, work=partial(_work, knots=0)),
}
