"""Every method of ``sslkernels.train`` at its defaults, given the same time on a CPU.

    OMP_NUM_THREADS=1 python -m bench.methods --jobs 2 --save

Each run has one thread, and as many epochs as fit the budget of CPU seconds, estimated from a few
steps. The result of a run is the kNN accuracy of its backbone on test images, together with that of
raw pixels and of the untrained backbone; for pretext tasks also the accuracy of their labels on
test images, together with chance, which is the share of the most frequent label.

``--save`` writes ``bench/results/<device>/methods-<seconds>s.json``, and the tables of all such
files, from any device, into ``docs/methods.md``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import multiprocessing
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sslkernels.data import ViewBatch
from sslkernels.metrics.encode import evaluation_mode
from sslkernels.train.datasets import Data, open_data
from sslkernels.train.loop import forward_backward, train, update
from sslkernels.train.methods import METHODS, Colorization, Method, Supervised
from sslkernels.train.methods.labels import LabelMethod
from sslkernels.train.optimizers import make_optimizer
from sslkernels.train.recipe import Recipe, override
from sslkernels.train.run import make_method, online_evaluation

from .machine import describe_machine, slug

RESULTS = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parent.parent / "docs" / "methods.md"
CPU = torch.device("cpu")
Row = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print a table, and write it."""
    parser = argparse.ArgumentParser(prog="python -m bench.methods", description=__doc__)
    parser.add_argument("--methods", default=",".join(METHODS), help="names with commas between")
    parser.add_argument("--seconds", type=float, default=60.0, help="of CPU time, for training")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    parser.add_argument("--save", action="store_true", help="write into bench/results/ and docs/")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings of all methods")
    arguments = parser.parse_intermixed_args(argv)
    names = arguments.methods.split(",")
    unknown = [name for name in names if name not in METHODS]
    if unknown:
        parser.error(f"unknown method {unknown[0]!r}; the methods are {', '.join(METHODS)}")
    machine = describe_machine("cpu") | {"threads": 1}
    runs = [
        (name, seed, arguments.seconds, tuple(arguments.overrides))
        for seed in range(arguments.seeds)
        for name in names
    ]
    command = ["python", "-m", "bench.methods", *(sys.argv[1:] if argv is None else argv)]
    rows: list[Row] = []
    content = {
        "op": "methods", **machine, "command": shlex.join(command), "seconds": arguments.seconds,
        "work": "training at default settings, then kNN accuracy of the backbone", "rows": rows,
    }  # fmt: skip
    for row in measure(runs, arguments.jobs):
        rows.append(row)
        print(_line(row), flush=True)
        if arguments.save and len(rows) % len(names) == 0:  # one seed of all methods is complete
            path = save(content)
    print(tables(content))
    if arguments.save:
        print(f"wrote {path} and {DOCUMENT}", file=sys.stderr)


def save(content: dict[str, Any]) -> Path:
    """Write the results and the page with them; return the path of the results."""
    folder = RESULTS / slug(str(content["device"]))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"methods-{content['seconds']:g}s.json"
    path.write_text(json.dumps(content, indent=1))
    every = [json.loads(other.read_text()) for other in RESULTS.glob("*/methods-*s.json")]
    DOCUMENT.parent.mkdir(parents=True, exist_ok=True)
    DOCUMENT.write_text(document(sorted(every, key=lambda one: (one["device"], one["seconds"]))))
    return path


def measure(runs: Sequence[tuple], jobs: int) -> Iterable[Row]:
    """The rows of :func:`run_method`, in the order of ``runs``."""
    if jobs == 1:
        with _one_thread():
            yield from (run_method(*run) for run in runs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, torch.set_num_threads, (1,)) as pool:
        yield from pool.map(run_method, *zip(*runs, strict=True))


def run_method(name: str, seed: int, seconds: float, overrides: Sequence[str] = ()) -> Row:
    """Train a method for ``seconds`` CPU seconds, and evaluate it."""
    settings = ["reader=memory", "device=cpu", f"seed={seed}", *overrides]
    recipe = override(METHODS[name][1], settings)
    data = open_data(recipe, CPU)
    evaluate = online_evaluation(data, recipe.precision, CPU)
    steps_per_epoch = len(data.batches())
    per_step = seconds_per_step(name, recipe, data, budget=seconds / 15)
    epochs = max(1, round(seconds / (per_step * steps_per_epoch)))
    recipe = replace(recipe, epochs=epochs, checkpoint_every=epochs, evaluate_every=epochs)
    method = make_method(name, recipe, data)
    row = {"method": name, "seed": seed, "data": recipe.data, "epochs": epochs}
    row["raw_pixels"] = evaluate(nn.Flatten())["knn_accuracy"]
    row["random_encoder"] = evaluate(method.backbone)["knn_accuracy"]
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        start = time.process_time()
        history = train(method, data.batches(), recipe, Path(folder))
        row["cpu_seconds"] = time.process_time() - start
    kept = ("step", "loss", "embedding_spread")
    row |= {key: history[-1][key] for key in kept if key in history[-1]}
    row |= evaluate(method.backbone)
    if isinstance(method, LabelMethod | Colorization):
        row["label_accuracy"], row["chance"] = label_accuracy(method, data)
    return row


