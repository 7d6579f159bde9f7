"""Studies: small runs that each answer a question about a setting.

``python -m sslkernels.study NAME``; each study has its own file here.
"""

from . import augmentation, batch, collapse, dimension, jigsaw, projector, sigreg
from .runner import run_study
from .study import Row, Study

STUDIES: dict[str, Study] = {
    "projector": projector.STUDY,
    "batch": batch.STUDY,
    "dimension": dimension.STUDY,
    "jigsaw": jigsaw.STUDY,
    "augmentation": augmentation.STUDY,
    "collapse": collapse.STUDY,
    "sigreg": sigreg.STUDY,
}

__all__ = ["STUDIES", "Row", "Study", "run_study"]
