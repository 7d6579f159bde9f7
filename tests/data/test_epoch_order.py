"""The order of images: shards of ranks, seeds, and replacements of skipped images."""

import pytest
import torch

from sslkernels.data.readers import EpochOrder


def epoch(order, number=0, skipped=()):
    steps = range(number * len(order), (number + 1) * len(order))
    return torch.cat([order.batch(step, skipped) for step in steps]).tolist()


@pytest.mark.parametrize(("count", "batch_size", "world_size"), [(30, 5, 3), (32, 3, 3), (7, 7, 1)])
def test_shares_are_disjoint_and_complete_but_for_the_remainder(count, batch_size, world_size):
    orders = [
        EpochOrder(count, batch_size, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    for number in range(3):
        shares = [epoch(order, number) for order in orders]
        assert len({len(share) for share in shares}) == 1
        seen = [image for share in shares for image in share]
        assert len(set(seen)) == len(seen) == count - count % (batch_size * world_size)


def test_each_epoch_has_its_own_order_and_the_seed_decides():
    order = EpochOrder(100, 10, seed=3)
    assert epoch(order, 0) != epoch(order, 1)
    assert epoch(order, 0) == epoch(EpochOrder(100, 10, seed=3), 0)
    assert epoch(order, 0) != epoch(EpochOrder(100, 10, seed=4), 0)
    assert epoch(order, 1) != epoch(EpochOrder(100, 10, seed=4), 0)


def test_what_an_epoch_leaves_out_changes():
    order = EpochOrder(32, 10)
    left_out = {frozenset(set(range(32)) - set(epoch(order, number))) for number in range(10)}
    assert len(left_out) > 5


def test_skipped_images_are_replaced_and_nothing_else_moves():
    order = EpochOrder(40, 5, seed=1)
    whole = epoch(order)
    skipped = {whole[3], whole[17], whole[23]}
    partial = epoch(order, 0, skipped)
    assert not skipped & set(partial)
    assert [a for a, b in zip(whole, partial, strict=True) if a == b] == [
        image for image in whole if image not in skipped
    ]
    for start in range(0, 40, 5):
        assert len(set(partial[start : start + 5])) == 5


def test_replacements_come_from_the_own_share():
    order = EpochOrder(60, 5, rank=1, world_size=3)
    share = epoch(order)
    assert set(epoch(order, 0, set(share[:7]))) == set(share[7:])


def test_all_images_skipped():
    order = EpochOrder(10, 5)
    with pytest.raises(ValueError, match="none of the 10 images of rank 0 can be read"):
        order.batch(0, range(10))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, "seed must be in 0.*, got -1"),
        ({"rank": 3, "world_size": 3}, "rank must be in .*got 3 of 3"),
        ({"batch_size": 4, "world_size": 3}, "10 images do not fill a batch of 4.*3 or less"),
    ],
)
def test_wrong_numbers(arguments, message):
    with pytest.raises(ValueError, match=message):
        EpochOrder(10, **{"batch_size": 2, **arguments})
