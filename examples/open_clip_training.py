"""A CLIP step with open_clip's names: its ClipLoss, with ours in its place.

The towers are tiny stand-ins; with open_clip take those of ``open_clip.create_model``.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

from sslkernels.compat.open_clip import ClipLoss  # in place of open_clip.ClipLoss
from sslkernels.data import MovedDigitViews, load_digits

EPOCHS, BATCH, DIM, VOCABULARY = 2, 250, 64, 10
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)


class TinyCLIP(nn.Module):
    def __init__(self):
        super().__init__()
        self.visual = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, DIM),
        )  # fmt: skip
        self.text = nn.Sequential(nn.Embedding(VOCABULARY, DIM), nn.Linear(DIM, DIM))
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images, words):
        image_features = F.normalize(self.visual(images), dim=1)
        text_features = F.normalize(self.text(words), dim=1)
        return image_features, text_features, self.logit_scale.exp()


model = TinyCLIP().to(device)
loss_function = ClipLoss()  # with rank=, world_size=: features of all ranks, right gradients
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
train, _ = load_digits(device)
loader = MovedDigitViews(train, BATCH, seed=0)

for epoch in range(EPOCHS):
    losses = []
    for batch in loader:
        image_features, text_features, logit_scale = model(batch.views[0], batch.labels)
        loss = loss_function(image_features, text_features, logit_scale)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.detach())
    print(f"epoch {epoch + 1}: loss {torch.stack(losses).mean().item():.3f}")