def seconds_per_step(name: str, recipe: Recipe, data: Data, budget: float) -> float:
    """CPU seconds of a step, from as many as fit the budget, without the first two."""
    method = make_method(name, recipe, data).train()
    optimizer = make_optimizer(method, recipe)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    batches = data.batches()
    count, start = 0, math.nan
    for step, batch in enumerate(islice(cycle(batches), 1000)):
        if step == 2:
            start = time.process_time()
        forward_backward(method, method, method.inputs(batch), recipe, scaler)
        update(method, optimizer, scaler, recipe.clip)
        method.after_step()
        count = step - 1
        if step > 2 and time.process_time() - start > budget:
            break
    return (time.process_time() - start) / count


@torch.no_grad()
def label_accuracy(method: Method, data: Data) -> tuple[float, float]:
    """The accuracy of labels on test images, and the share of the most frequent label."""
    torch.manual_seed(0)
    right, labels = [], []
    with evaluation_mode(method):
        for images, classes in data.evaluation_batches("test"):
            embeddings = method(*method.inputs(ViewBatch([images], None, classes, None)))
            right.append(method.monitor(*embeddings)["label_accuracy"].item() * len(images))
            labels.append(method.labels(*embeddings).flatten())
    every = torch.cat(labels)
    count = sum(len(classes) for _, classes in data.evaluation_batches("test"))
    return sum(right) / count, (every.bincount().max() / len(every)).item()


def tables(content: dict[str, Any]) -> str:
    """The results in Markdown: methods that compare views, and methods that predict labels."""
    by_method: dict[str, list[Row]] = {}
    for row in content["rows"]:
        by_method.setdefault(row["method"], []).append(row)
    is_supervised = {name: issubclass(METHODS[name][0], Supervised) for name in by_method}
    joint = [rows for rows in by_method.values() if "label_accuracy" not in rows[0]]
    pretext = [
        rows
        for name, rows in by_method.items()
        if "label_accuracy" in rows[0] and not is_supervised[name]
    ]
    supervised = [rows for name, rows in by_method.items() if is_supervised[name]]
    text = ""
    if joint:
        text += "| method | kNN accuracy | epochs | steps |\n|---|---|---|---|\n"
        joint.sort(key=lambda rows: -statistics.mean(row["knn_accuracy"] for row in rows))
        for rows in joint:
            first = rows[0]
            text += f"| `{first['method']}` | {_mean(rows, 'knn_accuracy')} "
            text += f"| {_range(rows, 'epochs')} | {_range(rows, 'step')} |\n"
        text += f"| *raw pixels* | {_mean(joint[0], 'raw_pixels')} | | |\n"
        for backbone in dict.fromkeys(_backbone(rows) for rows in joint):
            drawn = next(rows for rows in joint if _backbone(rows) == backbone)
            text += f"| *`{backbone}` untrained* | {_mean(drawn, 'random_encoder')} | | |\n"
    for rows_of, title in ((pretext, "Pretext tasks"), (supervised, "Supervision")):
        if rows_of:
            text += f"\n{title}:\n\n| method | data | label accuracy | chance | kNN accuracy "
            text += (
                "| raw pixels | untrained backbone | epochs |\n|---|---|---|---|---|---|---|---|\n"
            )
            for rows in rows_of:
                columns = ("label_accuracy", "chance", "knn_accuracy", "raw_pixels")
                values = " | ".join(_mean(rows, c) for c in (*columns, "random_encoder"))
                text += f"| `{rows[0]['method']}` | {rows[0]['data']} | {values} "
                text += f"| {_range(rows, 'epochs')} |\n"
    return text


def document(contents: Sequence[dict[str, Any]]) -> str:
    """The page of the documentation that holds the tables, one for each amount of time."""
    text = """# Methods compared at equal training time

The accuracy that each method of
[`sslkernels.train.methods`](../sslkernels/train/methods/README.md) reaches with its default
settings in a fixed CPU time on one thread. Compare methods within a table only: machines differ.
Accuracies are on held-out test images, as mean ± standard deviation over seeds. The images ship
with Python packages: shifted digits, and patches of photographs. *Untrained* rows and columns are
the same backbone with random weights.

Each learning rate schedule ends with the budget, so these are not truncated longer runs. Such short
runs show which methods learn fast on small images with these settings. They say nothing about which
is best after a thousand epochs. Methods with a moving average or a stop-gradient start slowly.

The commands below write this page and `bench/results/DEVICE/`. Do not edit it.
"""
    for content in contents:
        seeds = len({row["seed"] for row in content["rows"]})
        text += f"""
## {content["seconds"]:g} CPU seconds, {seeds} seeds, on {content["device"]}

{tables(content)}
Measured at commit {content["commit"]} with torch {content["torch"]} by

    {content["command"]}
"""
    return text


def _backbone(rows: list[Row]) -> str:
    return METHODS[rows[0]["method"]][1]().backbone


def _mean(rows: list[Row], key: str) -> str:
    values = [100 * row[key] for row in rows]
    mean = f"{statistics.mean(values):.1f} %"
    if len(set(values)) == 1:
        return mean
    return f"{mean[:-2]} ± {statistics.stdev(values):.1f} %"


def _range(rows: list[Row], key: str) -> str:
    low, high = (f(row[key] for row in rows) for f in (min, max))
    return f"{low:,}" if low == high else f"{low:,}–{high:,}"


def _line(row: Row) -> str:
    text = f"{row['method']:<15} seed {row['seed']}  {row['epochs']:>4} epochs"
    text += f"  {row['cpu_seconds']:5.0f} CPU s  kNN {row['knn_accuracy']:6.1%}"
    if "label_accuracy" in row:
        text += f"  labels {row['label_accuracy']:.1%} (chance {row['chance']:.1%})"
    return text


@contextlib.contextmanager
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    main()
