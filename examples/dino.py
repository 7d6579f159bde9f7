"""DINO with a fused head: the loss takes features and prototypes, and no logit is ever stored.

With 65,536 prototypes the logits of 10 crops of 64 images would take 160 MiB in float32, and as
much again for each copy that a softmax makes.
"""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from sslkernels import DINOLoss
from sslkernels.data import MovedDigitViews, load_digits

EPOCHS, BATCH, PROTOTYPES, DIM, MOMENTUM = 2, 64, 2048, 64, 0.99
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, DIM))
        self.prototypes = nn.Parameter(F.normalize(torch.randn(PROTOTYPES, DIM), dim=1))

    def forward(self, *crops):
        """Unit vectors (crops, n, DIM) of crops of one size."""
        features = self.head(self.backbone(torch.cat(crops)))
        return F.normalize(features, dim=1).unflatten(0, (len(crops), -1))


student = Network().to(device)
teacher = copy.deepcopy(student).requires_grad_(False)
loss_function = DINOLoss(PROTOTYPES, student_temp=0.1, teacher_temp=0.04).to(device)
optimizer = torch.optim.AdamW(student.parameters(), lr=5e-4)
magnitude = torch.ones(PROTOTYPES, device=device)  # weight normalisation: rows of length one
train, _ = load_digits(device)
loader = MovedDigitViews(train, BATCH, whole_views=2, local_views=2, seed=0)

for epoch in range(EPOCHS):
    losses = []
    for batch in loader:
        global_views, local_views = batch.views[:2], batch.views[2:]
        with torch.no_grad():
            targets = teacher(*global_views)
        predictions = torch.cat([student(*global_views), student(*local_views)])  # (4, n, DIM)
        loss = loss_function(
            targets,
            predictions,
            prototypes=(student.prototypes, magnitude),
            teacher_prototypes=(teacher.prototypes, magnitude),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for mean, parameter in zip(teacher.parameters(), student.parameters(), strict=True):
                mean.lerp_(parameter, 1 - MOMENTUM)
        losses.append(loss.detach())
    print(f"epoch {epoch + 1}: loss {torch.stack(losses).mean().item():.3f}")
