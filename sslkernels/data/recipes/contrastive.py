"""Two views with the same distribution: SimCLR, MoCo, SimSiam."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .view import View
from .views import Views


@dataclass(frozen=True, kw_only=True)
class SimCLRViews(Views):
    """SimCLR (Chen et al. 2020, arXiv:2002.05709), google-research/simclr ``data_util.py``.

    Brightness is a factor, as in version 2 of that code (the first adds it). Its blur has a kernel
    of a tenth of the size, cut off at about 5 σ; ours is the whole Gaussian. It does not normalise;
    the defaults here are ImageNet's mean and standard deviation.

    Attributes:
        size: side of the views.
        strength: s of the colour distortion in the paper; 0.5 for CIFAR.
        blur: probability of a blur; 0 for CIFAR.
    """

    size: int = 224
    strength: float = 1.0
    blur: float = 0.5

    @property
    def views(self) -> tuple[View, ...]:
        strong, hue = 0.8 * self.strength, 0.2 * self.strength
        view = View(
            size=self.size, brightness=strong, contrast=strong, saturation=strong, hue=hue,
            blur=self.blur,
        )  # fmt: skip
        return view, view


@dataclass(frozen=True, kw_only=True)
class MoCoV1Views(Views):
    """MoCo (He et al. 2019, arXiv:1911.05722), facebookresearch/moco ``main_moco.py``.

    Grey comes before the jitter, which is always applied.
    """

    size: int = 224
    scale: tuple[float, float] = (0.2, 1.0)

    @property
    def views(self) -> tuple[View, ...]:
        view = View(
            size=self.size, scale=self.scale, interpolation="bilinear", jitter=1.0, hue=0.4,
            grayscale_first=True, blur=0.0,
        )  # fmt: skip
        return view, view


@dataclass(frozen=True, kw_only=True)
class MoCoV2Views(Views):
    """MoCo v2 (Chen et al. 2020, arXiv:2003.04297), ``main_moco.py --aug-plus``."""

    size: int = 224
    scale: tuple[float, float] = (0.2, 1.0)

    @property
    def views(self) -> tuple[View, ...]:
        view = View(size=self.size, scale=self.scale, interpolation="bilinear")
        return view, view


@dataclass(frozen=True, kw_only=True)
class SimSiamViews(MoCoV2Views):
    """SimSiam (Chen and He 2020, arXiv:2011.10566): the views of MoCo v2."""


@dataclass(frozen=True, kw_only=True)
class MoCoV3Views(Views):
    """MoCo v3 (Chen et al. 2021, arXiv:2104.02057), facebookresearch/moco-v3 ``main_moco.py``.

    Two different views, as in BYOL. ``scale`` starts at ``--crop-min``, 0.08 by default.
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)

    @property
    def views(self) -> tuple[View, ...]:
        view = View(size=self.size, scale=self.scale, interpolation="bilinear", saturation=0.2)
        return replace(view, blur=1.0), replace(view, blur=0.1, solarize=0.2)
