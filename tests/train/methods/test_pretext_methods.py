"""Pretext tasks: their puzzles, and the inputs of their backbones."""

import pytest
import torch
from tiny_methods import sgd, step, tiny_batch, tiny_method

from sslkernels.data import ViewBatch
from sslkernels.data.pretext import jigsaw_permutations, rgb_to_lab
from sslkernels.train.methods.labels import generator_of, standardize


def test_random_numbers_are_torchs_own():
    assert generator_of(torch.device("cpu")) is torch.default_generator
    for name in ("rotation", "relative_patch", "jigsaw"):
        method, batch = tiny_method(name), tiny_batch(name)
        runs = []
        for seed in (1, 1, 2):
            torch.manual_seed(seed)
            runs.append(method.inputs(batch))
        assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
        assert not torch.equal(runs[0][0], runs[2][0])


def ramps(n=40):
    """Rows get brighter downwards, ten times as fast as columns to the right."""
    row, column = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    return ((10 * row + column) / 400).expand(n, 1, 32, 32)


def batch_of(images):
    return ViewBatch([images], None, torch.zeros(len(images), dtype=torch.int64), None)


def test_rotation_turns_and_does_not_flip():
    images = ramps()
    turned, labels = tiny_method("rotation").inputs(batch_of(images))
    assert set(labels.tolist()) == {0, 1, 2, 3}
    for image, label in zip(turned, labels.tolist(), strict=True):
        assert torch.equal(image, torch.rot90(images[0], label, (1, 2)))


def test_relative_patches_lie_where_the_label_says_and_their_brightness_is_gone():
    method = tiny_method("relative_patch")
    centers, neighbors, labels = method.inputs(batch_of(ramps()))
    assert centers.shape == (40, 1, 12, 12) and set(labels.tolist()) <= set(range(8))
    for patches in (centers, neighbors):
        assert patches.mean((1, 2, 3)).abs().max() < 1e-4
        assert (patches.std((1, 2, 3), correction=0) - 1).abs().max() < 1e-4
    colours = torch.rand(6, 3, 32, 32)
    kept, _, _ = tiny_method("relative_patch", data="photos").inputs(batch_of(colours))
    deviation = kept.std((2, 3)).sort(1).values
    assert (deviation[:, :2] < 0.02).all() and (deviation[:, 2] > 0.9).all()  # of one channel


def test_jigsaw_tiles_lie_in_the_order_of_the_label():
    method = tiny_method("jigsaw")
    assert torch.equal(method.orders, jigsaw_permutations(6))
    images = torch.rand(20, 1, 32, 32)
    torch.manual_seed(5)
    tiles, labels = method.inputs(batch_of(images))
    assert tiles.shape == (20, 9, 1, 8, 8) and int(labels.max()) < 6
    for image, nine, label in zip(images, tiles, labels.tolist(), strict=True):
        windows = standardize(image.unfold(1, 8, 1).unfold(2, 8, 1).movedim(0, 2))
        for tile, cell in zip(nine, method.orders[label].tolist(), strict=True):
            y, x = (windows - tile).abs().amax((2, 3, 4)).lt(1e-4).nonzero()[0].tolist()
            # the grid is shifted by up to 2 pixels, the tile by up to 2 in its cell
            assert 0 <= y - 10 * (cell // 3) <= 4 and 0 <= x - 10 * (cell % 3) <= 4


def test_an_even_patch_is_zero():
    assert torch.equal(standardize(torch.full((2, 3, 4, 4), 0.7)), torch.zeros(2, 3, 4, 4))


def test_the_backbone_of_colorization_sees_lightness_alone():
    method = tiny_method("colorization").eval()
    red, grey = torch.zeros(1, 3, 32, 32), torch.full((1, 3, 32, 32), 0.5)
    red[:, 0] = 0.8
    level = float(rgb_to_lab(red)[0, 0, 0, 0])
    levels = rgb_to_lab(torch.linspace(0, 1, 1001).expand(1, 3, 1, -1))[0, 0, 0]
    grey[:] = torch.linspace(0, 1, 1001)[(levels - level).abs().argmin()]
    torch.testing.assert_close(method.backbone(red), method.backbone(grey), rtol=1e-2, atol=1e-3)
    assert not torch.allclose(method.backbone(red), method.backbone(0.5 * grey), rtol=1e-2)
    with pytest.raises(ValueError, match="three colours, these have 1 channel"):
        method.backbone(torch.zeros(1, 1, 32, 32))


def test_colorization_counts_rare_colours_more():
    plain, rare = (tiny_method("colorization", uniform=u) for u in (1.0, 0.1))
    batch = tiny_batch("colorization")
    for method in (plain, rare):
        before = method.frequencies.clone()
        step(method, sgd(method), batch)
        labels = method.labels(*method(*batch.views)).flatten()
        shares = labels.bincount(minlength=261) / len(labels)
        torch.testing.assert_close(method.frequencies, 0.99 * before + 0.01 * shares)
    scores, colors = rare(*batch.views)
    common = int(rare.labels(scores, colors).flatten().bincount().argmax())
    rare.eval().frequencies.fill_(1e-6)[common] = 1.0  # all others are rare
    gradients = []
    for method in (plain.eval(), rare):
        free = scores.detach().requires_grad_()
        method.loss(free, colors).backward()
        is_common = method.labels(scores, colors) == common
        sizes = free.grad.abs().sum(1)
        gradients.append(sizes[is_common].mean() / sizes[~is_common].mean())
    assert gradients[1] < 0.2 * gradients[0]


def frequencies_on_rank(rank, count):
    method, batch = tiny_method("colorization"), tiny_batch("colorization")
    method.loss(*method(batch.views[0].chunk(count)[rank])).backward()
    return method.frequencies


@pytest.mark.parametrize("gang", [2], indirect=True)
def test_frequencies_are_those_of_all_ranks(gang):
    expected = frequencies_on_rank(0, 1)
    for found in gang.run(frequencies_on_rank, gang.size):
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(expected, torch.full((261,), 1 / 261))


def test_supervised_needs_enough_classes():
    method, batch = tiny_method("supervised", classes=3), tiny_batch("supervised")
    with pytest.raises(ValueError, match="got classes=3 and a label"):
        method.inputs(batch)
