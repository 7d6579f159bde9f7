"""A loss of one's own on a primitive: InfoNCE whose positives must win by a margin.

No N × N matrix is stored, forward or backward. docs/adding_a_loss.md explains each step.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslkernels import pairwise_logsumexp


def margin_loss(a: Tensor, b: Tensor, temperature: float = 0.1, margin: float = 0.2) -> Tensor:
    """The mean over i of −log [e^p / (e^p + Σ_{j≠i} e^s_ij)], p = (⟨a_i, b_i⟩ − margin) / T."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    negatives = pairwise_logsumexp(a, b, 1 / temperature, exclude=(0,))  # (N,), without j = i
    positives = ((a * b).sum(1) - margin) / temperature
    return F.softplus(negatives - positives).mean()


def definition(a: Tensor, b: Tensor, temperature: float = 0.1, margin: float = 0.2) -> Tensor:
    """The same with the whole matrix."""
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    scores = (a @ b.T - margin * torch.eye(len(a)).to(a)) / temperature
    return F.cross_entropy(scores, torch.arange(len(a), device=a.device))


torch.manual_seed(0)
a = torch.randn(1000, 64, dtype=torch.float64)
b = a + torch.randn_like(a)

exact = definition(a, b)
value = margin_loss(a, b)
print(f"loss {value.item():.12f}, from the definition {exact.item():.12f}")
torch.testing.assert_close(value, exact, rtol=1e-12, atol=0)

small = [x[:6].clone().requires_grad_() for x in (a, b)]
assert torch.autograd.gradcheck(margin_loss, small)
print("its gradient agrees with finite differences")

embedding = torch.nn.Parameter(torch.randn(1000, 64))
optimizer = torch.optim.Adam([embedding], lr=0.05)
for step in range(100):
    loss = margin_loss(embedding, b.float())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 33 == 0:
        print(f"step {step}: loss {loss.item():.3f}")
