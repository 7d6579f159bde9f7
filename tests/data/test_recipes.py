"""The settings of recipes, and torchvision's distributions for draws from them."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image
from scipy import stats
from views_inputs import natural_images
from views_oracle import transforms

from sslkernels import RaggedImages, augment_views
from sslkernels.data import View, draw_parameters, load_views, make_views, recipes
from sslkernels.primitives.augment_views.parameters import Parameters

COUNT = 4000
LIKELY = 1e-4  # p-value below which a correct sampler falls once in 10,000; seeds are fixed


def drawn(view, height=400, width=500, count=COUNT, seed=0):
    sizes = torch.tensor([[height, width]]).expand(count, 2)
    return Parameters.of(draw_parameters([view], sizes, torch.Generator().manual_seed(seed))[0])


def assert_same_distribution(ours, theirs):
    assert stats.ks_2samp(ours.numpy(), torch.as_tensor(theirs).numpy()).pvalue > LIKELY


def assert_frequency(found, probability):
    count = len(found)
    expected = [count * probability, count * (1 - probability)]
    if 0 in expected:
        assert found.double().mean() == probability
    else:
        happened = int(found.sum())
        assert stats.chisquare([happened, count - happened], expected).pvalue > LIKELY


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.2, 1.0), (0.05, 0.14)], ids=str)
@pytest.mark.parametrize("size", [(400, 500), (500, 400), (37, 900), (900, 37), (9, 7)], ids=str)
def test_crops_are_distributed_as_torchvisions(scale, size):
    ours = drawn(View(scale=scale), *size)
    torch.manual_seed(0)
    picture = Image.new("RGB", size[::-1])
    sampler = transforms.RandomResizedCrop.get_params
    theirs = torch.tensor(
        [sampler(picture, list(scale), [3 / 4, 4 / 3]) for _ in range(COUNT)]
    ).float()
    for index, name in enumerate(("top", "left", "height", "width")):
        assert_same_distribution(getattr(ours, name), theirs[:, index])
    assert_same_distribution(ours.height * ours.width, theirs[:, 2] * theirs[:, 3])
    assert_same_distribution(ours.height / ours.width, theirs[:, 2] / theirs[:, 3])


@pytest.mark.parametrize("size, box", [
    ((10, 1000), (0, 493, 10, 13)), ((1000, 10), (493, 0, 13, 10)), ((1, 1), (0, 0, 1, 1)),
])  # fmt: skip
def test_where_no_crop_fits_it_is_central(size, box):
    ours = drawn(View(scale=(1.0, 1.0)), *size, count=50)
    assert (torch.stack(ours[:4], 1) == torch.tensor(box)).all()


def test_crops_lie_in_their_images():
    sizes = torch.randint(1, 60, (3000, 2))
    views = [View(scale=(low, 1.0)) for low in (0.001, 0.08, 0.9)]
    p = Parameters.of(draw_parameters(views, sizes, torch.Generator().manual_seed(0)))
    for x in p[:4]:
        assert torch.equal(x, x.round())
    assert (p.top >= 0).all() and (p.left >= 0).all() and (p.height > 0).all()
    assert (p.width > 0).all() and (p.top + p.height <= sizes[:, 0]).all()
    assert (p.left + p.width <= sizes[:, 1]).all()


@pytest.mark.parametrize("strength", [0.4, 0.8, 1.5])
def test_jitter_is_distributed_as_torchvisions(strength):
    amounts = dict.fromkeys(("brightness", "contrast", "saturation"), strength)
    ours = drawn(View(jitter=1.0, hue=0.2, **amounts))
    sampler = transforms.ColorJitter(strength, strength, strength, 0.2)
    torch.manual_seed(0)
    ranges = sampler.brightness, sampler.contrast, sampler.saturation, sampler.hue
    draws = [sampler.get_params(*ranges) for _ in range(COUNT)]
    for index, name in enumerate(("brightness", "contrast", "saturation", "hue")):
        assert_same_distribution(getattr(ours, name), [draw[1 + index] for draw in draws])
    counts = torch.stack([ours.order.long() >> 2 * i & 3 for i in range(4)], 1).unique(
        dim=0, return_counts=True
    )[1]
    assert len(counts) == 24 and stats.chisquare(counts.numpy()).pvalue > LIKELY


@pytest.mark.parametrize("recipe", recipes.RECIPES, ids=lambda recipe: recipe.__name__)
def test_probabilities_and_ranges(recipe):
    for index, view in enumerate(dict.fromkeys(recipe().views)):
        p = drawn(view, seed=index)
        assert_frequency(p.flip == 1, view.flip)
        assert_frequency(p.brightness != 1, view.jitter)
        assert_frequency(p.grayscale > 0, view.grayscale)
        assert_frequency(p.sigma > 0, view.blur)
        assert_frequency(p.solarize < 256, view.solarize)
        assert set(p.grayscale.tolist()) <= {0.0, 2.0 if view.grayscale_first else 1.0}
        assert set(p.solarize.tolist()) <= {256.0, float(view.solarize_threshold)}
        assert torch.equal(p.hue != 0, p.brightness != 1) or view.hue == 0
        if view.blur:
            low, high = view.sigma
            sigma = p.sigma[p.sigma > 0].numpy()
            assert stats.kstest(sigma, "uniform", (low, high - low)).pvalue > LIKELY


def test_views_and_images_are_independent():
    views = recipes.DINOViews(local_views=2).views
    sizes = torch.tensor([[400, 500]]).expand(COUNT, 2)
    parameters = draw_parameters(views, sizes, torch.Generator().manual_seed(0))
    columns = parameters.permute(0, 2, 1).reshape(-1, COUNT).double()  # each number of each view
    varied = columns[columns.std(1) > 0]
    correlation = torch.corrcoef(varied)
    owner = torch.arange(len(views)).repeat_interleave(parameters.shape[2])[columns.std(1) > 0]
    between = correlation[owner[:, None] != owner[None, :]]
    assert between.abs().max() < 5.5 / COUNT**0.5
    neighbours = torch.corrcoef(torch.cat([varied[:, :-1], varied[:, 1:]]))
    shifted = neighbours[: len(varied), len(varied) :]
    assert shifted.abs().max() < 5.5 / COUNT**0.5


def test_the_same_state_gives_the_same_parameters():
    views, sizes = recipes.SimCLRViews().views, torch.tensor([[40, 50]] * 7)
    generator = torch.Generator().manual_seed(5)
    first = draw_parameters(views, sizes, generator)
    second = draw_parameters(views, sizes, generator)
    assert not torch.equal(first, second)
    assert torch.equal(first, draw_parameters(views, sizes, generator.manual_seed(5)))


@pytest.mark.parametrize("recipe", recipes.RECIPES, ids=lambda recipe: recipe.__name__)
def test_a_recipe_is_data(recipe):
    one = recipe()
    assert one == recipe() and hash(one) == hash(recipe()) and recipe.__name__ in repr(one)
    field = "global_size" if hasattr(one, "global_size") else "size"
    other = replace(one, **{field: 64})
    assert other != one and other.views[0].size == 64
    state = json.loads(json.dumps(other.state_dict()))
    assert load_views(state) == other and type(load_views(state)) is recipe


def test_published_numbers():
    def row(view):
        jitter = view.jitter, view.brightness, view.contrast, view.saturation, view.hue
        return view.size, view.scale, view.interpolation, jitter, view.blur, view.solarize

    common = (0.8, 0.4, 0.4, 0.2, 0.1)
    strong = (0.8, 0.8, 0.8, 0.8, 0.2)
    expected = {
        "SimCLRViews": [(224, (0.08, 1.0), "bicubic", strong, 0.5, 0.0)] * 2,
        "MoCoV1Views": [(224, (0.2, 1.0), "bilinear", (1.0, 0.4, 0.4, 0.4, 0.4), 0.0, 0.0)] * 2,
        "MoCoV2Views": [(224, (0.2, 1.0), "bilinear", (0.8, 0.4, 0.4, 0.4, 0.1), 0.5, 0.0)] * 2,
        "MoCoV3Views": [
            (224, (0.08, 1.0), "bilinear", common, 1.0, 0.0),
            (224, (0.08, 1.0), "bilinear", common, 0.1, 0.2),
        ],
        "SwAVViews": [(224, (0.14, 1.0), "bilinear", strong, 0.5, 0.0)] * 2
        + [(96, (0.05, 0.14), "bilinear", strong, 0.5, 0.0)] * 6,
        "VICRegLViews": [
            (224, (0.4, 1.0), "bicubic", common, 1.0, 0.0),
            (224, (0.4, 1.0), "bicubic", common, 0.1, 0.2),
        ]
        + [
            (96, (0.08, 0.4), "bicubic", common, 1.0, 0.0),
            (96, (0.08, 0.4), "bicubic", common, 0.1, 0.2),
        ]
        * 3,
        "DINOViews": [
            (224, (0.4, 1.0), "bicubic", common, 1.0, 0.0),
            (224, (0.4, 1.0), "bicubic", common, 0.1, 0.2),
        ]
        + [(96, (0.05, 0.4), "bicubic", common, 0.5, 0.0)] * 8,
        "DINOv2Views": [
            (224, (0.32, 1.0), "bicubic", common, 1.0, 0.0),
            (224, (0.32, 1.0), "bicubic", common, 0.1, 0.2),
        ]
        + [(96, (0.05, 0.32), "bicubic", common, 0.5, 0.0)] * 8,
        "LeJEPAViews": [(224, (0.3, 1.0), "bicubic", common, 0.5, 0.2)] * 2
        + [(98, (0.05, 0.3), "bicubic", common, 0.5, 0.2)] * 6,
    }
    expected["SimSiamViews"] = expected["MoCoV2Views"]
    asymmetric = [
        (224, (0.08, 1.0), "bicubic", common, 1.0, 0.0),
        (224, (0.08, 1.0), "bicubic", common, 0.1, 0.2),
    ]
    expected |= dict.fromkeys(("BYOLViews", "BarlowTwinsViews", "VICRegViews"), asymmetric)
    expected["SimDINOViews"] = expected["DINOViews"]
    expected["SimDINOv2Views"] = expected["DINOViews"] + expected["DINOViews"][-1:] * 2
    assert {r.__name__: [row(v) for v in r().views] for r in recipes.RECIPES} == expected
    stds = {r.__name__ for r in recipes.RECIPES if r().views[0].std[0] == 0.228}
    assert stds == {"SwAVViews", "VICRegLViews"}
    assert all(view.grayscale_first for view in recipes.MoCoV1Views().views)


def test_views_come_in_the_recipes_order():
    images = RaggedImages.of(natural_images())
    recipe = recipes.DINOViews(global_size=48, local_size=32, local_views=2)
    views = recipe.views[:1] + recipe.views[2:] + recipe.views[1:2]
    made, parameters = make_views(images, views, torch.Generator().manual_seed(0))
    assert [view.shape[-1] for view in made] == [48, 32, 32, 48]
    sizes = images.sizes
    again = draw_parameters(views, sizes, torch.Generator().manual_seed(0))
    assert torch.equal(parameters, again)
    for view, row, ours in zip(views, parameters, made, strict=True):
        expected = augment_views(images, row[None], size=view.size)[0]
        assert torch.equal(ours, expected) and ours.is_contiguous()
    from_recipe = make_views(images, recipe, torch.Generator().manual_seed(0), dtype=torch.float16)
    assert [view.dtype for view in from_recipe[0]] == [torch.float16] * 4


def test_images_of_one_channel():
    digits = torch.randint(0, 256, (5, 28, 28, 1), dtype=torch.uint8)
    recipe = recipes.SimCLRViews(size=32, strength=0.5)
    views, parameters = make_views(digits, recipe, torch.Generator().manual_seed(0))
    assert [view.shape for view in views] == [(5, 1, 32, 32)] * 2
    assert parameters.shape == (2, 5, 13)


@pytest.mark.parametrize("arguments, error, words", [
    (([], torch.ones(2, 2).long()), ValueError, "at least one View"),
    (([View()], torch.ones(2, 2)), TypeError, "integers"),
    (([View()], torch.ones(2, 3).long()), ValueError, r"\(N, 2\), got \(2, 3\)"),
    (([View()], torch.ones(2, 2, device="meta").long()), ValueError, "generator must be on meta"),
])  # fmt: skip
def test_bad_input_is_named(arguments, error, words):
    with pytest.raises(error, match=words):
        draw_parameters(*arguments, torch.Generator())


def test_an_unknown_recipe_is_named():
    with pytest.raises(ValueError, match="one of BarlowTwinsViews, .* got 'Mine'"):
        load_views({"recipe": "Mine"})
