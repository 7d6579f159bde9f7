"""Two views that differ in blur and solarisation: BYOL, Barlow Twins, VICReg."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .view import View
from .views import Views


@dataclass(frozen=True, kw_only=True)
class BYOLViews(Views):
    """BYOL (Grill et al. 2020, arXiv:2006.07733), google-deepmind/deepmind-research ``byol``.

    One view is always blurred, the other seldom blurred but sometimes solarised. (Its code adds to
    the brightness; as in later implementations, it is multiplied here.)
    """

    size: int = 224
    scale: tuple[float, float] = (0.08, 1.0)

    @property
    def views(self) -> tuple[View, ...]:
        view = View(size=self.size, scale=self.scale, saturation=0.2)
        return replace(view, blur=1.0), replace(view, blur=0.1, solarize=0.2)


@dataclass(frozen=True, kw_only=True)
class BarlowTwinsViews(BYOLViews):
    """Barlow Twins (Zbontar et al. 2021, arXiv:2103.03230), facebookresearch/barlowtwins."""


@dataclass(frozen=True, kw_only=True)
class VICRegViews(BYOLViews):
    """VICReg (Bardes et al. 2021, arXiv:2105.04906), facebookresearch/vicreg."""
