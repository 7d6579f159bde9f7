"""Large and small crops: SwAV, VICRegL, DINO, DINOv2, SimDINO, LeJEPA."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .view import View
from .views import Views

OTHER_STD = (0.228, 0.224, 0.225)  # of SwAV's and VICRegL's code; ImageNet's red is 0.229


@dataclass(frozen=True, kw_only=True)
class MultiCropViews(Views):
    """The fields shared by recipes of large and small crops.

    Attributes:
        global_size: side of large crops in pixels.
        local_size: side of small crops in pixels.
        global_views: number of large crops.
        local_views: number of small crops.
        global_scale: range of the large crops' fraction of the image's area.
        local_scale: range of the small crops' fraction of the image's area.
    """

    global_size: int = 224
    local_size: int = 96
    global_views: int = 2
    local_views: int = 8
    global_scale: tuple[float, float] = (0.4, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.4)


@dataclass(frozen=True, kw_only=True)
class SwAVViews(MultiCropViews):
    """SwAV (Caron et al. 2020, arXiv:2006.09882), facebookresearch/swav ``multicropdataset.py``.

    Its standard deviation of red is 0.228.
    """

    local_views: int = 6
    global_scale: tuple[float, float] = (0.14, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.14)

    @property
    def views(self) -> tuple[View, ...]:
        large = View(
            size=self.global_size, scale=self.global_scale, interpolation="bilinear",
            brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2, std=OTHER_STD,
        )  # fmt: skip
        small = replace(large, size=self.local_size, scale=self.local_scale)
        return (large,) * self.global_views + (small,) * self.local_views


@dataclass(frozen=True, kw_only=True)
class VICRegLViews(MultiCropViews):
    """VICRegL (Bardes et al. 2022, arXiv:2210.01571), facebookresearch/VICRegL ``transforms.py``.

    Blur and solarisation alternate among the large crops, and among the small ones. Its standard
    deviation of red is 0.228. The loss needs the position of each cell of the feature maps:
    :func:`sslkernels.source_coordinates` of the parameters, with grids of 7 and 3.
    """

    local_views: int = 6
    local_scale: tuple[float, float] = (0.08, 0.4)

    @property
    def views(self) -> tuple[View, ...]:
        large = self._pair(self.global_size, self.global_scale)
        small = self._pair(self.local_size, self.local_scale)
        return tuple(large[i % 2] for i in range(self.global_views)) + tuple(
            small[i % 2] for i in range(self.local_views)
        )

    @staticmethod
    def _pair(size: int, scale: tuple[float, float]) -> tuple[View, View]:
        view = View(size=size, scale=scale, saturation=0.2, std=OTHER_STD)
        return replace(view, blur=1.0), replace(view, blur=0.1, solarize=0.2)


@dataclass(frozen=True, kw_only=True)
class DINOViews(MultiCropViews):
    """DINO (Caron et al. 2021, arXiv:2104.14294), facebookresearch/dino ``main_dino.py``.

    The first large crop is always blurred, the others seldom, and sometimes solarised. For training
    without small crops its authors start ``global_scale`` at 0.14.
    """

    @property
    def views(self) -> tuple[View, ...]:
        large = View(size=self.global_size, scale=self.global_scale, saturation=0.2)
        first, other = replace(large, blur=1.0), replace(large, blur=0.1, solarize=0.2)
        small = View(size=self.local_size, scale=self.local_scale, saturation=0.2, blur=0.5)
        return (first,) + (other,) * (self.global_views - 1) + (small,) * self.local_views


@dataclass(frozen=True, kw_only=True)
class DINOv2Views(DINOViews):
    """DINOv2 (Oquab et al. 2023, arXiv:2304.07193), facebookresearch/dinov2 ``augmentations.py``.

    Its blur has a kernel of 9 pixels, cut off at 2 σ for the widest; ours is the whole Gaussian.
    """

    global_scale: tuple[float, float] = (0.32, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.32)


@dataclass(frozen=True, kw_only=True)
class SimDINOViews(DINOViews):
    """SimDINO (Wu et al. 2025, arXiv:2502.10385), RobinWu218/SimDINO ``simdino``: DINO's."""


@dataclass(frozen=True, kw_only=True)
class SimDINOv2Views(DINOViews):
    """SimDINOv2 (as above, ``simdinov2``): ten small crops."""

    local_views: int = 10


@dataclass(frozen=True, kw_only=True)
class LeJEPAViews(MultiCropViews):
    """LeJEPA (Balestriero and LeCun 2025, arXiv:2511.08544), rbalestr-lab/lejepa ``README.md``.

    All crops have the same distribution of colours, blurs and solarisation.
    """

    local_size: int = 98
    local_views: int = 6
    global_scale: tuple[float, float] = (0.3, 1.0)
    local_scale: tuple[float, float] = (0.05, 0.3)

    @property
    def views(self) -> tuple[View, ...]:
        large = View(size=self.global_size, scale=self.global_scale, saturation=0.2, solarize=0.2)
        small = replace(large, size=self.local_size, scale=self.local_scale)
        return (large,) * self.global_views + (small,) * self.local_views
