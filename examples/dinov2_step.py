"""One DINOv2 step with the names of dinov2's own code: class tokens, masked patches and KoLeo.

The backbone is a stand-in that returns a class token and patch tokens; the loss part is what
``dinov2/train/ssl_meta_arch.py`` does, with its three losses imported from here.
"""

import copy

import torch
from torch import nn

from sslkernels.compat.dinov2 import DINOLoss, KoLeoLoss, iBOTPatchLoss
from sslkernels.data import MovedDigitViews, load_digits

STEPS, BATCH, PATCH, DIM, PROTOTYPES, MOMENTUM, TEACHER_TEMPERATURE = (
    40,
    64,
    8,
    64,
    1024,
    0.99,
    0.07,
)
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)


class Backbone(nn.Module):
    """(n, 1, 32, 32) images to tokens (n, 1 + 16, DIM), the first of which stands for the image."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Conv2d(1, DIM, PATCH, PATCH)
        self.class_token = nn.Parameter(torch.randn(1, 1, DIM) * 0.02)
        self.mask_token = nn.Parameter(torch.zeros(DIM))
        self.position = nn.Parameter(torch.randn(1, 17, DIM) * 0.02)
        self.layer = nn.TransformerEncoderLayer(DIM, 4, 2 * DIM, 0.0, "gelu", batch_first=True)

    def forward(self, images, mask=None):
        patches = self.embed(images).flatten(2).mT
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token, patches)
        tokens = torch.cat([self.class_token.expand(len(images), -1, -1), patches], dim=1)
        return self.layer(tokens + self.position)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = Backbone()
        self.class_head = nn.Sequential(nn.Linear(DIM, DIM), nn.GELU(), nn.Linear(DIM, PROTOTYPES))
        self.patch_head = nn.Sequential(nn.Linear(DIM, DIM), nn.GELU(), nn.Linear(DIM, PROTOTYPES))


student = Network().to(device)
teacher = copy.deepcopy(student).requires_grad_(False)
dino_loss = DINOLoss(PROTOTYPES).to(device)
ibot_loss, koleo_loss = iBOTPatchLoss(PROTOTYPES).to(device), KoLeoLoss()
optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3)
train, _ = load_digits(device)
values = []

for _, batch in zip(range(STEPS), MovedDigitViews(train, BATCH, seed=0), strict=False):
    images = torch.cat(batch.views)  # two global views
    mask = torch.rand(len(images), 16, device=device) < 0.3
    with torch.no_grad():
        tokens = teacher.backbone(images)
        logits = teacher.class_head(tokens[:, 0])
        patch_logits = teacher.patch_head(tokens[:, 1:][mask])
        targets = dino_loss.sinkhorn_knopp_teacher(logits, TEACHER_TEMPERATURE)
        patch_targets = ibot_loss.sinkhorn_knopp_teacher(
            patch_logits, TEACHER_TEMPERATURE, n_masked_patches_tensor=mask.sum()[None]
        )
    tokens = student.backbone(images, mask)
    predictions = student.class_head(tokens[:, 0]).chunk(2)
    patch_predictions = student.patch_head(tokens[:, 1:][mask])
    loss = (
        dino_loss(predictions, targets.chunk(2)[::-1])  # each view predicts the other
        + ibot_loss.forward_masked(patch_predictions, patch_targets, mask)
        + 0.1 * sum(koleo_loss(view) for view in tokens[:, 0].chunk(2))
    )
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.no_grad():
        for mean, parameter in zip(teacher.parameters(), student.parameters(), strict=True):
            mean.lerp_(parameter, 1 - MOMENTUM)
    values.append(loss.detach())

first, last = torch.stack(values[:10]).mean().item(), torch.stack(values[-10:]).mean().item()
print(f"first ten steps: loss {first:.3f}; last ten steps: loss {last:.3f}")
