"""The settings of a run: a plain dataclass, and ``key=value`` overrides of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TypeVar, get_type_hints

from .backbones import BACKBONES

R = TypeVar("R", bound="Recipe")
READERS = ("auto", "dali", "pil", "memory")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every method needs; a method's own recipe adds its settings.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step, which the loss sees together; each gives two views.
        micro_batch: images that the network sees at once, which sets the memory; 0: all of them.
        learning_rate: the peak, reached after warm-up; then a half cosine to zero.
        warmup_epochs: epochs of linear warm-up; may be a fraction.
        weight_decay: of AdamW, for matrices and convolutions only.
        backbone: "resnet" or "vit".
        width: channels of the backbone's first stage.
        evaluate_every: epochs between kNN evaluations; the last epoch is always evaluated.
        bfloat16: run the network under bfloat16 autocast.
        seed: of the initial weights, the order and the views.
        reader: of the digits' files: "dali", "pil", "memory" (no files), or "auto": the first
            of them that is installed. All give the same digits.
        device: "auto" (CUDA if there is a GPU, else CPU), "cpu", "cuda", "cuda:1", …

    Raises:
        ValueError: a number is out of range.
    """

    epochs: int = 20
    batch_size: int = 256
    micro_batch: int = 0
    learning_rate: float = 2e-3
    warmup_epochs: float = 3.0
    weight_decay: float = 1e-2
    backbone: str = "resnet"
    width: int = 32
    evaluate_every: int = 2
    bfloat16: bool = True
    seed: int = 0
    reader: str = "auto"
    device: str = "auto"

    local_views = 0  # no setting here; methods that take local views make it one
    may_be_zero = ("micro_batch", "warmup_epochs", "weight_decay", "seed")

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            names = " or ".join(BACKBONES)
            raise ValueError(f"backbone must be {names}, got {self.backbone!r}")
        if self.reader not in READERS:
            raise ValueError(f"reader must be {', '.join(READERS)}, got {self.reader!r}")
        for key, value in asdict(self).items():
            if isinstance(value, bool | str):
                continue
            zero = key in self.may_be_zero
            if not (value > 0 or (zero and value == 0)) or value == float("inf"):
                bound = "at least 0" if zero else "above 0"
                raise ValueError(f"{key} must be {bound} and finite, got {value}")


def override(recipe_class: type[R], overrides: Iterable[str]) -> R:
    """Make a recipe from its defaults and ``key=value`` strings.

    Values are read by the type of the field: int, float, bool ("true" or "false") or str.

    Raises:
        ValueError: an override is not ``key=value``, its key is no field of the recipe, or its
            value is not of the field's type or out of range. The message names what is allowed.
    """
    types = get_type_hints(recipe_class)
    values = {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"expected key=value, got {text!r}")
        if key not in types:
            raise ValueError(f"unknown key {key!r}; the keys are {', '.join(sorted(types))}")
        values[key] = _parse(key, value, types[key])
    return recipe_class(**values)


def _parse(key: str, value: str, kind: type) -> int | float | bool | str:
    if kind is bool:
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        raise ValueError(f"{key} must be true or false, got {value!r}")
    try:
        return kind(value)
    except ValueError:
        name = {int: "a whole number", float: "a number"}[kind]
        raise ValueError(f"{key} must be {name}, got {value!r}") from None
