"""Shared by other packages' modules of random projections: knots in buffers, a seeding step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

BUFFERS = ("t", "phi", "weights")


class Knots(nn.Module):
    """A module with the buffers ``t``, ``phi`` and ``weights`` of LeJEPA's quadrature, whose number
    of knots and range follow from the buffers, also after loading a state dict."""

    t: Tensor
    phi: Tensor
    weights: Tensor
    _knots: tuple[int, float] | None

    def keep_knots(self, knots: int, t_max: float) -> None:
        for name, value in zip(BUFFERS, _buffers(knots, t_max), strict=True):
            self.register_buffer(name, value)
        object.__setattr__(self, "_knots", (knots, t_max))

    def known_knots(self) -> tuple[int, float]:
        """The number of knots, and the end of their range.

        Raises:
            ValueError: buffers were loaded or set that are not LeJEPA's rule.
        """
        if self._knots is None:
            raise ValueError(
                "t, phi and weights must be evenly spaced knots from 0 on, e^(−t²/2), and the "
                "trapezoidal rule's weights times that"
            )
        return self._knots

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name in BUFFERS and name in self._buffers and hasattr(self, "_knots"):
            self._read()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        super()._load_from_state_dict(*arguments)
        self._read()

    def _read(self) -> None:
        """Read the knots from the buffers, if they are LeJEPA's."""
        given = [self._buffers[name] for name in BUFFERS]
        found = [x.detach().double().cpu() for x in given if x is not None and not x.is_meta]
        known = None
        if len(found) == 3 and all(x.dim() == 1 and len(x) > 1 for x in found):
            t_max = float(found[0][-1])
            if t_max > 0 and _alike(found, _buffers(len(found[0]), t_max)):
                known = len(found[0]), t_max
        object.__setattr__(self, "_knots", known)


class Step(nn.Module):
    """A module whose buffer ``global_step`` seeds the directions, drawn by a torch.Generator.

    The seed is read from the device after the buffer is set or loaded, then counted on the host.
    """

    global_step: Tensor
    _counted: tuple[int, int, int]  # id and version of the buffer, next seed

    def keep_step(self) -> None:
        self.register_buffer("global_step", torch.zeros((), dtype=torch.long))
        self._counted = 0, 0, 0

    @torch.no_grad()
    def draw(self, z: Tensor, slices: int) -> Tensor:
        """Unit columns (D, slices) for z (…, D), in its dtype; advances the step."""
        step, (buffer, version, seed) = self.global_step, self._counted
        if (buffer, version) != (id(step), step._version):
            seed = int(step)
        step.add_(1)
        self._counted = id(step), step._version, seed + 1
        generator = torch.Generator(z.device).manual_seed(seed)
        a = torch.randn(z.shape[-1], slices, device=z.device, generator=generator)
        return (a / a.norm(p=2, dim=0)).to(z.dtype)


def _buffers(knots: int, t_max: float) -> list[Tensor]:
    t = torch.linspace(0, t_max, knots, dtype=torch.float32)
    phi = torch.exp(-t.square() / 2)
    weights = torch.full((knots,), 2 * t_max / (knots - 1), dtype=torch.float32)
    weights[[0, -1]] /= 2
    return [t, phi, weights * phi]


def _alike(found: list[Tensor], expected: list[Tensor]) -> bool:
    pairs = zip(found, expected, strict=True)
    return all(
        x.shape == y.shape and torch.allclose(x, y.double(), rtol=1e-6, atol=1e-6) for x, y in pairs
    )
