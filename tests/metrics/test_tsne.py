"""t-SNE: probabilities of neighbours by definition, and clusters that are preserved."""

import math

import pytest
import torch

from sslkernels.metrics import tsne
from sslkernels.metrics.tsne import neighbor_probabilities


@pytest.mark.parametrize("perplexity", [2.0, 10.0, 30.0])
def test_each_row_has_the_perplexity(perplexity):
    x = torch.randn(60, 5, dtype=torch.float64) * torch.logspace(-2, 2, 60)[:, None]
    squares = torch.cdist(x, x).square()
    p = neighbor_probabilities(squares, perplexity)
    assert p.sum(1) == pytest.approx(torch.ones(60).double())
    assert (p.diagonal() == 0).all()
    entropy = torch.special.entr(p).sum(1)
    assert entropy.exp() == pytest.approx(torch.full((60,), perplexity).double(), rel=1e-6)
    # Gaussian: log p is linear in the squared distance
    row, others = p[7].log(), torch.arange(60) != 7
    keep = others & (p[7] > 1e-12)
    slopes = (row[keep][1:] - row[keep][:1]) / (squares[7][keep][1:] - squares[7][keep][:1])
    assert slopes == pytest.approx(slopes[:1].expand_as(slopes), rel=1e-6) and slopes[0] < 0


def test_clusters_in_many_dimensions_are_clusters_on_the_map():
    labels = torch.arange(120) % 4
    centers = 3 * torch.eye(20)[:4]
    features = centers[labels] + 0.5 * torch.randn(120, 20)
    places = tsne(features, 15.0, steps=400)
    assert places.shape == (120, 2) and places.mean(0) == pytest.approx(torch.zeros(2), abs=1e-4)
    distances = torch.cdist(places, places).fill_diagonal_(math.inf)
    nearest = labels[distances.topk(5, largest=False).indices]
    assert (nearest == labels[:, None]).float().mean() > 0.98
    assert torch.equal(places, tsne(features, 15.0, steps=400))


@pytest.mark.parametrize(
    ("features", "options", "message"),
    [
        (torch.zeros(2, 3), {}, "n ≥ 3"),
        (torch.zeros(9, 1), {}, "at least 2 columns, got 1"),
        (torch.zeros(9, 3), {"perplexity": 8.0}, "from 1 to below 8, got 8.0"),
        (torch.zeros(9, 3), {"perplexity": 0.5}, "from 1 to below 8, got 0.5"),
        (torch.zeros(9, 3), {"perplexity": 3.0, "steps": 0}, "at least 1, got 0"),
        (torch.full((9, 3), math.nan), {"perplexity": 3.0}, "must be finite"),
    ],
)
def test_wrong_input(features, options, message):
    with pytest.raises(ValueError, match=message):
        tsne(features, **options)
