"""A contrastive loss as data: the input of every implementation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor


class Contrastive(NamedTuple):
    """Queries, each with a positive and negatives.

    With logits ``s_ij = scale · ⟨q_i, k_j⟩ + bias``, a positive's logit p_i and the negatives'
    ``l_i = log Σ_j e^(s_ij)`` over all keys except those on excluded diagonals, the loss is the
    mean over the queries of

    - ``"cross_entropy"``: ``log(1 + e^(l_i − p_i))``;
    - ``"decoupled"``: ``l_i − p_i``;
    - ``"sigmoid"``: ``log(1 + e^(−p_i)) + Σ_j log(1 + e^(s_ij))``.

    Attributes:
        query: (n, d).
        other: (n, d): a second view, whose rows follow the queries'; then there are 2n queries.
        key: (m, d); None: the queries are the keys.
        positive: (n, d): row i is the positive of query i. None: the positive is the key
            ``(i + offset) mod m`` or, with labels, the mean of the other rows with the query's
            label.
        scale, bias: numbers or one-element tensors.
        labels: (n,) int64.
        weights: (n,) or None: factors of the positives' logits.
        offset: see ``positive``.
        exclude: diagonals j − i of pairs that are not negatives.
        gathers_keys: other ranks' keys are negatives too, if ranks share a batch.
        columns: also from keys to queries; the loss is the mean of both. Not with labels.
        skip_alone: the mean is over the queries whose label has other rows.
        unit_query, unit_key, unit_positive: normalise these rows first.
    """

    query: Tensor
    other: Tensor | None = None
    key: Tensor | None = None
    positive: Tensor | None = None
    scale: float | Tensor = 1.0
    bias: float | Tensor = 0.0
    labels: Tensor | None = None
    weights: Tensor | None = None
    offset: int = 0
    exclude: Sequence[int] = ()
    form: str = "cross_entropy"
    columns: bool = False
    skip_alone: bool = False
    unit_query: bool = True
    unit_key: bool = True
    unit_positive: bool = True
    gathers_keys: bool = True
