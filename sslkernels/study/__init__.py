"""The cookbook's knobs, turned: small runs that answer a question each.

``python -m sslkernels.study NAME``; a study is a file of its own here.
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
