"""SimCLR in Lightning: the module holds the loss, the trainer does the rest."""

import pytorch_lightning as lightning
import torch
from torch import nn

from sslkernels import NTXentLoss
from sslkernels.data import MovedDigitViews, load_digits

EPOCHS, BATCH = 2, 256


class SimCLR(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 64, 3, 2, 1), nn.BatchNorm2d(64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64),
        )  # fmt: skip
        # On several devices every rank's embeddings are negatives, with the right gradient.
        self.loss = NTXentLoss(temperature=0.2, gather_distributed=True)

    def training_step(self, batch, index):
        view0, view1 = batch.views
        loss = self.loss(self.network(view0), self.network(view1))
        self.log("loss", loss, on_epoch=True, on_step=False, prog_bar=True)
        return loss

    def on_train_epoch_end(self):
        loss = self.trainer.callback_metrics["loss"].item()
        self.print(f"epoch {self.current_epoch + 1}: loss {loss:.3f}")

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=2e-3)


class Digits(lightning.LightningDataModule):
    def train_dataloader(self):
        train, _ = load_digits()
        rank, ranks = self.trainer.global_rank, self.trainer.world_size
        return MovedDigitViews(train, BATCH // ranks, seed=0, rank=rank, world_size=ranks)


if __name__ == "__main__":
    lightning.seed_everything(0)
    trainer = lightning.Trainer(
        max_epochs=EPOCHS,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,  # the reader has this rank's share already
    )
    trainer.fit(SimCLR(), Digits())
