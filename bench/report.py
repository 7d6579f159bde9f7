"""``python -m bench.report``: docs/benchmarks.md and its plots, from bench/results/ alone."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import gaussian_cases, launches
from .cases import CASES
from .measure import format_shape
from .plot import plot_speedups
from .small import Row, table
from .suite import PEERS

ROOT = Path(__file__).parents[1]
RESULTS, PAGE = ROOT / "bench" / "results", ROOT / "docs" / "benchmarks.md"
PLAIN = (
    "ours",
    "fused",
    "tiled",
    "cuda",
    "eager",
    "compile",
)  # the others are peers, or their formulas
Content = dict[str, Any]

OPENING = """# Benchmarks

Written by `python -m bench.report` from the files in `bench/results/`, which `make bench`
writes. Do not edit; run again.

Implementations of one line were timed in turns in one run, so that noise hits all alike. A factor
is the median of the other's time over the median of ours: above 1, ours is faster. Each was
first held against float64: *error* is that of our gradient over that of eager torch in the same
dtype. *Memory* is the peak beyond the inputs, gradients included. *Of the roof* is the share of the
best rate of matrix products (for DINO and SwAV: of the time that memory alone would need) that the
same run reached. A dash: not measured, because it is not installed there or does not fit.
"""


def main() -> None:
    """Write the page and a plot per device."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(RESULTS, PAGE.parent))
    print(f"wrote {PAGE}")


def page(results: Path, pictures: Path | None = None) -> str:
    """The page in Markdown; plots are drawn if a folder for them is given."""
    text = OPENING
    for device in sorted(path for path in results.iterdir() if path.is_dir()):
        sections = [_losses(device, pictures), *(section(device) for section in SECTIONS)]
        found = [section for section in sections if section]
        if found:
            text += f"\n## {_any(device)['device']}\n" + "".join(f"\n{x}" for x in found)
    return text + _launches(results)


def _launches(results: Path) -> str:
    content = _read(results / launches.RESULTS.name)
    if not content:
        return ""
    return (
        "\n## Launches on a GPU, counted\n\n"
        'A forward and a backward pass in bfloat16 with `impl="triton"`, operations of torch that '
        "launch included, beside the plain torch lines. Counted without a device. The times of the "
        f"host are **a model, not measured**: {launches.MODEL}.\n\n"
        f"{launches.table(launches.read(content))}\n"
        f"Made {content['date'][:10]} with torch {content['torch']}, triton {content['triton']}, "
        f"by\n\n    {content['command']}\n"
    )


