"""SimCLR's two views at 224 of photographs: ours, torchvision's, kornia's.

    python -m bench.views --save                    # CPU time per image, from JPEGs
    python -m bench.views --device cuda --save      # time per batch of 256, from bytes on the GPU

The images (500 × 400, as JPEGs of quality 90) are cut from photographs that ship with scikit-image.
On the CPU, the CPU time of the process over all its threads is counted, including decoding.
Everything runs on one thread, as in a loader's worker: waiting threads would count as work.
Implementations alternate; results are medians over rounds.
"""

from __future__ import annotations

import argparse
import io
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageFilter

from sslkernels import RaggedImages
from sslkernels.data import SimCLRViews, make_views

from .machine import describe_machine, slug
from .peers import torchvision_transforms

RESULTS = Path(__file__).parent / "results"
HEIGHT, WIDTH, QUALITY = 400, 500, 90
BATCH, GPU_BATCH = 52, 256
SIZE, MEAN, STD = 224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
Run = Callable[[Sequence[bytes]], object]  # makes two views of each of a batch of JPEGs
GPURun = Callable[[], object]  # makes two views of each image of a loaded batch


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.views", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--images", type=int, default=208, help="how many JPEGs, on the CPU")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write into bench/results/<device>/")
    arguments = parser.parse_args(argv)
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    command = ["python", "-m", "bench.views", *(sys.argv[1:] if argv is None else argv)]
    machine = describe_machine(arguments.device)
    count = arguments.images if arguments.device == "cpu" else GPU_BATCH
    jpegs = cut_jpegs(count)
    if arguments.device == "cpu":
        key, unit = "cpu_ms_per_image", "CPU-ms per image"
        milliseconds = measure_cpu(jpegs, arguments.rounds)
    else:
        key, unit = "ms_per_batch", "ms per batch"
        milliseconds = measure_gpu(jpegs, arguments.rounds)
    rows = [
        {"impl": name, key: statistics.median(times), "rounds": times}
        for name, times in milliseconds.items()
    ]
    ours = statistics.median(milliseconds["ours"])
    print(f"{'':<16} {unit:>16} {'[min – max]':>16} {'ours is':>8}")
    for row in rows:
        median, times = row[key], row["rounds"]
        spread = f"{min(times):.2f} – {max(times):.2f}"
        print(f"{row['impl']:<16} {median:>16.2f} {spread:>16} {ours / median:>7.2f}×")
    if arguments.save:
        size = sum(map(len, jpegs)) / len(jpegs)
        source = "JPEG" if arguments.device == "cpu" else "bytes on the device"
        content = {
            "op": "views", **machine, "command": shlex.join(command), "images": len(jpegs),
            "height": HEIGHT, "width": WIDTH, "quality": QUALITY, "bytes_per_jpeg": size,
            "work": f"SimCLR, two views of {SIZE}, from {source}", "rows": rows,
        }  # fmt: skip
        path = RESULTS / slug(str(machine["device"])) / "views-uint8.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1))
        print(f"wrote {path}", file=sys.stderr)


def measure_cpu(jpegs: Sequence[bytes], rounds: int) -> dict[str, list[float]]:
    """CPU milliseconds per image, by implementation and round."""
    torch.set_num_threads(1)
    runs = implementations()
    for run in runs.values():
        run(jpegs[:4])  # warm up libraries and threads
    milliseconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.process_time()
            for first in range(0, len(jpegs), BATCH):
                run(jpegs[first : first + BATCH])
            milliseconds[name].append(1e3 * (time.process_time() - start) / len(jpegs))
    return milliseconds


def measure_gpu(
    jpegs: Sequence[bytes], rounds: int, device: str = "cuda"
) -> dict[str, list[float]]:
    """Milliseconds per batch, by implementation and round, on an idle device."""
    images = torch.from_numpy(np.stack([np.array(decode(x)) for x in jpegs])).to(device)
    runs = gpu_implementations(images)
    for run in runs.values():
        run()  # compile kernels
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    milliseconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            wait()
            start = time.perf_counter()
            run()
            wait()
            milliseconds[name].append(1e3 * (time.perf_counter() - start))
    return milliseconds


def cut_jpegs(count: int) -> list[bytes]:
    """Crops of photographs at random positions, some of them mirrored."""
    left, right, _ = skimage.data.stereo_motorcycle()
    pictures = [
        skimage.data.astronaut(), skimage.data.coffee(), skimage.data.rocket(), left, right,
        skimage.data.retina(), skimage.data.hubble_deep_field(),
    ]  # fmt: skip
    random = np.random.default_rng(0)
    jpegs = []
    for index in range(count):
        picture = pictures[index % len(pictures)]
        top = random.integers(picture.shape[0] - HEIGHT + 1)
        side = random.integers(picture.shape[1] - WIDTH + 1)
        window = picture[top : top + HEIGHT, side : side + WIDTH][:, :: random.choice([1, -1])]
        file = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(window)).save(file, "JPEG", quality=QUALITY)
        jpegs.append(file.getvalue())
    return jpegs


def decode(jpeg: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(jpeg))
    image.load()
    return image


