"""The cost of a loss on host and device, forward and backward: ours and plain torch.

    python -m bench.launches
    python -m bench.launches --ops nt_xent clip --detail
    python -m bench.launches --save

Counted on tensors without values (``bench/rehearsal``), in bfloat16, so no device is needed. A
launch is a torch operation that computes or copies, or a Triton kernel. The microseconds are a
model of the host, not measured: a cost for each operation, operator, autograd function and launch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import BackwardCFunction, Function
from triton.runtime.jit import JITFunction

from sslkernels._operator import Differentiable, operator

from .baselines import BASELINES
from .cases import CASES
from .machine import commit

ROWS = 512
SHAPES = {  # N x D, or N x K prototypes
    **dict.fromkeys(("nt_xent", "dcl", "supcon", "clip", "siglip", "moco"), (ROWS, 128)),
    **dict.fromkeys(("barlow_twins", "vicreg"), (ROWS, 2048)),
    "dino": (64, 4096),
    "ibot_head": (ROWS, 4096),
    "swav": (64, 3000),
    **dict.fromkeys(("sigreg", "lejepa"), (ROWS, 128)),
}
# of a forward and a backward pass together
BUDGETS = {
    "nt_xent": 8, "clip": 9, "siglip": 6, "supcon": 12, "moco": 9, "dcl": 8, "barlow_twins": 14,
    "vicreg": 18, "dino": 11, "ibot_head": 10, "swav": 20, "sigreg": 10, "lejepa": 27,
}  # fmt: skip
# microseconds of the host, a model: an operator through torch's dispatcher takes 30, an autograd
# function bound by torch 20, a kernel bound by Triton 12.5; ours take these fractions, measured
# without a device on the slower of two hosts (for an operator: 0.58 and 0.85): see
# `operator_share`, `function_share`, `launcher_share`
OPERATION, OPERATOR, FUNCTION, LAUNCH = 5.0, 0.85 * 30, 0.37 * 20, 0.47 * 12.5
MODEL = (
    f"{OPERATION:g} µs per torch operation, {OPERATOR:g} per custom operator of ours, "
    f"{FUNCTION:g} per autograd function, {LAUNCH:g} per Triton kernel"
)
ALLOCATIONS = {
    "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_local_scalar_dense",
    "lift_fresh", "_unsafe_view", "detach", "is_same_size", "resize_",
}  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "launches.json"


@dataclass
class Count:
    """The counts of both passes."""

    operations: dict[str, int]  # torch operations that launch
    operators: int  # of ours
    functions: int  # calls of autograd functions in Python, forward and backward
    kernels: dict[str, int]  # of Triton

    @property
    def launches(self) -> int:
        return sum(self.operations.values()) + sum(self.kernels.values())

    @property
    def microseconds(self) -> float:
        """Host time, by the model."""
        return (
            OPERATION * sum(self.operations.values())
            + OPERATOR * self.operators
            + FUNCTION * self.functions
            + LAUNCH * sum(self.kernels.values())
        )


def count(loss: Callable[..., Tensor], inputs: Sequence[Tensor], seen: Counter[Any]) -> Count:
    """The counts of one step; ``seen`` is the counter of the active rehearsal."""
    from .rehearsal.launches import launched

    with _applications() as applied:
        loss(*inputs).backward()  # initialise what is created once
        for x in inputs:
            x.grad = None
        seen.clear()
        launched.clear()
        applied.clear()
        value = loss(*inputs)
        functions = len(applied) + _backward_functions(value)
        value.backward()
    operations, operators = Counter[str](), 0
    for function, times in seen.items():
        if function.namespace == "sslkernels":
            operators += times
        elif not _launches_nothing(function):
            operations[function.overloadpacket.__name__] += times
    return Count(dict(operations), operators, functions, dict(launched))


def _launches_nothing(function: Any) -> bool:
    """Whether it only makes a view or allocates memory."""
    results = function._schema.returns
    is_view = any(x.alias_info is not None and not x.alias_info.is_write for x in results)
    return is_view or function.overloadpacket.__name__ in ALLOCATIONS


@contextmanager
def _applications() -> Iterator[list[type]]:
    """Every application of an autograd function."""
    calls: list[type] = []

    def counted(original):
        def apply(cls, *arguments):
            calls.append(cls)
            return original(cls, *arguments)

        return classmethod(apply)

    originals = {cls: cls.apply.__func__ for cls in (Function, Differentiable)}
    for cls, original in originals.items():
        cls.apply = counted(original)
    try:
        yield calls
    finally:
        for cls, original in originals.items():
            cls.apply = classmethod(original)


def _backward_functions(loss: Tensor) -> int:
    seen, todo = set(), [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is not None and node not in seen:
            seen.add(node)
            todo += [after for after, _ in node.next_functions]
    return sum(isinstance(node, BackwardCFunction) for node in seen)


def measure(op: str, seen: Counter[Any]) -> dict[str, Count]:
    """The counts of ours with Triton, and of plain torch."""
    inputs = CASES[op].make_inputs(SHAPES[op], torch.bfloat16, "cpu", 0.1)
    inputs = [x.detach().cuda().requires_grad_(x.requires_grad) for x in inputs]
    ours = BASELINES[op]["ours"].load(0.1, impl="triton")
    return {
        name: count(loss, inputs, seen)
        for name, loss in (("ours", ours), ("eager", BASELINES[op]["eager"].load(0.1)))
    }


def operator_share() -> float:
    """Host time of an operator call relative to torch's dispatcher."""
    schema = "returns_its_first(Tensor x, Tensor[] y, Tensor? z, float a, int[] b, bool[] c, str d)"
    call = operator(f"{schema} -> Tensor", lambda *x: x[0].clone(), lambda *x: x[0].clone())
    x = torch.ones(4)
    arguments = x, [x, x, x], None, 0.5, [0], [True] * 6, "cpu"
    itself, ours, torchs = times(
        x.clone,
        lambda: call(*arguments),
        lambda: torch.ops.sslkernels.returns_its_first.default(*arguments),
    )
    return (ours - itself) / (torchs - itself)


