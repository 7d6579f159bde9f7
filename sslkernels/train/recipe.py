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
    """The settings of every method; a method's own recipe adds its settings.

    The defaults suit the digits of the demo, on a CPU. Each method's ``published`` holds the
    paper's values for ImageNet.

    Attributes:
        data: "digits", "photos", or a folder of images: with subfolders ``train`` and ``val`` or
            ``test``, or with images, every tenth of which is kept for tests. Classes are
            subfolders.
        image_size: side of whole views, for images from a folder.
        local_size: side of local views, for images from a folder.
        evaluation_images: maximum number of images of each split in an evaluation.
        epochs: passes over the training images.
        batch_size: images per step, over all ranks, in one loss.
        micro_batch: images per forward pass, which limits the memory; 0: the whole batch.
        optimizer: "adamw", "lars" or "sgd", the last two with a momentum of 0.9.
        learning_rate: the peak, reached after warm-up; then a half cosine to zero.
        warmup_epochs: epochs of linear warm-up; may be a fraction.
        weight_decay: for matrices and convolutions only.
        weight_decay_growth: ratio of its final and initial value; a half cosine in between.
        clip: maximum norm of all gradients together; 0: no clipping.
        backbone: "resnet" or "vit", small ones; "torchvision:NAME", "timm:NAME", or
            "module:function", a function without arguments.
        width: channels of a small backbone's first stage.
        precision: "float32", or the dtype of autocast: "bfloat16", "float16"; "auto": bfloat16 if
            the device supports it in hardware, else float32.
        sync_batch_norm: use batch normalisation statistics over all ranks.
        compile: run the network through torch.compile.
        evaluate_every: epochs between kNN evaluations; the last epoch is always evaluated.
        checkpoint_every: epochs between checkpoints; the last epoch always has one.
        log_every: steps between lines in ``steps.jsonl``.
        seed: of the initial weights, the order and the views.
        reader: of files: "dali", "pil", "memory" (the digits without files), or "auto": the first
            of them that is installed. All give the same digits.
        upright: apply EXIF's orientation to images from files.
        device: "auto" (CUDA if there is a GPU, else CPU), "cpu", "cuda", "cuda:1", …

    Raises:
        TypeError: a setting has the wrong type.
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
    local_views: ClassVar[int] = 0  # a setting in methods with local views
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
        """The augmentation of images from a folder; whole views first."""
        return SimCLRViews(size=self.image_size).views


def override(recipe_class: type[R], overrides: Iterable[str], *, published: bool = False) -> R:
    """Make a recipe from its defaults and ``key=value`` strings.

    Values are parsed by the type of the field: int, float, bool ("true" or "false") or str.

    Args:
        recipe_class: a method's recipe class.
        overrides: the strings; the last one for a key takes precedence.
        published: start from the paper's values instead of the defaults.

    Raises:
        ValueError: an override is not ``key=value``, its key is not a field of the recipe, or its
            value does not fit the field's type or is out of range. The message states the options.
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
