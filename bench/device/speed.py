"""Each loss and plain torch, checked and timed; a line of results for each shape."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch

from sslkernels import augment_views
from sslkernels.data import SimCLRViews, draw_parameters
from sslkernels.primitives.augment_views import RaggedImages

from ..baselines import BASELINES
from ..case import Shape
from ..machine import describe_machine
from ..measure import Settings, load, make_inputs, measure
from ..table import as_content, describe_run
from .arguments import stage_arguments
from .outcomes import read_lines

# A small batch, where launches dominate, and a large one; the most used losses first.
SHAPES: dict[str, tuple[Shape, ...]] = {
    "nt_xent": ((512, 128), (16384, 128)),
    "clip": ((512, 512), (16384, 512)),
    "dino": ((64, 65536),),
    "dino_head": ((64, 65536),),
    "barlow_twins": ((256, 2048), (1024, 8192)),
    "vicreg": ((256, 2048), (1024, 8192)),
    "siglip": ((512, 512), (16384, 512)),
    "moco": ((256, 128), (1024, 128)),
    "supcon": ((512, 128), (8192, 128)),
    "swav": ((64, 3000), (512, 3000)),
    "ibot_head": ((1024, 65536), (12800, 131072)),
}
BESIDE = ("ours", "fused", "cuda", "eager", "tiled", "logits", "gram")
SECONDS = 0.7  # of timing for each shape


def main() -> int:
    """Measure the shapes without a result; 1 if something failed, which does not stop the rest."""
    arguments = stage_arguments(__doc__)
    path, seconds = arguments.out, 0.0 if arguments.dry else SECONDS
    done = {(row["op"], shape["shape"]) for row in read_lines(path) for shape in row["shapes"]}
    work = {
        (op, "x".join(map(str, shape))): partial(losses, op, shape, seconds)
        for op, shapes in SHAPES.items()
        for shape in shapes
    } | {("views", "512x224"): views}
    failed = 0
    for key, run in work.items():
        if key in done:
            continue
        try:
            add(path, run())
        except Exception:
            print("failed:", *key)
            traceback.print_exc()
            failed = 1
    return failed


def add(path: Path, content: dict[str, object]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(content) + "\n")


def losses(op: str, shape: Shape, seconds: float) -> dict[str, object]:
    settings = Settings(
        op, torch.bfloat16, "cuda", 0.1, ["fwd", "bwd", "fwdbwd"], seconds=seconds, min_rounds=3
    )
    names = [name for name in BESIDE if name in BASELINES[op]]
    start = time.perf_counter()
    result = measure(settings, shape, names, print)
    for row in result.rows:
        print(op, row.shape, row.mode, row.impl, row.status, row.p50_ms, flush=True)
    content = as_content(describe_run(settings), "python -m bench.device", [result])
    ran = {row.impl for row in result.rows if row.status == "ok"} & {"ours", "fused", "eager"}
    host = {name: host_milliseconds(settings, shape, name) for name in sorted(ran)}
    return content | {"host_ms": host, "seconds": round(time.perf_counter() - start, 1)}


def host_milliseconds(settings: Settings, shape: Shape, name: str, rounds: int = 20) -> float:
    """Host time of a step, which dominates small batches: forward and backward, queued."""
    step = load(settings, BASELINES[settings.op][name], shape, make_inputs(settings, shape))
    for count in (3, rounds):  # the first is a warm-up
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            step.forward()
            step.backward()
        elapsed = time.perf_counter() - start
    torch.cuda.synchronize()
    return 1e3 * elapsed / rounds


def views(count: int = 256, size: int = 224) -> dict[str, object]:
    """Two SimCLR views of each of ``count`` images of 400 x 500 pixels."""
    pixels = torch.randint(0, 256, (count * 400 * 500 * 3,), dtype=torch.uint8, device="cuda")
    offsets = torch.arange(count, device="cuda") * (400 * 500 * 3)
    sizes = torch.tensor([[400, 500]] * count).to("cuda")
    images = RaggedImages(pixels, offsets, sizes, 3)
    generator = torch.Generator("cuda").manual_seed(0)
    parameters = draw_parameters(SimCLRViews(size=size).views, sizes, generator)
    times = milliseconds(lambda: augment_views(images, parameters, size=size, dtype=torch.bfloat16))
    shape = f"{2 * count}x{size}"
    row = {"shape": shape, "mode": "fwd", "impl": "ours", "status": "ok", "p50_ms": median(times)}
    run = {"op": "views", "dtype": "bfloat16", **describe_machine("cuda")}
    return run | {"shapes": [{"shape": shape}], "rows": [row]}


def milliseconds(step, rounds: int = 20) -> Sequence[float]:
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    step()
    for start, end in events:
        start.record()
        step()
        end.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


if __name__ == "__main__":
    sys.exit(main())
