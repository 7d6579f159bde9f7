"""Images per second from files: decoded, and as two views of SimCLR at 224 pixels.

    python -m bench.reading --folder DIR --save

Without a folder, smooth random pictures of 500 × 400 pixels are written and read. ``readers.file``
is DALI's own reader and decoder, without any Python between files and pixels.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

from sslkernels.data import HAS_DALI, SimCLRViews, image_folder, image_reader, view_reader
from sslkernels.data.readers import EncodedImages

from .__main__ import RESULTS
from .machine import slug
from .measure import MODES, Settings
from .table import describe_run

PICTURES = 256
ROUNDS = 5


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.reading", description=__doc__)
    parser.add_argument("--folder", type=Path, help="images, a subfolder per class")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--save", action="store_true", help="write into bench/results/<device>/")
    arguments = parser.parse_args(argv)
    command = ["python", "-m", "bench.reading", *(sys.argv[1:] if argv is None else argv)]
    run = describe_run(Settings("nt_xent", torch.float32, arguments.device, 0.1, MODES, 0, 0))
    run |= {"op": "reading", "temperature": None, "batch_size": arguments.batch_size}
    run |= {"work": f"an epoch, median of {ROUNDS}; CPU milliseconds are of all threads"}

    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or write_pictures(Path(temporary) / "pictures")
        images = image_folder(folder)
        run |= {"images": len(images), "bytes_per_image": _mean_bytes(images)}
        print(f"{len(images)} images of {run['bytes_per_image'] / 1000:.0f} kB on {run['device']}")
        print(f"{'reader':<28} {'images/s':>9} {'CPU ms/image':>13}")
        readers = make_readers(images, arguments.batch_size, arguments.device)
        rows = [measure(name, make()) for name, make in readers.items()]
    if arguments.save:
        path = RESULTS / slug(str(run["device"])) / "reading.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({**run, "command": shlex.join(command), "rows": rows}, indent=1))
        print(f"wrote {path}", file=sys.stderr)


def make_readers(
    images: EncodedImages, batch_size: int, device: str
) -> dict[str, Callable[[], Iterable]]:
    """Readers by name; each yields batches of ``batch_size``."""
    recipe = SimCLRViews()
    readers: dict[str, Callable[[], Iterable]] = {}
    if HAS_DALI:
        by = {"device": device}
        readers["decoded, readers.file"] = partial(DALIFiles, images, batch_size, device)
        readers["decoded, dali"] = partial(image_reader, images, batch_size, by="dali", **by)
    readers["decoded, pil"] = partial(image_reader, images, batch_size, by="pil")
    if HAS_DALI:
        readers["views, dali and fused"] = partial(view_reader, images, batch_size, recipe, **by)
    readers["views, pil and fused"] = partial(
        view_reader, images, batch_size, recipe, by="pil", device=device
    )
    if HAS_DALI:
        readers["views inside dali"] = partial(
            view_reader, images, batch_size, recipe, augment="dali", **by
        )
    return readers


def measure(name: str, reader: Iterable) -> dict[str, object]:
    """Read one epoch as a warm-up, then some; print and return the medians."""
    rates, costs = [], []
    for number in range(ROUNDS + 1):
        cpu, start, count = time.process_time(), time.perf_counter(), 0
        for batch in reader:
            count += len(batch[-1] if batch[-1] is not None else batch[-2])
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if number:
            rates.append(count / (time.perf_counter() - start))
            costs.append(1000 * (time.process_time() - cpu) / count)
    row = {
        "reader": name,
        "images_per_second": statistics.median(rates),
        "cpu_milliseconds_per_image": statistics.median(costs),
    }
    print(
        f"{name:<28} {row['images_per_second']:>9.0f} {statistics.median(costs):>13.2f}", flush=True
    )
    return row


class DALIFiles:
    """DALI's own file reader and decoder: an epoch of batches, not copied out of DALI."""

    def __init__(self, images: EncodedImages, batch_size: int, device: str):
        from nvidia.dali import fn, pipeline_def, types

        def graph():
            encoded, labels = fn.readers.file(
                files=list(images.names), random_shuffle=True, name="files"
            )
            decoder = "cpu" if device == "cpu" else "mixed"
            return fn.decoders.image(encoded, device=decoder, output_type=types.RGB), labels

        device_id = None if device == "cpu" else 0
        self.pipeline = pipeline_def(
            graph, batch_size=batch_size, num_threads=torch.get_num_threads(), device_id=device_id
        )()
        self.steps = len(images) // batch_size

    def __iter__(self) -> Iterator[tuple]:
        return (self.pipeline.run() for _ in range(self.steps))


def write_pictures(folder: Path) -> Path:
    """JPEGs of smooth colours, of about 400 × 500 pixels and quality 90, in two classes."""
    generator = torch.Generator().manual_seed(0)
    for number in range(PICTURES):
        height, width = (torch.randint(350, 550, (2,), generator=generator)).tolist()
        octaves = [
            F.interpolate(
                torch.rand(1, 3, cells, cells, generator=generator), (height, width), mode="bicubic"
            )
            / cells**0.7
            for cells in (2, 4, 8, 16, 32, 64, 128)
        ]
        image = torch.stack(octaves).sum(0)[0]
        image = (image - image.amin()) / (image.amax() - image.amin()) * 255
        path = folder / f"class{number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.byte().permute(1, 2, 0).numpy()).save(path, quality=90)
    return folder


def _mean_bytes(images: EncodedImages) -> float:
    return statistics.mean(len(images.read(index)) for index in range(min(len(images), 1000)))


if __name__ == "__main__":
    main()
