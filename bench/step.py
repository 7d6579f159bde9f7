"""The time of a training step by part, before and after: public code and ours.

    python -m bench.step --save                                       # small, for a CPU
    python -m bench.step --device cuda --batch 256 --size 224 --backbone bench.step:vit_s16 --save

A step of two views of photographs (JPEGs of 500 × 400): reading and decoding, augmentation, the
network forward, the loss with its gradient, the network backward, the optimiser. "Before" has an
eager loss, and augmentation by kornia (on a GPU, if installed) or torchvision, on tensors; all else
is the same, and the images are read once for both. They alternate; results are medians over
rounds.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sslkernels import RaggedImages
from sslkernels.data import HAS_DALI, SimCLRViews, image_folder, image_reader, make_views
from sslkernels.metrics.encode import autocast, settle_precision
from sslkernels.train.backbones import SmallViT, make_backbone
from sslkernels.train.loop import memory_format
from sslkernels.train.methods import METHODS
from sslkernels.train.optimizers import make_optimizer
from sslkernels.train.recipe import CHOICES, override

from .contrastive_baselines import nt_xent_eager
from .covariance_baselines import barlow_twins_eager, vicreg_eager
from .machine import describe_machine, slug
from .views import cut_jpegs, kornia_transform, transform_of_tensors

RESULTS = Path(__file__).parent / "results"
PARTS = ("reading", "augmentation", "forward", "loss", "backward", "optimiser")
EAGER = {"simclr": nt_xent_eager, "vicreg": vicreg_eager, "barlow_twins": barlow_twins_eager}
HEADS = ("hidden_size", "embedding_size", "expander_size", "projector_size", "temperature")
Augment = Callable[[Any], Sequence[Tensor]]


def vit_s16() -> nn.Module:
    """A vision transformer of the size of ViT-S/16: 384 features, twelve blocks."""
    return SmallViT(in_channels=3, width=96, patch_size=16, depth=12)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.step", description=__doc__)
    parser.add_argument("--method", choices=EAGER, default="simclr")
    parser.add_argument("--backbone", default="resnet")
    parser.add_argument("--batch", type=int, default=64, help="images")
    parser.add_argument("--size", type=int, default=64, help="side of the views")
    parser.add_argument("--precision", choices=CHOICES["precision"], default="auto")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write into bench/results/<device>/")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    device = torch.device(arguments.device)
    arguments.precision = settle_precision(arguments.precision, device)
    command = ["python", "-m", "bench.step", *(sys.argv[1:] if argv is None else argv)]
    run = {"op": "step", **describe_machine(arguments.device), "command": shlex.join(command)}
    run |= {key: getattr(arguments, key) for key in ("method", "backbone", "batch", "size")}
    run |= {"precision": arguments.precision, "rows": measure(arguments)}
    print(table(run["rows"]))
    if arguments.save:
        name = f"step-{arguments.method}-{slug(arguments.backbone)}.json"
        path = RESULTS / slug(str(run["device"])) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(run, indent=1))
        print(f"wrote {path}", file=sys.stderr)


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Milliseconds of each part, before and after, by round."""
    device = torch.device(arguments.device)
    kinds = {
        "before": (_others_augmentation(device, arguments.size), EAGER[arguments.method]),
        "after": (_our_augmentation(device, arguments.size), None),
    }
    with tempfile.TemporaryDirectory() as folder:
        for number, jpeg in enumerate(cut_jpegs(8 * arguments.batch)):
            (Path(folder) / f"{number:05d}.jpg").write_bytes(jpeg)
        reader = image_reader(image_folder(folder), arguments.batch, device=_decoder(device))
        steps = {name: Step(arguments, *kind) for name, kind in kinds.items()}
        times: dict[str, list[dict[str, float]]] = {name: [] for name in kinds}
        reading, batches = _read(reader)
        forever = cycle(batches)
        for turn in range(arguments.rounds + 2):  # the first two compile kernels
            for name, step in steps.items():
                found = step(next(forever))
                if turn >= 2:
                    times[name].append({"reading": reading} | found)
            print(f"\rround {turn}", end="", file=sys.stderr, flush=True)
    print("\r", end="", file=sys.stderr)
    return [
        {
            "impl": name,
            **{part: statistics.median(x[part] for x in rounds) for part in PARTS},
            "rounds": rounds,
        }
        for name, rounds in times.items()
    ]


