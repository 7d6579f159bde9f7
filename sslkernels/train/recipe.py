"""The settings of a run: a plain dataclass, and ``key=value`` overrides of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, TypeVar, get_type_hints

from .._checks import MOST_SEED, check_choice, shown
from ..data import SimCLRViews, View
from ..metrics.encode import PRECISIONS
from .backbones import BACKBONES

R = TypeVar("R", bound="Recipe")
CHOICES = {
    "optimizer": ("adamw", "lars", "sgd"),
    "precision": ("auto", *PRECISIONS),
    "reader": ("auto", "dali", "pil", "memory"),
}


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What every method needs; a method's own recipe adds its settings.

    Defaults suit the digits of the demo, on a CPU. Each method's ``published`` holds the values of
    its paper for ImageNet.

    Attributes:
        data: "digits", "photos", or a folder of images: with ``train`` and ``val`` or ``test`` in
            it, or of images, every tenth of which is kept for tests. Classes are subfolders.
        image_size: side of whole views, of a folder's images.
        local_size: side of local views, of a folder's images.
        evaluation_images: how many images of each split evaluations look at, at most.
        epochs: passes over the training images.
        batch_size: images per step, of all ranks together, which the loss sees together.
        micro_batch: images that the network sees at once, which sets the memory; 0: all of them.
        optimizer: "adamw", "lars" or "sgd", the last two with a momentum of 0.9.
        learning_rate: the peak, reached after warm-up; then a half cosine to zero.
        warmup_epochs: epochs of linear warm-up; may be a fraction.
        weight_decay: for matrices and convolutions only.
        weight_decay_growth: how many times its first value it is at the end; a half cosine between.
        clip: the largest norm of all gradients together; 0: any.
        backbone: "resnet" or "vit", small ones; "torchvision:NAME", "timm:NAME", or
            "module:function", which is called without arguments.
        width: channels of a small backbone's first stage.
        precision: "float32", or what autocast runs the network in: "bfloat16", "float16"; "auto":
            bfloat16 where the device has instructions for it, else float32.
        sync_batch_norm: take the statistics of batch normalisation over all ranks.
        compile: run the network through torch.compile.
        evaluate_every: epochs between kNN evaluations; the last epoch is always evaluated.
        checkpoint_every: epochs between checkpoints; there is one after the last epoch, too.
        log_every: steps between lines in ``steps.jsonl``.
        seed: of the initial weights, the order and the views.
        reader: of files: "dali", "pil", "memory" (of the digits, without files), or "auto": the
            first of them that is installed. All give the same digits.
        upright: turn images of files as EXIF's orientation says.
        device: "auto" (CUDA if there is a GPU, else CPU), "cpu", "cuda", "cuda:1", …

    Raises:
        TypeError: a setting is of another type.
        ValueError: a setting is out of range.
    """

    data: str = "digits"
    image_size: int = 64
    local_size: int = 32
    evaluation_images: int = 10_000
    epochs: int = 20
    batch_size: int = 64
    micro_batch: int = 0
    optimizer: str = "adamw"
    learning_rate: float = 2e-3
    warmup_epochs: float = 3.0
    weight_decay: float = 1e-2
    weight_decay_growth: float = 1.0
    clip: float = 0.0
    backbone: str = "resnet"
    width: int = 16
    precision: str = "auto"
    sync_batch_norm: bool = True
    compile: bool = False
    evaluate_every: int = 2
    checkpoint_every: int = 1
    log_every: int = 50
    seed: int = 0
    reader: str = "auto"
    upright: bool = False
    device: str = "auto"

    published: ClassVar[dict[str, Any]] = {}
    global_views: ClassVar[int] = 2
    local_views: ClassVar[int] = 0  # methods that take local views make it a setting
    may_be_zero: ClassVar[tuple[str, ...]] = (
        "micro_batch", "warmup_epochs", "weight_decay", "clip", "seed",
    )  # fmt: skip

    def __post_init__(self) -> None:
        types = get_type_hints(type(self))
        for field in fields(self):
            _check_type(field.name, getattr(self, field.name), types[field.name])
        if self.backbone not in BACKBONES and ":" not in self.backbone:
            names = ", ".join(BACKBONES)
            raise ValueError(
                f"backbone must be {names}, torchvision:NAME, timm:NAME or module:function, "
                f"got {self.backbone!r}"
            )
        for key, choices in CHOICES.items():
            check_choice(key, getattr(self, key), choices)
        for key, value in asdict(self).items():
            if isinstance(value, bool | str):
                continue
            zero = key in self.may_be_zero
            if not (value > 0 or (zero and value == 0)) or value == float("inf"):
                bound = "at least 0" if zero else "above 0"
                raise ValueError(f"{key} must be {bound} and finite, got {value}")

    def views(self) -> tuple[View, ...]:
        """What images of a folder are augmented by; whole views first."""
        return SimCLRViews(size=self.image_size).views


def override(recipe_class: type[R], overrides: Iterable[str], *, published: bool = False) -> R:
    """Make a recipe from its defaults and ``key=value`` strings.

    Values are read by the type of the field: int, float, bool ("true" or "false") or str.

    Args:
        recipe_class: of a method.
        overrides: the strings; of two with one key the last wins.
        published: start from the paper's values instead of the defaults.

    Raises:
        ValueError: an override is not ``key=value``, its key is no field of the recipe, or its
            value is not of the field's type or out of range. The message names what is allowed.
    """
    types = get_type_hints(recipe_class)
    keys = [field.name for field in fields(recipe_class)]
    values = dict(recipe_class.published) if published else {}
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator:
            raise ValueError(f"expected key=value, got {text!r}")
        if key not in keys:
            raise ValueError(f"unknown key {key!r}; the keys are {', '.join(sorted(keys))}")
        values[key] = _parse(key, value, types[key])
    return recipe_class(**values)


def _check_type(key: str, value: Any, expected: type) -> None:
    allowed = (int, float) if expected is float else expected
    if not isinstance(value, allowed) or isinstance(value, bool) != (expected is bool):
        name = {int: "a whole number", float: "a number", bool: "True or False", str: "a string"}
        raise TypeError(f"{key} must be {name[expected]}, got {shown(value)}")
    if isinstance(value, int) and value > MOST_SEED:
        raise ValueError(f"{key} must be at most {MOST_SEED}, got {value}")


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
