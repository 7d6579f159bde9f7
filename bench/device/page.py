"""docs/gpu.md, from the results of device runs in bench/results/<device>/run/."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from .clocks import CASES
from .outcomes import read_lines
from .run import outcome, read_summary
from .speed import SHAPES
from .stages import CLOCKS, SPEED, TESTS

ROOT = Path(__file__).parents[2]
RESULTS, PAGE, GPU_TESTS = ROOT / "bench/results", ROOT / "docs/gpu.md", ROOT / "tests/gpu"

OPENING = """# On GPUs

Which kernels have been tested and measured on a GPU, for readers who want to run on one.
`python -m bench.device.page` writes this page from `bench/results/<device>/run/`, which
`python -m bench.device --out bench/results/<device>/run` fills on a machine with a GPU. Do not
edit it.

*Never run* means that the kernel has been tested in Triton's interpreter, compiled for the
architecture and checked against its limits, and that its host code has run on tensors without
values. It has not run on a device. Modelled clocks are predictions for an H100, not measurements.
"""
NEVER = "never run"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(RESULTS))
    print(f"wrote {PAGE}")


def page(results: Path) -> str:
    """The page in Markdown: a section for each device, or one for no device."""
    folders = sorted(path for path in results.glob("*/run") if is_of_a_device(path))
    sections = [f"\n## {folder.parent.name}\n\n{summary(folder)}" for folder in folders]
    return OPENING + "".join(sections or [f"\n## No device so far\n\n{summary(results / NEVER)}"])


def is_of_a_device(folder: Path) -> bool:
    """Whether its numbers are real: not those of a dry run."""
    stages = read_summary(folder)["stages"].values()
    return bool(stages) and not any(row["dry"] for row in stages)


def summary(folder: Path) -> str:
    """The results of a run: stages, tests by kernel, times by loss and shape, clocks."""
    stages = read_summary(folder)["stages"]
    parts = []
    if stages:
        rows = [
            (name, outcome(row), f"{row['seconds']:.0f} s", row["date"][:10], row["commit"])
            for name, row in stages.items()
        ]
        parts.append(table(("stage", "outcome", "duration", "date", "commit"), rows))
    parts.append("### Tests\n\n" + tests(read_lines(folder / TESTS)))
    parts.append("### Speed\n\n" + speed(read_lines(folder / SPEED)))
    parts.append("### Modelled and measured clocks\n\n" + clocks(read_lines(folder / CLOCKS)))
    return "\n\n".join(parts) + "\n"


def tests(rows: Sequence[dict[str, Any]]) -> str:
    """By file and test function of tests/gpu: the number passed, date and commit."""
    last = {row["test"]: row for row in rows}
    lines = []
    for path in sorted(GPU_TESTS.glob("test_*.py")):
        for name in functions(path):
            start = f"tests/gpu/{path.name}::{name}"
            found = [row for test, row in last.items() if test.partition("[")[0] == start]
            kernel = path.stem.removeprefix("test_").removesuffix("_gpu")
            lines.append((kernel, name, *cells(found)))
    return table(("kernel", "test", "outcome", "date", "commit"), lines)


def functions(path: Path) -> list[str]:
    nodes = ast.parse(path.read_text()).body
    return [x.name for x in nodes if isinstance(x, ast.FunctionDef) and x.name.startswith("test_")]


def cells(rows: Sequence[dict[str, Any]]) -> tuple[str, str, str]:
    if not rows:
        return NEVER, "", ""
    counts = Counter(row["outcome"] for row in rows)
    newest = max(rows, key=lambda row: row["date"])
    text = ", ".join(f"{count} {name}" for name, count in counts.items())
    return text, newest["date"][:10], str(newest["commit"])


def speed(contents: Sequence[dict[str, Any]]) -> str:
    """By loss and shape, forward and backward in bfloat16."""
    measured = {
        (content["op"], row["shape"], row["impl"]): (content, row)
        for content in contents
        for row in content["rows"]
        if row["mode"] == ("fwd" if content["op"] == "views" else "fwdbwd")
    }
    lines = []
    for op, shapes in {**SHAPES, "views": ((512, 224),)}.items():
        for shape in ("x".join(map(str, shape)) for shape in shapes):
            if (op, shape, "ours") not in measured:
                lines.append((op, shape, NEVER, *[""] * 8))
                continue
            content, row = measured[op, shape, "ours"]
            host = content.get("host_ms", {})
            _, fused = measured.get((op, shape, "fused"), (None, {}))
            is_fused = fused.get("status") == "ok"
            lines.append((
                op, shape, row["status"], number(row["p50_ms"], "ms"),
                number(row.get("speedup_over_eager"), "x"),
                number(ratio(host, "eager", "ours"), "x"),
                number(row["p50_ms"] / fused["p50_ms"] if is_fused else None, "x"),
                number(ratio(host, "ours", "fused"), "x"),
                number(row.get("fraction_of_roof") and 100 * row["fraction_of_roof"], "%"),
                content["date"][:10], str(content["commit"]),
            ))  # fmt: skip
    heads = (
        "loss", "shape", "result", "time", "GPU time, eager / ours", "host time, eager / ours",
        "GPU time, ours / one operator", "host time, ours / one operator", "of the roof", "date",
        "commit",
    )  # fmt: skip
    return table(heads, lines)


def ratio(host: dict[str, float], one: str, other: str) -> float | None:
    return host[one] / host[other] if {one, other} <= host.keys() else None


def clocks(rows: Sequence[dict[str, Any]]) -> str:
    """Predicted and measured clocks."""
    measured = {(row["group"], row["name"], row["d"]): row for row in rows}
    lines = []
    for case in CASES:
        row = measured.get(case[:3])
        tile = f"{case.tile.BM}x{case.tile.BN}, {case.tile.num_warps} warps"
        found = (NEVER, "", "")
        if row:
            ratio = number(row["measured"] / case.predicted, "x")
            found = (str(row["measured"]), ratio, str(row["ctas_per_sm"]))
        lines.append((case.group, f"{case.name}, D = {case.d}", tile, str(case.predicted), *found))
    heads = ("group", "loop", "tile", "clocks per tile, modelled", "measured", "ratio", "CTAs")
    return table(heads, lines)


def number(value: float | None, unit: str) -> str:
    return f"{value:.3g} {unit}" if value else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


if __name__ == "__main__":
    main()
