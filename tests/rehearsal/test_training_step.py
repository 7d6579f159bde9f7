"""The loop's work between a loss and the next step does not wait for the device."""

import pytest
import torch
from small_run import small_batches, small_method, small_recipe
from steps import no_wait

from sslkernels.train.buffers import Buffers, FiniteBuffers
from sslkernels.train.loop import _over_ranks
from sslkernels.train.optimizers import make_optimizer, set_schedule
from sslkernels.train.step import forward_backward, gradient_norm, update


@pytest.mark.parametrize("overrides", [(), ("clip=1", "optimizer=lars")])
def test_steps_are_checked_without_waiting(overrides):
    recipe = small_recipe("moco_v2", "queue_size=64", *overrides)
    views = [view.cuda() for view in next(iter(small_batches(recipe))).views]
    method = small_method("moco_v2", recipe).cuda().train()
    optimizer = make_optimizer(method, recipe, can_skip=True)
    scaler = torch.amp.GradScaler("cuda", enabled=recipe.precision == "float16")
    watch = FiniteBuffers(method)  # before training, where it may wait
    for step in range(2):
        set_schedule(optimizer, recipe, step, 4)
        if step == 0:  # the first step makes one-time copies to the device
            forward_backward(method, method, views, recipe, scaler)
            continue
        with no_wait():
            before = Buffers(method)
            loss, _ = forward_backward(method, method, views, recipe, scaler)
            norm = gradient_norm(method, optimizer, scaler)
            own = torch.stack([x.double() for x in (loss, norm, watch.largest(loss))])
            numbers = _over_ranks(own, 0)
            update(method, optimizer, scaler, recipe.clip, norm, ~numbers[:3].isfinite().all())
            before.restore()
        assert numbers.is_cuda and numbers.shape == (4,)