def function_share() -> float:
    """Host time of an autograd function's two passes relative to torch's own call."""
    x, options = torch.ones(4, requires_grad=True), (None, 0.5, (0,), [True] * 6, "cpu")

    class Same(Differentiable):
        @staticmethod
        def forward(x, z, a, b, c, d):
            return x.clone()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(inputs[0])

        @staticmethod
        def gradients(ctx, saved, grad):
            return grad, *[None] * 5

    def step(apply):
        return torch.autograd.grad(apply(x), x, x)

    itself, ours, torchs = times(
        lambda: step(torch.clone),
        lambda: step(lambda x: Same.apply(x, *options)),
        lambda: step(lambda x: Function.apply.__func__(Same, x, *options)),
    )
    return (ours - itself) / (torchs - itself)


def times(*functions: Callable[[], Any]) -> list[float]:
    """Medians of alternating calls."""
    found: list[list[float]] = [[] for _ in functions]
    for _ in range(3000):
        for function, seconds in zip(functions, found, strict=True):
            start = time.perf_counter()
            function()
            seconds.append(time.perf_counter() - start)
    return [statistics.median(seconds) for seconds in found]


def launcher_share() -> float:
    """Host time of a launch relative to Triton's binding, without the driver's."""
    from sslkernels.primitives._launcher import Kernel
    from sslkernels.primitives.contrastive import Contrastive
    from sslkernels.primitives.contrastive.triton import contrastive

    from .rehearsal import launches

    x = torch.randn(ROWS, 128, dtype=torch.bfloat16)
    problem = Contrastive(x, x.clone(), offset=ROWS, exclude=(-ROWS, 0, ROWS))
    fast, record = Kernel.run, launches.Kernel.run
    times: dict[str, list[float]] = {"fast": [], "bound": []}

    def both(self, *arguments, **options):
        for name, run in (("bound", JITFunction.run), ("fast", fast)):
            start = time.perf_counter()
            run(self, *arguments, **options)
            times[name].append(time.perf_counter() - start)

    launches.Kernel.run, Kernel.run = lambda self, *_: None, both
    try:
        for _ in range(200):
            contrastive(problem, [True, True, False, False, False, False])
    finally:
        launches.Kernel.run, Kernel.run = record, fast
    return statistics.median(times["fast"]) / statistics.median(times["bound"])


def table(rows: dict[str, dict[str, Count]]) -> str:
    """The table in Markdown."""
    text = (
        "| loss | shape | launches: ours | budget | plain torch | host, modelled: ours "
        "| plain torch | ratio |\n|---|---|---|---|---|---|---|---|\n"
    )
    for op, row in rows.items():
        ours, eager = row["ours"], row["eager"]
        shape = "×".join(map(str, SHAPES[op]))
        text += (
            f"| `{op}` | {shape} | {ours.launches} | {BUDGETS[op]} | {eager.launches} "
            f"| {ours.microseconds:.0f} µs | {eager.microseconds:.0f} µs "
            f"| {ours.microseconds / eager.microseconds:.2f} |\n"
        )
    return text


def read(content: dict[str, Any]) -> dict[str, dict[str, Count]]:
    """The rows of a results file."""
    return {
        op: {name: Count(**values) for name, values in row.items()}
        for op, row in content["rows"].items()
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Count, print and save."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.launches", description=__doc__.partition("\n")[0]
    )
    parser.add_argument("--ops", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--detail", action="store_true", help="name operations and kernels")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args(argv)
    from .rehearsal import Rehearsal, install

    install()
    with Rehearsal() as rehearsal:
        rows = {op: measure(op, rehearsal.operations.seen) for op in options.ops}
    print(table(rows))
    if options.detail:
        for op, row in rows.items():
            for name, x in row.items():
                print(f"{op} {name}: {x.operations} {x.operators} operators, {x.kernels}")
    if options.save:
        content = {
            "command": "python -m bench.launches --save",
            "commit": commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "torch": torch.__version__,
            "triton": triton.__version__,
            "operator_share": round(operator_share(), 3),
            "function_share": round(function_share(), 3),
            "launcher_share": round(launcher_share(), 3),
            "rows": {op: {name: asdict(x) for name, x in row.items()} for op, row in rows.items()},
        }
        RESULTS.write_text(json.dumps(content, indent=1) + "\n")
        print(f"wrote {RESULTS}")


if __name__ == "__main__":
    main()
