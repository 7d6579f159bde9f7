"""Losses of other packages, if they are installed."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch


def torchvision_transforms() -> ModuleType:
    """The module ``torchvision.transforms``. Raises ImportError if it is not installed."""
    try:
        import torchvision
    except RuntimeError:  # a torchvision without operators, which its transforms do not need
        for operator in ("nms", "qnms"):
            schema = f"torchvision::{operator}"
            torch.library.define(
                schema, "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
            )
        import torchvision
    import torchvision.transforms.v2  # noqa: F401

    return torchvision.transforms


def lightly_loss(name: str) -> type[torch.nn.Module]:
    """A class of ``lightly.loss``. Raises ImportError if it is not installed."""
    torchvision_transforms()
    import lightly.loss
    from lightly.loss.directclr_loss import DirectCLRLoss
    from lightly.loss.hypersphere_loss import HypersphereLoss

    extra = {"DirectCLRLoss": DirectCLRLoss, "HypersphereLoss": HypersphereLoss}
    return extra.get(name) or getattr(lightly.loss, name)


def lightly_sigreg() -> type[torch.nn.Module]:
    """``SIGReg``, which ``lightly.loss`` does not export. Raises ImportError like it."""
    torchvision_transforms()
    from lightly.loss.lejepa_loss import SIGReg

    return SIGReg


def authors_sigreg() -> Callable[[int], torch.nn.Module]:
    """A function from a number of slices to the module of LeJEPA's authors. Their package,
    ``lejepa``, is on no index: put a checkout on PYTHONPATH. Raises ImportError if missing."""
    from lejepa.multivariate.slicing import SlicingUnivariateTest
    from lejepa.univariate.epps_pulley import EppsPulley

    return lambda slices: SlicingUnivariateTest(EppsPulley(), slices)


def stable_pretraining_slices() -> type[torch.nn.Module]:
    """``SlicedEppsPulley``, without the models that its module imports.

    Raises ImportError if stable-pretraining is not installed.
    """
    package = importlib.util.find_spec("stable_pretraining")
    if package is None:
        raise ModuleNotFoundError("stable_pretraining is not installed")
    path = Path(package.origin).parent / "methods" / "lejepa.py"
    module = ModuleType("stable_pretraining_lejepa")
    vars(module).update(torch=torch, nn=torch.nn)
    names = {"EppsPulley", "SlicedEppsPulley"}
    body = [x for x in ast.parse(path.read_text()).body if getattr(x, "name", None) in names]
    exec(compile(ast.Module(body, []), str(path), "exec"), vars(module))
    return module.SlicedEppsPulley


def open_clip_losses() -> ModuleType:
    """The module ``open_clip.loss``, without the models and tokenizers that the package imports.

    Raises ImportError if it is not installed.
    """
    package = importlib.util.find_spec("open_clip")
    if package is None:
        raise ModuleNotFoundError("open_clip is not installed")
    path = Path(package.origin).with_name("loss.py")
    spec = importlib.util.spec_from_file_location("open_clip_loss", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
