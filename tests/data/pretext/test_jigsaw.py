"""Jigsaw: permutations far apart, and labels that undo the shuffle."""

import pytest
import torch

from sslkernels.data.pretext import jigsaw, jigsaw_permutations


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def distances(permutations):
    return (permutations[:, None] != permutations).sum(-1)


def test_permutations_are_distinct_and_far_apart():
    permutations = jigsaw_permutations(100)
    assert torch.equal(permutations.sort(1).values, torch.arange(9).expand(100, 9))
    apart = distances(permutations).fill_diagonal_(9)
    # Nine can differ everywhere, as the rows of a Latin square; 72 can differ in 8 of 9 places.
    assert apart[:9, :9].min() == 9
    assert apart.min() >= 6
    random = torch.rand(100, 9, generator=generator()).argsort(1)
    assert apart.min() > distances(random).fill_diagonal_(9).min()


def test_each_permutation_is_the_farthest_there_was():
    from itertools import permutations

    everything = torch.tensor(list(permutations(range(9))), dtype=torch.int8)
    chosen = jigsaw_permutations(20).to(torch.int8)
    to_all = torch.stack([(everything != p).sum(1) for p in chosen])  # (20, 362880)
    for number in range(1, 20):
        least, total = to_all[:number].amin(0), to_all[:number].sum(0)
        own = (everything == chosen[number]).all(1).nonzero().item()
        assert least[own] == least.max()
        assert total[own] == total[least == least.max()].max()


def test_the_seed_decides_and_a_smaller_set_is_a_part():
    assert torch.equal(jigsaw_permutations(30), jigsaw_permutations(100)[:30])
    assert not torch.equal(jigsaw_permutations(30), jigsaw_permutations(30, seed=1))


def ramps(count, side=255):
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([rows, columns, 0 * rows]).byte().expand(count, 3, side, side)


def test_labels_say_which_tile_lies_where():
    permutations = jigsaw_permutations(100)
    tiles, labels = jigsaw(ramps(500), permutations, generator())
    assert tiles.shape == (500, 9, 3, 64, 64) and tiles.dtype == torch.uint8
    corner = tiles[:, :, :2, 0, 0].int()  # (N, 9, row and column)
    cells = corner // 85
    assert torch.equal(3 * cells[..., 0] + cells[..., 1], permutations[labels].int())
    within = corner - 85 * cells
    assert within.min() == 0 and within.max() == 85 - 64
    across = torch.arange(64)
    assert torch.equal(
        tiles[:, :, 0].int(), (corner[..., :1] + across)[..., None].expand(-1, -1, -1, 64)
    )
    assert len(labels.unique()) > 95


def test_grids_lie_anywhere():
    tiles, _ = jigsaw(ramps(2000, side=250), jigsaw_permutations(10), generator(), cell=20, tile=10)
    corner = tiles[:, :, :2, 0, 0].int()
    assert corner.amin((0, 1)).tolist() == [0, 0] and (corner.amax((0, 1)) >= 238).all()


def test_any_dtype_and_number_of_channels():
    images, permutations = torch.rand(20, 1, 32, 32), jigsaw_permutations(6)
    tiles, labels = jigsaw(images, permutations, generator(), cell=10, tile=8)
    assert tiles.shape == (20, 9, 1, 8, 8) and tiles.dtype == torch.float32
    colours = (images.expand(-1, 3, -1, -1) * 255).byte()
    same, same_labels = jigsaw(colours, permutations, generator(), cell=10, tile=8)
    assert torch.equal(labels, same_labels) and torch.equal((tiles * 255).byte(), same[:, :, :1])


def test_the_generator_decides():
    images = torch.randint(256, (6, 3, 255, 255), dtype=torch.uint8)
    permutations = jigsaw_permutations(10)
    first, same, other = (jigsaw(images, permutations, generator(s))[0] for s in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)


def test_wrong_input():
    with pytest.raises(ValueError, match="count must be in 1..362880, got 0"):
        jigsaw_permutations(0)
    with pytest.raises(ValueError, match=r"permutations must be \(P, 9\), got \(4, 8\)"):
        jigsaw(ramps(1), torch.zeros(4, 8, dtype=torch.int64), generator())
    with pytest.raises(ValueError, match="at least 255 pixels a side"):
        jigsaw(ramps(1, side=254), jigsaw_permutations(10), generator())
    with pytest.raises(ValueError, match="tile must be at most cell, got 90 and 85"):
        jigsaw(ramps(1), jigsaw_permutations(10), generator(), tile=90)
