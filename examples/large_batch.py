"""A batch that does not fit: GradCache on several ranks.

    torchrun --nproc-per-node 2 examples/large_batch.py

The network sees MICRO_BATCH images at a time, the loss all images of all ranks. Parameters get the
gradient of one process with the whole batch.
"""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from sslkernels import NTXentLoss
from sslkernels.data import MovedDigitViews, load_digits
from sslkernels.train import GradCache

STEPS, BATCH, MICRO_BATCH = 6, 2000, 250  # BATCH is that of all ranks together


class TwoViews(nn.Module):  # takes all views, gives an embedding of each
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(  # group normalisation has no statistics of a micro-batch
            nn.Conv2d(1, 16, 3, 2, 1), nn.GroupNorm(8, 16), nn.ReLU(),
            nn.Conv2d(16, 64, 3, 2, 1), nn.GroupNorm(8, 64), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64),
        )  # fmt: skip

    def forward(self, view0, view1):
        return self.network(view0), self.network(view1)


def main():
    torch.manual_seed(0)
    is_cuda = torch.cuda.is_available()
    dist.init_process_group("nccl" if is_cuda else "gloo")
    rank, ranks = dist.get_rank(), dist.get_world_size()
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"])) if is_cuda else torch.device("cpu")

    model = DistributedDataParallel(TwoViews().to(device))
    loss_function = NTXentLoss(0.2, gather="ring")  # no rank holds the global batch
    step = GradCache(model, loss_function, MICRO_BATCH)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    train, _ = load_digits(device)
    loader = MovedDigitViews(train, BATCH // ranks, seed=0, rank=rank, world_size=ranks)

    done = 0
    while done < STEPS:
        for batch in loader:
            optimizer.zero_grad()
            loss, _ = step(*batch.views[:2])  # forward and backward
            optimizer.step()
            dist.all_reduce(loss)
            done += 1
            if rank == 0:
                print(f"step {done}: loss {loss.item() / ranks:.3f}", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
