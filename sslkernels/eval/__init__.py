"""Evaluation of a trained run: ``python -m sslkernels.eval RUN``, or the same from Python."""

from .evaluate import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
