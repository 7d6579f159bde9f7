"""SimCLR in plain PyTorch: only the loss comes from sslkernels. Put in your data and network."""

import torch
from torch import nn

from sslkernels import NTXentLoss
from sslkernels.data import MovedDigitViews, load_digits, move_digits
from sslkernels.metrics import knn_accuracy

EPOCHS, BATCH, TEMPERATURE = 2, 256, 0.2
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)


def block(inputs, outputs):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()
    )


class SimCLR(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(  # or torchvision.models.resnet50 without its last layer
            block(1, 16), block(16, 32), block(32, 64), nn.AdaptiveAvgPool2d(1), nn.Flatten()
        )
        self.projector = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))

    def forward(self, images):
        return self.projector(self.backbone(images))


@torch.no_grad()
def accuracy(backbone):
    """kNN accuracy on test digits, each at a random place."""
    backbone.eval()
    found = []
    for split in load_digits(device):
        images = move_digits(split.images, torch.Generator(device).manual_seed(0))
        found += [backbone(images), split.labels]
    return knn_accuracy(*found)


train, _ = load_digits(device)
loader = MovedDigitViews(train, BATCH, seed=0)  # or a DataLoader that yields two views
model = SimCLR().to(device)
loss_function = NTXentLoss(temperature=TEMPERATURE)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
print(f"kNN accuracy of the untrained backbone: {accuracy(model.backbone):.1%}")

for epoch in range(EPOCHS):
    model.train()
    losses = []
    for batch in loader:
        view0, view1 = batch.views
        z0, z1 = model(torch.cat([view0, view1])).chunk(2)
        loss = loss_function(z0, z1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    mean = torch.stack(losses).mean().item()
    print(f"epoch {epoch + 1}: loss {mean:.3f}, kNN accuracy {accuracy(model.backbone):.1%}")