def _losses(device: Path, pictures: Path | None) -> str:
    names = [f"{op}-{dtype}.json" for dtype in ("float32", "bfloat16") for op in PEERS]
    contents = [_read(device / "peers" / name) or _read(device / name) for name in names]
    contents = [content for content in contents if content and "ours" in _rows(content)]
    if not contents:
        return ""
    lines = [_loss(content) for content in contents]
    text = "### Losses, forward and backward\n\n"
    if pictures:
        name = f"benchmarks-{device.name}.png"
        plot_speedups([_speedups(x) for x in contents], pictures / name)
    text += f"![Speed of our losses over others](benchmarks-{device.name}.png)\n\n"
    text += (
        "| loss | shape | over eager | over `torch.compile` | over others "
        "| memory: ours | eager | others | of the roof | error |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    meanings = {content["op"]: CASES[content["op"]].shape_meaning for content in contents}
    notes = "; ".join(f"`{op}`: {x.partition(';')[0]}" for op, x in meanings.items())
    return f"{text}{''.join(lines)}\nShapes are N×D. {notes}.\n\n{_made(contents)}"


def _loss(content: Content) -> str:
    rows = _rows(content)
    ours = rows["ours"]
    others = [name for name in rows if name not in PLAIN]
    factors = [_times(rows.get(name), ours) for name in ("eager", "compile")]
    peers = ", ".join(f"{name} {_times(rows[name], ours)}" for name in others) or "–"
    memory = [_mebibytes(ours), _mebibytes(rows.get("eager"))]
    memory.append(", ".join(f"{name} {_mebibytes(rows[name])}" for name in others) or "–")
    error = ours["errors"]["gradient_norm"] / ours["eager_errors"]["gradient_norm"]
    cells = [f"`{content['op']}`", ours["shape"].replace("x", "×"), *factors, peers, *memory]
    cells += [f"{ours['fraction_of_roof']:.0%}", f"{error:.2f}"]
    return f"| {' | '.join(cells)} |\n"


def _speedups(content: Content) -> tuple[str, dict[str, float]]:
    """The operation, and the speed-up of ours over each other implementation."""
    rows = _rows(content)
    ours = rows.pop("ours")["p50_ms"]
    rows.pop("tiled", None)
    return content["op"], {name: row["p50_ms"] / ours for name, row in rows.items()}


def _slices(device: Path) -> str:
    """Shapes of the losses on random slices other than the published one."""
    lines, contents = "", []
    for op in gaussian_cases.CASES:
        content = _read(device / f"{op}-float32.json")
        shapes = dict.fromkeys(row["shape"] for row in content["rows"]) if content else {}
        shapes.pop(format_shape(PEERS[op]), None)
        contents += [content] if shapes else []
        for shape in shapes:
            rows = _rows(content, shape)
            ours = rows.pop("ours", None)
            for name, row in rows.items() if ours else ():
                lines += (
                    f"| `{op}` | {shape.replace('x', '×')} | {name} | {_times(row, ours)} "
                    f"| {_mebibytes(row, 1)} | {_mebibytes(ours, 1)} |\n"
                )
    return lines and (
        f"### Random slices, at other shapes\n\n{gaussian_cases.MEANING}.\n\n"
        "| loss | shape | implementation | its time over ours | its memory | ours |\n"
        f"|---|---|---|---|---|---|\n{lines}\n{_made(contents)}"
    )


def _rows(content: Content, shape: str | None = None) -> dict[str, Content]:
    """Rows of both passes together at the published shape, by implementation; only timed ones."""
    shape = shape or format_shape(PEERS[content["op"]])
    rows = (row for row in content["rows"] if row["mode"] == "fwdbwd" and row["status"] == "ok")
    return {row["impl"]: row for row in rows if row["shape"] == shape}


def _step(device: Path) -> str:
    text = ""
    for path in sorted(device.glob("step-*.json")):
        content = _read(path)
        before, after = content["rows"]
        parts = [key for key in before if key not in ("impl", "rounds")]
        whole = [sum(row[part] for part in parts) for row in (before, after)]
        text += (
            f"\n`{content['method']}`, `{content['backbone']}`, {content['batch']} images, "
            f"views of {content['size']} pixels, {content['precision']}:\n\n"
            "| part of a step | before | after |\n|---|---|---|\n"
        )
        for part in parts:
            shares = (f"{row[part] / whole[0]:.1%}" for row in (before, after))
            text += f"| {part} | {' | '.join(shares)} |\n"
        text += f"| together | 100.0% | {whole[1] / whole[0]:.1%} |\n\n{_made([content])}"
    return text and (
        "### A step of training\n\nShares of the whole step before. It says when a faster loss "
        "matters, and when it does not: *before* has an eager loss, and views by public code.\n"
        + text
    )


def _views(device: Path) -> str:
    content = _read(device / "views-uint8.json")
    if not content:
        return ""
    key = next(key for key in content["rows"][0] if key.endswith(("_image", "_batch")))
    times = {row["impl"]: statistics.median(row["rounds"]) for row in content["rows"]}
    text = f"### Views\n\n{content['work']}; `{key}`, of ours {times['ours']:.2f}.\n\n"
    text += "| implementation | times ours |\n|---|---|\n"
    for name, time in times.items():
        if name != "ours":
            text += f"| {name} | {time / times['ours']:.2f} |\n"
    return f"{text}\n{_made([content])}"


def _large_batch(device: Path) -> str:
    content = _read(device / "large_batch-float32.json")
    if not content:
        return ""
    return (
        f"### A batch that others cannot hold\n\nOne step of NT-Xent of {content['pairs']:,} pairs "
        f"of {content['features']} features: {content['extra_bytes'] / 2**20:,.0f} MiB beyond the "
        f"inputs, where the similarities alone would be "
        f"{content['similarities_bytes'] / 2**30:,.0f} GiB.\n\n{_made([content])}"
    )


def _max_batch(device: Path) -> str:
    content = _read(device / "max_batch-float32.json")
    if not content:
        return ""
    names = list(dict.fromkeys(row["impl"] for row in content["rows"]))
    found = {(row["op"], row["impl"]): row["largest"] for row in content["rows"]}
    text = (
        f"### The largest batch in {content['budget_mib']} MiB\n\n"
        "N, to a quarter, at which loss and gradients stay within that, beyond the inputs.\n\n"
        f"| loss | D | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}\n"
    )
    for op, features in dict.fromkeys((row["op"], row["features"]) for row in content["rows"]):
        cells = []
        for name in names:
            largest = found.get((op, name))
            cells.append("–" if largest is None else f"{largest:,}" if largest else "none")
        text += f"| `{op}` | {features} | {' | '.join(cells)} |\n"
    return f"{text}\n{_made([content])}"


def _small(device: Path) -> str:
    content = _read(device / "small.json")
    if not content:
        return ""
    rows = [Row(**row) for row in content["rows"]]
    return (
        "### Small batches\n\nThe time of the plain torch lines over that of each, forward and "
        "backward in float32, by rows of a batch: above 1, it is faster than plain torch. "
        f"*ours* is commit {content['commit']}, *before* is {content['before'] or '–'}. With as "
        "many threads as the machine has cores, a point far from its neighbours is noise, mostly "
        f"of plain torch.\n\n{table(rows)}\n\n{_made([content])}"
    )


SECTIONS = (_slices, _small, _step, _max_batch, _views, _large_batch)


def _made(contents: Sequence[Content]) -> str:
    commands = dict.fromkeys(content["command"] for content in contents)
    first = contents[0]
    dates = sorted({content["date"][:10] for content in contents})
    versions = f"torch {first['torch']}, triton {first['triton']}, {first['threads']} threads"
    lines = "".join(f"    {command}\n" for command in commands)
    return (
        f"Made {' to '.join(dict.fromkeys((dates[0], dates[-1])))} with {versions}, by\n\n{lines}"
    )


def _times(other: Content | None, ours: Content) -> str:
    return "–" if other is None else f"{other['p50_ms'] / ours['p50_ms']:.1f}×"


def _mebibytes(row: Content | None, places: int = 0) -> str:
    if row is None or row["extra_bytes"] is None:
        return "–"
    return f"{row['extra_bytes'] / 2**20:,.{places}f} MiB"


def _read(path: Path) -> Content | None:
    return json.loads(path.read_text()) if path.exists() else None


def _any(device: Path) -> Content:
    return json.loads(next(iter(sorted(device.rglob("*.json")))).read_text())


if __name__ == "__main__":
    main()
