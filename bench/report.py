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
from .plot import Ratios, plot_ratios
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
LABELS = {
    "nt_xent": "SimCLR (NT-Xent)", "dcl": "DCL", "supcon": "SupCon", "clip": "CLIP",
    "siglip": "SigLIP", "moco": "MoCo", "barlow_twins": "Barlow Twins", "vicreg": "VICReg",
    "dino": "DINO", "dino_head": "DINO, fused head", "ibot_head": "iBOT, fused head",
    "swav": "SwAV", "sigreg": "SIGReg", "lejepa": "LeJEPA", "visreg": "VISReg",
}  # fmt: skip
Content = dict[str, Any]

OPENING = """# Benchmarks

Speed and memory of each loss beside plain torch and other libraries, for readers who want to know
whether switching pays. `python -m bench.report` writes this page from the files in
`bench/results/`, which `make bench` writes. Do not edit it.

**Time.** A factor is the median time of the other implementation divided by ours: above 1, ours is
faster. The implementations of a row were timed in turns in one run, so noise affects all alike.

**Memory** is the peak beyond the inputs, including gradients.

**Error.** Each implementation was first checked against float64. *Error* is the error of our
gradient divided by that of eager torch in the same dtype.

**Of the roof** is the fraction of the highest matrix-product rate reached in the same run. DINO and
SwAV have no matrix product; there it is the time that memory traffic or exponentials alone would
take, whichever is longer, divided by our time.

A dash means not measured: the library is not installed there, or the shape does not fit.
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
        "\n## Number of GPU launches\n\n"
        "Launches of a forward and a backward pass in bfloat16, including those of torch "
        'operations: ours with `impl="triton"`, and plain torch. They are counted without a '
        f"device. Host times are **modelled, not measured**: {launches.MODEL}.\n\n"
        f"{launches.table(launches.read(content))}\n"
        f"Counted {content['date'][:10]} with torch {content['torch']}, "
        f"triton {content['triton']}, by\n\n    {content['command']}\n"
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
        plot_ratios([_ratios(x) for x in contents], pictures / name)
    text += (
        f"![Time and memory of other implementations over ours](benchmarks-{device.name}.png)\n\n"
    )
    text += (
        "| loss | shape | over eager | over `torch.compile` | over others "
        "| memory: ours | eager | others | of the roof | error |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
    )
    meanings: dict[str, list[str]] = {}
    for content in contents:
        meaning = CASES[content["op"]].shape_meaning.partition(";")[0]
        meanings.setdefault(meaning, []).append(f"`{content['op']}`")
    notes = "".join(f"- {', '.join(dict.fromkeys(x))}: {y}\n" for y, x in meanings.items())
    return f"{text}{''.join(lines)}\nShapes:\n\n{notes}\n{_made(contents)}"


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


def _ratios(content: Content) -> Ratios:
    """How many times the time and memory of ours each other takes."""
    rows = _rows(content)
    ours = rows.pop("ours")
    rows.pop("tiled", None)
    factors = (
        {name: row[key] / ours[key] for name, row in rows.items()}
        for key in ("p50_ms", "extra_bytes")
    )
    shape = ours["shape"].replace("x", "×")
    return Ratios(f"{LABELS.get(content['op'], content['op'])}, {shape}", *factors)


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
        f"### SIGReg and related losses at other shapes\n\n{gaussian_cases.MEANING}.\n\n"
        "| loss | shape | implementation | its time / ours | its memory | our memory |\n"
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
            f"views of {content['size']} × {content['size']} pixels, {content['precision']}:\n\n"
            "| part of a step | before | after |\n|---|---|---|\n"
        )
        for part in parts:
            shares = (f"{row[part] / whole[0]:.1%}" for row in (before, after))
            text += f"| {part} | {' | '.join(shares)} |\n"
        text += f"| together | 100.0% | {whole[1] / whole[0]:.1%} |\n\n{_made([content])}"
    return text and (
        "### A training step\n\nShares of the whole step before. They show when a faster loss "
        "matters: *before* uses an eager loss and public augmentation code, *after* uses ours.\n"
        + text
    )


def _views(device: Path) -> str:
    content = _read(device / "views-uint8.json")
    if not content:
        return ""
    key = next(key for key in content["rows"][0] if key.endswith(("_image", "_batch")))
    times = {row["impl"]: statistics.median(row["rounds"]) for row in content["rows"]}
    text = f"### Views\n\n{content['work']}. Ours takes {times['ours']:.2f} (`{key}`).\n\n"
    text += "| implementation | its time / ours |\n|---|---|\n"
    for name, time in times.items():
        if name != "ours":
            text += f"| {name} | {time / times['ours']:.2f} |\n"
    return f"{text}\n{_made([content])}"


def _large_batch(device: Path) -> str:
    content = _read(device / "large_batch-float32.json")
    if not content:
        return ""
    return (
        f"### A very large batch\n\nOne step of NT-Xent with {content['pairs']:,} pairs of "
        f"{content['features']} features needs {content['extra_bytes'] / 2**20:,.0f} MiB beyond "
        f"the inputs. The similarities alone would be "
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
        "The largest N, to within a quarter, whose loss and gradients fit into this memory beyond "
        "the inputs.\n\n"
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
        "### Small batches\n\nThe time of plain torch divided by that of each implementation, "
        "forward and backward in float32, per batch size: above 1, it is faster than plain torch. "
        f"*ours* is commit {content['commit']}, *before* is {content['before'] or '–'}. With as "
        "many threads as cores, outliers are noise, mostly of plain torch.\n\n"
        f"{table(rows)}\n\n{_made([content])}"
    )


SECTIONS = (_slices, _small, _step, _max_batch, _views, _large_batch)


def _made(contents: Sequence[Content]) -> str:
    commands = dict.fromkeys(content["command"] for content in contents)
    first = contents[0]
    dates = sorted({content["date"][:10] for content in contents})
    versions = f"torch {first['torch']}, triton {first['triton']}, {first['threads']} threads"
    lines = "".join(f"    {command}\n" for command in commands)
    return (
        f"Measured {' to '.join(dict.fromkeys((dates[0], dates[-1])))} with {versions}, by\n\n"
        f"{lines}"
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
