"""VICReg in plain PyTorch, on a folder of images.

python examples/vicreg.py FOLDER    # one subfolder per class; default: handwritten digits
"""

import sys
import tempfile

import torch
from torch import nn

from sslkernels import VICRegLoss
from sslkernels.data import VICRegViews, image_folder, view_reader, write_digits

EPOCHS, BATCH, SIZE, WIDTH = 2, 256, 32, 512
device = "cuda" if torch.cuda.is_available() else "cpu"
torch.manual_seed(0)

with tempfile.TemporaryDirectory() as temporary:
    folder = sys.argv[1] if sys.argv[1:] else write_digits(temporary + "/digits") / "train"
    # Files are decoded by DALI where it is installed, by PIL elsewhere; views are fused kernels.
    loader = view_reader(image_folder(folder), BATCH, VICRegViews(size=SIZE), device=device, seed=0)

    backbone = nn.Sequential(  # or torchvision.models.resnet50 without its last layer
        nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(),
        nn.Conv2d(32, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    expander = nn.Sequential(
        nn.Linear(64, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH)
    )
    model = nn.Sequential(backbone, expander).to(device)
    loss_function = VICRegLoss(lambda_param=25.0, mu_param=25.0, nu_param=1.0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)

    for epoch in range(EPOCHS):
        losses = []
        for batch in loader:
            view0, view1 = batch.views
            loss = loss_function(model(view0), model(view1))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        print(f"epoch {epoch + 1}: loss {torch.stack(losses).mean().item():.3f}")
