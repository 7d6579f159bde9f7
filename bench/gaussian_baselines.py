"""Implementations of losses on random slices: each a function of views and directions.

All draw their own directions, as in training, and then use the given ones, so that results can be
compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from sslkernels import LeJEPALoss, SIGRegLoss, VISRegLoss
from sslkernels.losses import SlicedLoss

from .baseline import Baseline, Loss, everywhere
from .gaussian_cases import KNOTS, LAMBDA, MOST, VIEWS
from .peers import authors_sigreg, lightly_loss, lightly_sigreg, stable_pretraining_slices

Lines = Callable[..., Tensor]  # of views and directions


def _ours(kind: type[SlicedLoss]) -> Callable[..., Loss]:
    def load(temperature: float, impl: str = "auto") -> Loss:
        made: dict[tuple[int, torch.device], SlicedLoss] = {}

        def loss(*inputs: Tensor) -> Tensor:
            *views, directions = inputs
            key = directions.shape[1], directions.device
            if key not in made:
                made[key] = kind(num_slices=key[0], impl=impl).to(key[1])
            made[key].draw(views[0])
            return made[key](*views, directions=directions)

        return loss

    return load


def _drawing(lines: Lines) -> Loss:
    """The same loss, after a typical draw of directions."""

    def loss(*inputs: Tensor) -> Tensor:
        drawn = torch.randn_like(inputs[-1])
        drawn /= drawn.norm(dim=0)
        return lines(*inputs)

    return loss


def _sigreg(z: Tensor, directions: Tensor) -> Tensor:
    t = torch.linspace(0, MOST, KNOTS, dtype=z.dtype, device=z.device)
    normal = torch.exp(-t.square() / 2)
    weights = 2 * MOST / (KNOTS - 1) * normal
    weights[0] /= 2
    weights[-1] /= 2
    angles = (z @ directions).unsqueeze(-1) * t
    error = (angles.cos().mean(-3) - normal).square() + angles.sin().mean(-3).square()
    return (error @ weights * z.shape[-2]).mean()


def _invariance(views: Tensor, global_proj: Tensor) -> Tensor:
    return (views - global_proj.mean(0)).square().mean()


def _lejepa(global_proj: Tensor, local_proj: Tensor, directions: Tensor) -> Tensor:
    views = torch.cat([global_proj, local_proj])
    return LAMBDA * _sigreg(views, directions) + (1 - LAMBDA) * _invariance(views, global_proj)


def _visreg(global_proj: Tensor, local_proj: Tensor, directions: Tensor) -> Tensor:
    views = torch.cat([global_proj, local_proj])
    mean, deviation = views.mean(1, keepdim=True), views.std(1, correction=0, keepdim=True)
    places = torch.arange(1, views.shape[1] + 1, device=views.device) / (views.shape[1] + 1)
    targets = torch.special.ndtri(places.double()).to(views.dtype)[:, None]
    projections = ((views - mean) / (deviation.detach() + 1e-4)) @ directions
    shape = (projections.sort(1).values - targets).square().mean()
    regularizer = (1 - deviation).square().mean() + shape + mean.square().mean()
    return 0.1 * _invariance(views, global_proj) + 0.9 * regularizer


@contextmanager
def _drawn(directions: Tensor) -> Iterator[None]:
    """torch.randn draws, but then returns the given directions."""
    draw = torch.randn

    def randn(*shape: object, **options: object) -> Tensor:
        draw(*shape, **options)
        return directions.clone()

    torch.randn = randn
    try:
        yield
    finally:
        torch.randn = draw


def _peer(make: Callable[[int], nn.Module], call: Callable[..., Tensor]) -> Loss:
    """Another package's module that draws by torch.randn, constructed for a number of slices."""
    made: dict[tuple[int, torch.device], nn.Module] = {}

    def loss(*inputs: Tensor) -> Tensor:
        *views, directions = inputs
        key = directions.shape[1], directions.device
        if key not in made:
            made[key] = make(key[0]).to(key[1])
        with _drawn(directions):
            return call(made[key], *views)

    return loss


def _named(module: nn.Module, global_proj: Tensor, local_proj: Tensor) -> Tensor:
    return module(global_proj=global_proj, local_proj=local_proj)


def sigreg_authors(temperature: float) -> Loss:
    return _peer(authors_sigreg(), lambda module, z: module(z))


def sigreg_lightly(temperature: float) -> Loss:
    kind = lightly_sigreg()
    return _peer(lambda slices: kind(num_vectors=slices), lambda module, z: module(z))


def sigreg_stable_pretraining(temperature: float) -> Loss:
    kind = stable_pretraining_slices()
    return _peer(lambda slices: kind(slices), lambda module, z: sum(map(module, z)) / VIEWS)


def lejepa_authors(temperature: float) -> Loss:
    def call(module: nn.Module, global_proj: Tensor, local_proj: Tensor) -> Tensor:
        views = torch.cat([global_proj, local_proj])
        return LAMBDA * module(views) + (1 - LAMBDA) * _invariance(views, global_proj)

    return _peer(authors_sigreg(), call)


def lejepa_lightly(temperature: float) -> Loss:
    kind = lightly_loss("LeJEPALoss")
    return _peer(lambda slices: kind(LAMBDA, sigreg_num_vectors=slices), _named)


def visreg_lightly(temperature: float) -> Loss:
    kind = lightly_loss("VISRegLoss")
    return _peer(lambda slices: kind(num_slices=slices), _named)


def _all(name: str, kind: type[SlicedLoss], lines: Lines, matrices: float) -> dict[str, Baseline]:
    def compiled(temperature: float) -> Loss:
        torch._dynamo.reset()
        return _drawing(torch.compile(lines, dynamic=False))

    found = everywhere(
        name, _ours(kind), lambda _: _drawing(lines), matrices, 0, has_cuda=False, has_fused=False
    )
    return found | {"compile": Baseline(compiled, "torch.compile of eager", matrices / 2)}


BASELINES: dict[str, dict[str, Baseline]] = {
    "sigreg": _all("SIGRegLoss", SIGRegLoss, _sigreg, 5)
    | {
        "lejepa": Baseline(sigreg_authors, "lejepa's SlicingUnivariateTest of EppsPulley", 5),
        "lightly": Baseline(sigreg_lightly, "lightly.loss.lejepa_loss.SIGReg", 5),
        "stable-pretraining": Baseline(
            sigreg_stable_pretraining, "its SlicedEppsPulley, view by view", 5
        ),
    },
    "lejepa": _all("LeJEPALoss", LeJEPALoss, _lejepa, 5)
    | {
        "lejepa": Baseline(lejepa_authors, "lejepa's module, and plain torch's invariance", 5),
        "lightly": Baseline(lejepa_lightly, "lightly.loss.LeJEPALoss", 5),
    },
    "visreg": _all("VISRegLoss", VISRegLoss, _visreg, 6)
    | {"lightly": Baseline(visreg_lightly, "lightly.loss.VISRegLoss", 6)},
}
