"""Recipes and their key=value overrides."""

from dataclasses import asdict

import pytest

from sslkernels.train.methods import SimCLRRecipe
from sslkernels.train.recipe import override


def test_no_override_gives_the_defaults():
    assert override(SimCLRRecipe, []) == SimCLRRecipe()


def test_values_take_the_type_of_the_field():
    recipe = override(
        SimCLRRecipe,
        ["epochs=3", "learning_rate=5e-4", "compile=true", "device=cpu", "temperature=1"],
    )
    expected = asdict(SimCLRRecipe()) | {
        "epochs": 3,
        "learning_rate": 5e-4,
        "compile": True,
        "device": "cpu",
        "temperature": 1.0,
    }
    assert asdict(recipe) == expected
    assert type(recipe.epochs) is int and type(recipe.temperature) is float


@pytest.mark.parametrize("text", ["True", "true"])
def test_true(text):
    assert override(SimCLRRecipe, [f"compile={text}"]).compile is True


def test_the_last_of_two_wins():
    assert override(SimCLRRecipe, ["seed=1", "seed=2"]).seed == 2


def test_value_may_contain_the_separator():
    assert override(SimCLRRecipe, ["device=a=b"]).device == "a=b"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("epochs", "key=value, got 'epochs'"),
        ("epoch=3", "unknown key 'epoch'; the keys are .*epochs.*temperature"),
        ("epochs=2.5", "epochs must be a whole number, got '2.5'"),
        ("epochs=", "epochs must be a whole number, got ''"),
        ("temperature=warm", "temperature must be a number, got 'warm'"),
        ("compile=1", "compile must be true or false, got '1'"),
        ("epochs=0", "epochs must be above 0 and finite, got 0"),
        ("temperature=-0.1", "temperature must be above 0"),
        ("learning_rate=nan", "learning_rate must be above 0 and finite, got nan"),
        ("learning_rate=inf", "learning_rate must be above 0 and finite, got inf"),
        ("weight_decay=-1", "weight_decay must be at least 0"),
        (f"seed={2**63}", "seed must be at most 9223372036854775807"),
        ("upright=1", "upright must be true or false"),
    ],
)
def test_wrong_override(text, message):
    with pytest.raises(ValueError, match=message):
        override(SimCLRRecipe, [text])


@pytest.mark.parametrize("key", asdict(SimCLRRecipe()))
@pytest.mark.parametrize("value", [None, b"1", [1], {}, 1j, object(), "?", 2.5, True, 7])
def test_settings_of_another_type(key, value):
    default = getattr(SimCLRRecipe(), key)
    fits = type(value) is type(default) or (type(default), type(value)) == (float, int)
    if fits and value != "?":
        assert getattr(SimCLRRecipe(**{key: value}), key) == value
    elif not fits:
        with pytest.raises(TypeError, match=f"^{key} must be "):
            SimCLRRecipe(**{key: value})


def test_zero_where_it_means_none():
    recipe = override(SimCLRRecipe, ["weight_decay=0", "warmup_epochs=0", "seed=0"])
    assert recipe.weight_decay == recipe.warmup_epochs == 0
