"""The linear probe: accuracy of a linear classifier of frozen features."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .._checks import check_integers, check_not_negative
from .._operator import accumulation_dtype
from ._checks import check_features, check_finite, check_pair, checked_labels

CHUNK_SIZE = 16384
REGULARIZATION = 1e-3
ITERATIONS = 100
MOST_CLASSES = 1_000_000


class LinearProbe(NamedTuple):
    """A linear classifier of standardised features.

    Attributes:
        weight: (classes, d) float32, of the standardised features.
        bias: (classes,) float32.
        mean: (d,) float32, subtracted from features.
        scale: (d,) float32, by which the difference is divided.
    """

    weight: Tensor
    bias: Tensor
    mean: Tensor
    scale: Tensor

    def logits(self, features: Tensor) -> Tensor:
        """Logits (n, classes) of features (n, d)."""
        check_features("features", features)
        if features.shape[1] != len(self.mean):
            raise ValueError(
                f"features must be (n, {len(self.mean)}), got shape {tuple(features.shape)}"
            )
        standardized = (features.to(self.weight.dtype) - self.mean) / self.scale
        return F.linear(standardized, self.weight, self.bias)

    @torch.no_grad()
    def accuracy(self, features: Tensor, labels: Tensor) -> float:
        """The accuracy on features (n, d) with labels (n,)."""
        check_features("features", features)
        labels = checked_labels("labels", labels, features)
        chunks = zip(features.split(CHUNK_SIZE), labels.split(CHUNK_SIZE), strict=True)
        right = sum((self.logits(x).argmax(1) == y).sum() for x, y in chunks)
        return int(right) / len(features)


def linear_probe(
    train_features: Tensor,
    train_labels: Tensor,
    test_features: Tensor,
    test_labels: Tensor,
    regularization: float = REGULARIZATION,
    *,
    iterations: int = ITERATIONS,
) -> float:
    """Accuracy on the test features of a linear classifier fitted to the training features.

    See :func:`sslkernels.metrics.fit_linear_probe` for the classifier.

    Args:
        train_features: (n, d) floating point.
        train_labels: (n,) integers, classes 0, 1, …
        test_features: (m, d), on the same device.
        test_labels: (m,), likewise.
        regularization, iterations: see :func:`sslkernels.metrics.fit_linear_probe`.

    Returns:
        The accuracy, in [0, 1].

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit, a set is empty, a feature is not finite,
            or a number is out of range.
    """
    check_features("test_features", test_features)
    check_finite("test_features", test_features)
    test_labels = checked_labels("test_labels", test_labels, test_features)
    check_features("train_features", train_features)
    check_pair(train_features, test_features)
    probe = fit_linear_probe(
        train_features, train_labels, regularization=regularization, iterations=iterations
    )
    return probe.accuracy(test_features, test_labels)


def fit_linear_probe(
    features: Tensor,
    labels: Tensor,
    *,
    regularization: float = REGULARIZATION,
    iterations: int = ITERATIONS,
) -> LinearProbe:
    """Softmax regression on standardised features, to its optimum.

    Minimises ``mean cross-entropy + regularization / 2 · ‖W‖²`` over weights W and unregularised
    biases, by full-batch L-BFGS from zero. The problem is convex, so the result does not depend on
    a learning rate, a schedule or a seed. Features are standardised by their own mean and standard
    deviation; those that are constant up to rounding become 0.

    Args:
        features: (n, d) floating point; computed in float32, or float64 if they are.
        labels: (n,) integers, classes 0, 1, …, at most a million.
        regularization: at least 0.
        iterations: maximum number of L-BFGS iterations; fewer if the gradient vanishes.

    Raises:
        TypeError, ValueError: shapes or dtypes do not fit, there are no features, one is not
            finite, or a number is out of range.
    """
    check_features("train_features", features)
    check_finite("train_features", features)
    labels = checked_labels("train_labels", labels, features)
    if int(labels.max()) >= MOST_CLASSES:
        raise ValueError(
            f"train_labels must be classes below {MOST_CLASSES}, got {int(labels.max())}"
        )
    check_not_negative(regularization=regularization)
    check_integers(1, iterations=iterations)
    regularization, iterations = float(regularization), int(iterations)
    features = features.detach().to(accumulation_dtype(features))
    mean, scale = _moments(features)
    classes = int(labels.max()) + 1
    weight = features.new_zeros(classes, features.shape[1]).requires_grad_()
    bias = features.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=iterations, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def objective() -> Tensor:
        optimizer.zero_grad()
        total = regularization / 2 * weight.square().sum()
        total.backward()
        probe = LinearProbe(weight, bias, mean, scale)
        for x, y in zip(features.split(CHUNK_SIZE), labels.split(CHUNK_SIZE), strict=True):
            loss = F.cross_entropy(probe.logits(x), y, reduction="sum") / len(features)
            loss.backward()  # chunk by chunk: the (n, classes) logits are never stored
            total = total.detach() + loss.detach()
        return total

    with torch.enable_grad():
        optimizer.step(objective)
    return LinearProbe(weight.detach(), bias.detach(), mean, scale)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (d,); 1 for features that are constant up to rounding."""
    mean = features.mean(0, dtype=torch.float64)
    squares = sum((x - mean).square().sum(0) for x in features.split(CHUNK_SIZE))
    deviation = (squares / len(features)).sqrt()
    rounding = torch.finfo(features.dtype).eps * features.abs().amax(0)
    scale = torch.where(deviation > rounding, deviation, 1.0)
    return mean.to(features.dtype), scale.to(features.dtype)