class Step:
    """A network, its optimiser and its loss, and a stopwatch."""

    def __init__(self, arguments: argparse.Namespace, augment: Augment, eager: Callable | None):
        self.device, self.precision = torch.device(arguments.device), arguments.precision
        method, recipe_class = METHODS[arguments.method]
        heads = [f"{k}={v}" for k, v in recipe_class.published.items() if k in HEADS]
        recipe = override(recipe_class, [*heads, f"backbone={arguments.backbone}"])
        torch.manual_seed(0)
        self.layout = memory_format(self.device, self.precision)
        self.network = method(make_backbone(recipe.backbone, 3, recipe.width), recipe)
        self.network.to(self.device, memory_format=self.layout)
        self.optimizer = make_optimizer(self.network, recipe)
        self.augment, self.times = augment, {}
        self.loss = eager(getattr(recipe, "temperature", 1.0)) if eager else self.network.loss

    def __call__(self, images: RaggedImages) -> dict[str, float]:
        """One step; its milliseconds by part, without reading."""
        self.times = {}
        with self.part("augmentation"):
            views = [x.contiguous(memory_format=self.layout) for x in self.augment(images)]
        with self.part("forward"), autocast(self.device, self.precision):
            embeddings = self.network(*views)
        with self.part("loss"), autocast(self.device, self.precision):
            leaves = [x.detach().requires_grad_() for x in embeddings]
            self.loss(*leaves).backward()
        with self.part("backward"):
            torch.autograd.backward(embeddings, [x.grad for x in leaves])
        with self.part("optimiser"):
            self.optimizer.step()
            self.optimizer.zero_grad()
        return self.times

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        wait = torch.cuda.synchronize if self.device.type == "cuda" else lambda: None
        wait()
        start = time.perf_counter()
        yield
        wait()
        self.times[name] = 1e3 * (time.perf_counter() - start)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line per part: milliseconds, and its share of the whole step."""
    rows = [row | {"together": sum(row[part] for part in PARTS)} for row in rows]
    lines = [f"{'ms':<14}" + "".join(f"{row['impl']:>18}" for row in rows)]
    for part in (*PARTS, "together"):
        shares = (f"{row[part]:>10.1f} ({row[part] / row['together']:>5.1%})" for row in rows)
        lines.append(f"{part:<14}" + "".join(f"{share:>18}" for share in shares))
    return "\n".join(lines)


def _our_augmentation(device: torch.device, size: int) -> Augment:
    recipe, generator = SimCLRViews(size=size), torch.Generator(device).manual_seed(0)
    return lambda images: make_views(images.to(device), recipe, generator)[0]


def _others_augmentation(device: torch.device, size: int) -> Augment:
    """kornia's on a GPU, if installed, otherwise torchvision's; for images of one size."""
    many = None
    if device.type == "cuda" and find_spec("kornia"):
        many = kornia_transform(size)
    one = transform_of_tensors(size) if many is None else None

    def augment(images: Any) -> Sequence[Tensor]:
        count = len(images.sizes)
        planes = (
            images.to(device).data.view(count, *images.sizes[0].tolist(), 3).permute(0, 3, 1, 2)
        )
        if many is not None:
            return [many(planes.float() / 255) for _ in range(2)]
        return [torch.stack([one(image) for image in planes]) for _ in range(2)]

    return augment


def _decoder(device: torch.device) -> torch.device:
    return device if HAS_DALI else torch.device("cpu")


def _read(reader: Any) -> tuple[float, list[RaggedImages]]:
    """Milliseconds per batch, and the batches: reading ahead would slow down the other parts."""
    start = time.perf_counter()
    batches = [images for images, _, _ in reader]
    return 1e3 * (time.perf_counter() - start) / len(batches), batches


if __name__ == "__main__":
    main()