def implementations() -> dict[str, Run]:
    """Implementations by name, without packages that are not installed."""
    runs = {"decode only": lambda jpegs: [decode(x) for x in jpegs], "ours": _ours()}
    return _with_others(runs, (_torchvision, _torchvision_tensors, _kornia))


def gpu_implementations(images: torch.Tensor) -> dict[str, GPURun]:
    """The same for images (N, H, W, 3) uint8 on their device."""
    generator = torch.Generator(images.device).manual_seed(0)
    recipe, planes = SimCLRViews(size=SIZE), images.permute(0, 3, 1, 2)

    def torchvision() -> dict[str, GPURun]:
        transform = transform_of_tensors()
        return {
            "torchvision-v2": lambda: [
                torch.stack([transform(image) for image in planes]) for _ in range(2)
            ]
        }

    def kornia() -> dict[str, GPURun]:
        transform = kornia_transform()
        return {"kornia": lambda: [transform(planes.float() / 255) for _ in range(2)]}

    ours = {"ours": lambda: make_views(images, recipe, generator, dtype=torch.bfloat16)}
    return _with_others(ours, (torchvision, kornia))


def _with_others(runs: dict, loads: Sequence[Callable[[], dict]]) -> dict:
    for load in loads:
        try:
            runs |= load()
        except ModuleNotFoundError as error:
            print(f"left out: {error}", file=sys.stderr)
    return runs


def _ours() -> Run:
    generator = torch.Generator().manual_seed(0)
    recipe = SimCLRViews(size=SIZE)

    def run(jpegs: Sequence[bytes]) -> object:
        images = [torch.from_numpy(np.array(decode(x))) for x in jpegs]
        return make_views(RaggedImages.of(images), recipe, generator, impl="cpu")

    return run


def _torchvision() -> dict[str, Run]:
    """Version 1, on PIL images; with its own Gaussian, and with PIL's, as in MoCo's code."""
    t = torchvision_transforms()
    random = np.random.default_rng(0)

    def pil_blur(image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.1, 2.0)))

    def run_with(blur: Callable[[Image.Image], Image.Image]) -> Run:
        transform = t.Compose([
            t.RandomResizedCrop(SIZE, (0.08, 1), interpolation=t.InterpolationMode.BICUBIC),
            t.RandomHorizontalFlip(),
            t.RandomApply([t.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            t.RandomGrayscale(0.2),
            t.RandomApply([blur], 0.5),
            t.ToTensor(),
            t.Normalize(MEAN, STD),
        ])  # fmt: skip

        def run(jpegs: Sequence[bytes]) -> object:
            views = [[transform(image) for _ in range(2)] for image in map(decode, jpegs)]
            return [torch.stack(view) for view in zip(*views, strict=True)]

        return run

    return {
        "torchvision-pil": run_with(t.GaussianBlur(23, (0.1, 2.0))),
        "with PIL's blur": run_with(pil_blur),
    }


def transform_of_tensors(size: int = SIZE) -> Callable[[torch.Tensor], torch.Tensor]:
    """Torchvision's version 2, for one image (3, H, W) uint8."""
    t = torchvision_transforms().v2
    return t.Compose([
        t.RandomResizedCrop(size, (0.08, 1), interpolation=t.InterpolationMode.BICUBIC),
        t.RandomHorizontalFlip(),
        t.RandomApply([t.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
        t.RandomGrayscale(0.2),
        t.RandomApply([t.GaussianBlur(23, (0.1, 2.0))], 0.5),
        t.ToDtype(torch.float32, scale=True),
        t.Normalize(MEAN, STD),
    ])  # fmt: skip


def _torchvision_tensors() -> dict[str, Run]:
    """Version 2, on tensors of bytes."""
    t, transform = torchvision_transforms().v2, transform_of_tensors()

    def run(jpegs: Sequence[bytes]) -> object:
        images = (t.functional.pil_to_tensor(decode(x)) for x in jpegs)
        views = [[transform(image) for _ in range(2)] for image in images]
        return [torch.stack(view) for view in zip(*views, strict=True)]

    return {"torchvision-v2": run}


def kornia_transform(size: int = SIZE) -> Callable[[torch.Tensor], torch.Tensor]:
    """Kornia's, for a batch (N, 3, H, W) in [0, 1]."""
    import kornia.augmentation as k

    return k.AugmentationSequential(
        k.RandomResizedCrop((size, size), (0.08, 1.0), resample="bicubic"),
        k.RandomHorizontalFlip(),
        k.ColorJitter(0.8, 0.8, 0.8, 0.2, p=0.8),
        k.RandomGrayscale(p=0.2),
        k.RandomGaussianBlur((23, 23), (0.1, 2.0), p=0.5),
        k.Normalize(torch.tensor(MEAN), torch.tensor(STD)),
        data_keys=["input"],
    )


def _kornia() -> dict[str, Run]:
    """On a batch of float images of one size."""
    transform = kornia_transform()

    def run(jpegs: Sequence[bytes]) -> object:
        images = torch.from_numpy(np.stack([np.array(decode(x)) for x in jpegs]))
        images = images.permute(0, 3, 1, 2).float() / 255
        return [transform(images) for _ in range(2)]

    return {"kornia": run}


if __name__ == "__main__":
    main()
