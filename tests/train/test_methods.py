"""Methods and backbones."""

import torch
import torch.nn.functional as F
from torch import nn

from sslkernels.train.backbones import SmallResNet
from sslkernels.train.methods import SimCLR, SimCLRRecipe


def naive_nt_xent(embeddings, temperature):
    """Equation 1 of arXiv:2002.05709, pair by pair; row i and row i + n show one image."""
    count = len(embeddings) // 2
    similarity = F.cosine_similarity(embeddings[:, None], embeddings[None], dim=2) / temperature
    total = 0.0
    for i in range(2 * count):
        others = [similarity[i, j].exp() for j in range(2 * count) if j != i]
        total += (sum(others) / similarity[i, (i + count) % (2 * count)].exp()).log()
    return total / (2 * count)


def test_simclr_is_nt_xent_of_the_projected_views():
    torch.manual_seed(0)
    backbone = nn.Flatten()
    backbone.feature_size = 16
    method = SimCLR(backbone, SimCLRRecipe(temperature=0.3, hidden_size=32, embedding_size=4))
    view0, view1 = torch.randn(2, 6, 1, 4, 4)
    embeddings = torch.cat(method(view0, view1))
    loss = method.loss(*embeddings.chunk(2))
    assert embeddings.shape == (12, 4)
    torch.testing.assert_close(
        embeddings, method.projector(torch.cat([view0, view1]).flatten(1)), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(loss, naive_nt_xent(embeddings, 0.3), rtol=1e-4, atol=1e-5)


def test_every_parameter_of_simclr_learns():
    torch.manual_seed(0)
    method = SimCLR(SmallResNet(width=4), SimCLRRecipe(hidden_size=16, embedding_size=4))
    method.loss(*method(*torch.rand(2, 8, 1, 32, 32))).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())


def test_backbone_shapes_and_size():
    backbone = SmallResNet()
    assert backbone(torch.zeros(2, 1, 32, 32)).shape == (2, backbone.feature_size) == (2, 128)
    assert SmallResNet(in_channels=3)(torch.zeros(1, 3, 32, 32)).shape == (1, 128)
    assert 150_000 < sum(p.numel() for p in backbone.parameters()) < 350_000
