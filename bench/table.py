"""The output of a run: a table, and a JSON file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from .cases import CASES
from .machine import describe_machine
from .measure import Row, Settings, ShapeResult

_COLUMNS = (
    ("shape", 12, "<"),
    ("mode", 6, "<"),
    ("impl", 18, "<"),
    ("p50 ms", 9, ">"),
    ("[p20 – p80]", 19, ">"),
    ("×eager", 7, ">"),
    ("{unit}", 8, ">"),
    ("%roof", 6, ">"),
    ("extra MiB", 10, ">"),
    ("gradient error", 15, "<"),
)


def describe_run(settings: Settings) -> dict[str, object]:
    """The machine and the versions, as they go into the JSON file and above the table."""
    case = CASES[settings.op]
    work = case.work(case.shapes["quick"][0]).describe(settings.device)
    return {
        "op": settings.op,
        "dtype": str(settings.dtype).removeprefix("torch."),
        "temperature": settings.temperature if case.has_temperature else None,
        **describe_machine(settings.device),
        "work": f"{case.shape_meaning}; {work}",
    }


def format_header(run: dict[str, object]) -> str:
    commit = f" ({run['commit']})" if run["commit"] else ""
    temperature = run["temperature"]
    setting = "" if temperature is None else f" · temperature {temperature:g}"
    return (
        f"{run['device']} · {' '.join(run['instruction_sets'])}"
        f" · {run['threads']} threads · load {run['load']:.1f}\n"
        f"torch {run['torch']} · triton {run['triton']} · python {run['python']}"
        f" · sslkernels {run['sslkernels']}{commit}\n"
        f"{run['op']} · {run['dtype']}{setting}\n{run['work']}"
    )


def format_result(result: ShapeResult, device: str) -> str:
    """The table of one shape, then its roofs and floors; at most 120 columns."""
    unit, scale = ("TFLOP/s", 1e12) if device == "cuda" else ("GFLOP/s", 1e9)
    lines = [_line([title.format(unit=unit) for title, _, _ in _COLUMNS])]
    lines.append("-" * len(lines[0]))
    for mode in result.floors_ms:
        lines += [_format_row(row, scale) for row in result.rows if row.mode == mode]
    if result.eager_errors_from != result.shape:
        lines.append(f"eager errors are from {result.eager_errors_from}: larger shapes do not fit")
    rate = result.rates
    lines.append(
        f"roof: {rate['GEMM'] / scale:,.0f} {unit} matrix product, {rate['DRAM'] / 1e9:,.0f} GB/s"
        f" copy, {rate['exp'] / 1e9:,.1f} G/s exp"
    )
    for mode, floors in result.floors_ms.items():
        each = ", ".join(f"{resource} {time:.3g} ms" for resource, time in floors.items())
        lines.append(f"floor {mode}: {each}; limited by {max(floors, key=floors.get)}")
    return "\n".join(lines)


def _format_row(row: Row, scale: float) -> str:
    start = [row.shape, row.mode, row.impl]
    if row.status == "wrong result":
        found = ", ".join(f"{name} {error:.1e}" for name, error in row.errors.items())
        return f"{_line(start)}  WRONG: {found}"
    if row.status != "ok":
        return f"{_line(start)}  {row.status}"
    cells = [
        f"{row.p50_ms:.3f}" if row.p50_ms < 100 else f"{row.p50_ms:.1f}",
        "[{} – {}]".format(*(f"{t:.{4 if t < 1000 else 6}g}" for t in (row.p20_ms, row.p80_ms))),
        "" if row.speedup_over_eager is None else f"{row.speedup_over_eager:.2f}",
        f"{row.flops_per_second / scale:.1f}",
        f"{row.fraction_of_roof:.0%}",
        "" if row.extra_bytes is None else f"{row.extra_bytes / 2**20:,.1f}",
        f"ok {row.errors['gradient_norm'] / row.eager_errors['gradient_norm']:.2f}×eager",
    ]
    return _line([*start, *cells]).rstrip()


def _line(cells: Sequence[str]) -> str:
    return " ".join(
        f"{cell:{align}{width}}" for cell, (_, width, align) in zip(cells, _COLUMNS, strict=False)
    )


def write_json(
    path: Path, run: dict[str, object], command: str, results: Sequence[ShapeResult]
) -> None:
    """One file per run: the machine, the command, and every row."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(as_content(run, command, results), indent=1, ensure_ascii=False)
    path.write_text(text + "\n")


def as_content(
    run: dict[str, object], command: str, results: Sequence[ShapeResult]
) -> dict[str, object]:
    """A run as JSON-compatible data."""
    rows = [asdict(row) for result in results for row in result.rows]
    for row in rows:  # JSON has no NaN
        for errors in filter(None, (row["errors"], row["eager_errors"])):
            errors |= {name: None for name, error in errors.items() if not math.isfinite(error)}
    shapes = [asdict(replace(result, rows=[])) for result in results]
    for shape in shapes:
        del shape["rows"]
    return run | {"command": command, "shapes": shapes, "rows": rows}
