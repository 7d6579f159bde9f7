"""``python -m bench --op nt_xent,dcl``: check, time and report."""

from __future__ import annotations

import argparse
import importlib.util
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from .baselines import BASELINES
from .cases import CASES, Shape
from .machine import slug
from .measure import MODES, Settings, ShapeResult, format_shape, measure
from .plot import plot_rows
from .suite import SUITES
from .table import describe_run, format_header, format_result, write_json

DTYPES = ("float32", "bfloat16", "float16")
RESULTS = Path(__file__).parent / "results"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns 1 if ours is wrong or fails; bad arguments exit with 2."""
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.list:
        print(_listing())
        return 0
    if arguments.suite and arguments.shapes:
        parser.error("--suite has its own shapes: leave --shapes out")
    for op in arguments.op:
        if any(len(shape) > 2 + CASES[op].more_sizes for shape in arguments.shapes or ()):
            parser.error(f"--shapes: those of {op} are NxD")
    names = {op: _names(parser, arguments, op) for op in arguments.op}
    if arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device")
    if arguments.plot and importlib.util.find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: pip install matplotlib")
    if arguments.temperature == 0:
        parser.error("--temperature must not be 0")
    if len(arguments.op) > 1 and (arguments.json or arguments.plot):
        parser.error("--json and --plot take the name of one file: give one --op, or --save")
    command = shlex.join(["python", "-m", "bench", *argv])
    return max(_run(arguments, op, names[op], command) for op in arguments.op)


def _run(arguments: argparse.Namespace, op: str, names: Sequence[str], command: str) -> int:
    """Measure one operation; 1 if ours is wrong or fails, else 0."""
    quick, device, suite = arguments.quick, arguments.device, arguments.suite
    settings = Settings(
        op,
        getattr(torch, arguments.dtype),
        device,
        arguments.temperature,
        [mode for mode in MODES if mode in arguments.modes],
        seconds=arguments.seconds or (0.5 if quick else 5 if device == "cuda" else 10),
        min_rounds=3 if quick else 5,
    )
    run = describe_run(settings)
    print(format_header(run), flush=True)
    results: list[ShapeResult] = []
    shapes = arguments.shapes or CASES[op].shapes["quick" if quick else device]
    for shape in [SUITES[suite][op]] if suite else shapes:
        results.append(measure(settings, shape, names, _progress))
        print("\n" + format_result(results[-1], device), flush=True)
    print(flush=True)
    rows = [row for result in results for row in result.rows]

    path = arguments.json
    if arguments.save and not path:
        path = RESULTS / slug(str(run["device"])) / (suite or "") / f"{op}-{arguments.dtype}.json"
    if path:
        write_json(path, run, command, results)
        _progress(f"wrote {path}")
    if arguments.plot:
        plot_rows(rows, f"{op}, {arguments.dtype} on {run['device']}", arguments.plot)
        _progress(f"wrote {arguments.plot}")
    return int(any(row.impl == "ours" and row.status != "ok" for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Check implementations against float64, then measure time and memory.",
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    add = parser.add_argument
    add("--op", type=_ops, default=list(CASES), metavar="A,B", help="see --list (default: all)")
    add("--shapes", nargs="+", type=parse_shape, metavar="NxD", help="see --list for the defaults")
    add("--dtype", choices=DTYPES, default="float32")
    add("--temperature", type=float, default=0.1)
    add("--baseline", metavar="A,B", help="measured next to ours (default: all but tiled)")
    add("--modes", type=_modes, default=MODES, metavar="A,B", help=f"of {', '.join(MODES)}")
    add("--device", choices=("cpu", "cuda"), default=device)
    add("--json", type=Path, metavar="FILE", help="write everything measured")
    add(
        "--save",
        action="store_true",
        help="write bench/results/<device>/[<suite>/]<op>-<dtype>.json",
    )
    add("--plot", type=Path, metavar="FILE", help="draw speed-up and memory against N")
    add("--suite", choices=SUITES, help="one published shape of each operation, beside its peers")
    add("--quick", action="store_true", help="a small shape and few rounds")
    add("--seconds", type=float, metavar="S", help="of timing per shape (default: 10; on CUDA 5)")
    add("--list", action="store_true", help="list operations, shapes and baselines")
    return parser


def _ops(text: str) -> list[str]:
    ops = text.split(",")
    if not set(ops) <= CASES.keys():
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(CASES)}, got {text!r}")
    return list(dict.fromkeys(ops))


def parse_shape(text: str) -> Shape:
    parts = text.lower().split("x")
    if len(parts) not in (2, 3) or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"expected NxD such as 4096x128 (or NxDxM), got {text!r}")
    return tuple(map(int, parts))


def _modes(text: str) -> list[str]:
    modes = text.split(",")
    if not set(modes) <= set(MODES):
        raise argparse.ArgumentTypeError(f"expected some of {', '.join(MODES)}, got {text!r}")
    return modes


def _names(parser: argparse.ArgumentParser, arguments: argparse.Namespace, op: str) -> list[str]:
    """Ours first, then implementations that run on this device only, then the baselines requested.

    With several operations, each uses the baselines that it has.
    """
    known = BASELINES[op]
    if arguments.baseline is None:
        fitting = (name for name in known if arguments.device in known[name].devices)
        return [name for name in fitting if name != "tiled"]
    asked = [name for name in arguments.baseline.split(",") if name]
    for name in asked:
        if not any(name in BASELINES[each] for each in arguments.op):
            parser.error(f"--baseline {name}: {op} has {', '.join(known)}")
    names = ["ours", "cuda", *asked] if arguments.device == "cuda" else ["ours", *asked]
    return [name for name in dict.fromkeys(names) if name in known]


def _listing() -> str:
    lines = []
    for op, case in CASES.items():
        lines.append(f"{op}: {case.shape_meaning}")
        for device, shapes in case.shapes.items():
            lines.append(f"  {device} shapes: " + " ".join(map(format_shape, shapes)))
        for name, baseline in BASELINES[op].items():
            lines.append(f"  {name:<18} {baseline.about} ({', '.join(baseline.devices)})")
    return "\n".join(lines)


def _progress(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
