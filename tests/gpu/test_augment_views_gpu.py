import pytest
import torch
from device import assert_no_wait, assert_repeats, assert_repeats_as_graph
from views_inputs import levels, natural_images

from sslkernels import RaggedImages, augment_views
from sslkernels.data import SimCLRViews, draw_parameters, make_views, recipes

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def images():
    return RaggedImages.of(natural_images() * 4)


@pytest.mark.parametrize("recipe", recipes.RECIPES, ids=lambda recipe: recipe.__name__)
def test_equals_the_reference(images, recipe):
    views = list(dict.fromkeys(recipe().views))
    parameters = draw_parameters(views, images.sizes, torch.Generator().manual_seed(0))
    for view, row in zip(views, parameters, strict=True):
        options = {"size": view.size, "interpolation": view.interpolation}
        options |= {"mean": (0, 0, 0), "std": (1, 1, 1)}
        expected = levels(augment_views(images, row[None], impl="reference", **options))
        ours = augment_views(images.to("cuda"), row[None].cuda(), impl="triton", **options)
        difference = (levels(ours).cpu() - expected).abs()
        assert (difference > 0).double().mean() < 2e-3
        assert (difference > 1).double().mean() < 2e-4


@pytest.mark.parametrize("channels_last", [False, True])
def test_repeats_without_waiting(images, channels_last):
    images = images.to("cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    views = SimCLRViews().views
    parameters = draw_parameters(views, images.sizes, generator)

    def step():
        options = {"dtype": torch.bfloat16, "channels_last": channels_last}
        return (augment_views(images, parameters, **options),)

    assert_repeats(step)
    assert_repeats_as_graph(step)
    assert_no_wait(step)
    assert_no_wait(lambda: make_views(images, SimCLRViews(), generator))
