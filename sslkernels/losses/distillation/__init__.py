"""Self-distillation: the student predicts the teacher's assignments to prototypes."""

from .capi import CAPILoss, capi
from .dino import DINOLoss, OfficialDINOLoss, dino
from .ibot import IBOTPatchLoss, ibot
from .koleo import KoLeoLoss, koleo
from .msn import MSNLoss, PMSNCustomLoss, PMSNLoss, msn, power_law
from .swav import SwaVLoss, swav

__all__ = [
    "CAPILoss",
    "DINOLoss",
    "IBOTPatchLoss",
    "KoLeoLoss",
    "MSNLoss",
    "OfficialDINOLoss",
    "PMSNCustomLoss",
    "PMSNLoss",
    "SwaVLoss",
    "capi",
    "dino",
    "ibot",
    "koleo",
    "msn",
    "power_law",
    "swav",
]
