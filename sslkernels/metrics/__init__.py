"""Metrics of frozen features (n, d)."""

from ..losses import alignment, uniformity
from .alpha_req import PowerLaw, alpha_req, fit_power_law
from .collapse import embedding_spread
from .encode import encode
from .invariance import relative_distance
from .knn import knn_accuracy
from .lidar import lidar
from .linear_probe import LinearProbe, fit_linear_probe, linear_probe
from .principal_components import PrincipalComponents, principal_components
from .rankme import rankme
from .spectrum import covariance_eigenvalues, singular_values
from .tsne import tsne

__all__ = [
    "LinearProbe",
    "PowerLaw",
    "PrincipalComponents",
    "alignment",
    "alpha_req",
    "covariance_eigenvalues",
    "embedding_spread",
    "encode",
    "fit_linear_probe",
    "fit_power_law",
    "knn_accuracy",
    "lidar",
    "linear_probe",
    "principal_components",
    "rankme",
    "relative_distance",
    "singular_values",
    "tsne",
    "uniformity",
]
