"""Supervised contrastive training with pytorch-metric-learning's SupConLoss, computed by ours."""

import torch
from pytorch_metric_learning import losses
from torch import nn

import sslkernels
from sslkernels.data import MovedDigitViews, load_digits

EPOCHS, BATCH = 2, 256
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)

patch = sslkernels.patch("pytorch_metric_learning")
print(f"computed by sslkernels: {len(patch.replaced)} names of pytorch-metric-learning")

model = nn.Sequential(
    nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
    nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64),
).to(device)  # fmt: skip
loss_function = losses.SupConLoss(temperature=0.1)  # still the package's own class
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
train, _ = load_digits(device)
loader = MovedDigitViews(train, BATCH, seed=0)

for epoch in range(EPOCHS):
    values = []
    for batch in loader:
        embeddings = model(torch.cat(batch.views))
        loss = loss_function(embeddings, batch.labels.repeat(2))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.detach())
    print(f"epoch {epoch + 1}: loss {torch.stack(values).mean().item():.3f}")

patch.undo()
