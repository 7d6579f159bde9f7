from .api import sliced_epps_pulley
from .quadrature import Quadrature

__all__ = ["Quadrature", "sliced_epps_pulley"]
