import torch
from bench.peers import lightly_loss


def full(name):
    class Full(lightly_loss(name)):
        def forward(self, teacher, student, *args, **kw):
            with torch.autocast("cpu", enabled=False):
                f = lambda x: [y.float() for y in x] if isinstance(x, list) else x.float()
                return super().forward(f(teacher), f(student), *args, **kw)
    return Full


DINOLoss, IBOTPatchLoss = full("DINOLoss"), full("IBOTPatchLoss")
