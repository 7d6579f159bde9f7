"""Checks, then times. Wrong results are not timed; failures become rows with the reason."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from .baselines import BASELINES, Baseline, Loss
from .cases import CASES, Shape, leaves
from .memory import available_memory, extra_memory_cpu, extra_memory_cuda
from .roofs import floors, in_mode, make_roofs, rates

MOST_FEATURES = 2048  # of the products that measure the roof
MODES = ("fwd", "bwd", "fwdbwd")


@dataclass
class Row:
    """One implementation, shape and mode. ``status`` is "ok", or why there is no time."""

    shape: str
    mode: str
    impl: str
    status: str = "ok"
    p50_ms: float | None = None
    p20_ms: float | None = None
    p80_ms: float | None = None
    rounds: int | None = None
    speedup_over_eager: float | None = None
    flops_per_second: float | None = None
    fraction_of_roof: float | None = None
    extra_bytes: int | None = None
    errors: dict[str, float] | None = None
    eager_errors: dict[str, float] | None = None


@dataclass
class ShapeResult:
    """The rows of one shape, and the machine's roofs measured in between."""

    shape: str
    rows: list[Row]
    rates: dict[str, float] = field(default_factory=dict)  # per second, by resource
    floors_ms: dict[str, dict[str, float]] = field(default_factory=dict)  # by mode and resource
    eager_errors_from: str = ""  # the shape at which eager's error was taken


@dataclass(frozen=True)
class Settings:
    op: str
    dtype: torch.dtype
    device: str
    temperature: float
    modes: Sequence[str]
    seconds: float  # of timing per shape, once min_rounds are done
    min_rounds: int
    max_rounds: int = 100


class Pass:
    """A forward and a backward pass over given inputs, as separate steps."""

    def __init__(self, loss: Loss, inputs: list[Tensor]):
        self.loss, self.inputs = loss, inputs
        self.value: Tensor | None = None

    def forward(self) -> None:
        self.value = self.loss(*self.inputs)

    def backward(self) -> tuple[Tensor, ...]:
        value, self.value = self.value, None
        return torch.autograd.grad(value, leaves(self.inputs))


def measure(
    settings: Settings, shape: Shape, names: Sequence[str], progress: Callable[[str], None]
) -> ShapeResult:
    """Check and time the named implementations of one operation at one shape."""
    label = format_shape(shape)
    case, baselines = CASES[settings.op], BASELINES[settings.op]
    inputs = make_inputs(settings, shape)
    progress(f"{label}: float64 result")
    exact = case.oracle(inputs, settings.temperature)
    eager_errors, eager_shape = _eager_errors(settings, shape, inputs, exact)

    passes: dict[str, Pass] = {}
    first: dict[str, Row] = {}
    for name in names:
        progress(f"{label}: checking {name}")
        row = first[name] = Row(label, "", name, eager_errors=eager_errors)
        try:
            passes[name] = load(settings, baselines[name], shape, inputs)
            known = name == "eager" and eager_shape == shape
            row.errors = eager_errors if known else errors(passes[name], exact)
            is_ours = name in ("ours", "tiled", "cuda")
            if not passed(row.errors, eager_errors, settings.dtype, slack=1 if is_ours else 10):
                row.status = "wrong result"
        except Exception as error:
            row.status = _reason(error)
        if row.status != "ok":
            passes.pop(name, None)

    memory = {}
    for name, run in passes.items():
        progress(f"{label}: memory of {name}")
        if settings.device == "cuda":
            memory[name] = extra_memory_cuda(run.loss, inputs)
        else:
            options = settings.op, name, shape, settings.dtype, settings.temperature
            memory[name] = extra_memory_cpu(*options)
    progress(f"{label}: timing {', '.join(passes) or 'nothing'}")
    times, rate = _time(settings, passes, shape[1])
    for name in passes.keys() - times.keys():
        first[name].status = "out of memory"
    work = case.work(shape)
    floor = {
        mode: floors(work, settings.dtype, settings.device, mode, rate) for mode in settings.modes
    }
    result = ShapeResult(label, [], rate, floor, format_shape(eager_shape))
    for mode in settings.modes:
        for name in names:
            row = Row(**(vars(first[name]) | {"mode": mode}))
            if name in times:
                _fill(row, times[name], in_mode(work.flops(settings.device), mode), rate)
                if not row.flops_per_second:  # no matrix product: the binding resource is the roof
                    row.fraction_of_roof = max(floor[mode].values()) / row.p50_ms
                row.extra_bytes = memory[name] and memory[name][mode]
                if "eager" in times:
                    eager = statistics.median(_samples(times["eager"], mode))
                    row.speedup_over_eager = eager / row.p50_ms
            result.rows.append(row)
    return result


def errors(run: Pass, exact: tuple[Tensor, list[Tensor]]) -> dict[str, float]:
    """Relative errors: the loss; the gradient by norm and by maximum; that of scalars, if any."""
    run.forward()
    loss, gradients = run.value.detach().double(), run.backward()
    exact_loss, exact_gradients = exact
    gradient, exact_gradient = _flat(gradients), _flat(exact_gradients)
    difference = gradient - exact_gradient
    found = {
        "loss": (loss - exact_loss).abs() / exact_loss.abs(),
        "gradient_norm": difference.norm() / exact_gradient.norm(),
        "gradient_max": difference.abs().max() / exact_gradient.abs().max(),
    }
    scalars = [gradient for gradient in gradients if gradient.dim() == 0]
    if scalars:
        exact_scalars = torch.stack([x for x in exact_gradients if x.dim() == 0])
        difference = torch.stack(scalars).double() - exact_scalars
        found["scalar_gradient"] = difference.norm() / exact_scalars.norm()
    return {name: error.item() for name, error in found.items()}


def passed(
    found: dict[str, float], eager: dict[str, float], dtype: torch.dtype, slack: float = 1
) -> bool:
    """At most twice the error of eager in the same dtype; a NaN never passes.

    ``slack`` is for other packages, whose rounding may differ in the same computation.
    """
    tiny = slack * max(8 * torch.finfo(torch.float32).eps, torch.finfo(dtype).eps / 8)
    return all(found[name] <= 2 * eager[name] + tiny for name in found)


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([x.reshape(-1).double() for x in gradients if x.dim() > 0])


def make_inputs(settings: Settings, shape: Shape) -> list[Tensor]:
    """The inputs of the implementations of an operation."""
    make = CASES[settings.op].make_inputs
    return make(shape, settings.dtype, settings.device, settings.temperature)


def _eager_errors(
    settings: Settings, shape: Shape, inputs: list[Tensor], exact: tuple[Tensor, list[Tensor]]
) -> tuple[dict[str, float], Shape]:
    """Eager's errors, with a smaller first dimension if its matrices do not fit."""
    case, eager = CASES[settings.op], BASELINES[settings.op]["eager"]
    while True:
        try:
            return errors(load(settings, eager, shape, inputs), exact), shape
        except (MemoryError, torch.OutOfMemoryError):
            shape = (min(shape[0] // 2, 4096), *shape[1:])
            inputs = make_inputs(settings, shape)
            exact = case.oracle(inputs, settings.temperature)


def load(settings: Settings, baseline: Baseline, shape: Shape, inputs: list[Tensor]) -> Pass:
    """An implementation with inputs; raises if it cannot run or its matrices would not fit."""
    if settings.device not in baseline.devices:
        raise ImportError(f"needs {' or '.join(baseline.devices)}")
    loss = baseline.load(settings.temperature)
    matrix = CASES[settings.op].work(shape).entries() * settings.dtype.itemsize
    needed = baseline.matrices * matrix
    if needed > available_memory(settings.device):
        raise MemoryError(f"would need {needed / 2**30:.0f} GiB")
    return Pass(loss, inputs)


def _reason(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return "not installed"
    if isinstance(error, torch.OutOfMemoryError):
        torch.cuda.empty_cache()
        return "out of memory"
    lines = str(error).splitlines() or [type(error).__name__]
    return lines[0] if isinstance(error, (ImportError, MemoryError)) else f"failed: {lines[0]}"


def _time(
    settings: Settings, passes: dict[str, Pass], features: int
) -> tuple[dict[str, list[list[float]]], dict[str, float]]:
    """Milliseconds of each step, round by round, and the roofs between them."""
    roofs = make_roofs(min(features, MOST_FEATURES), settings.dtype, settings.device)
    steps = {name: [run.forward, run.backward] for name, run in passes.items()}
    if list(settings.modes) == ["fwd"]:
        steps = {name: step[:1] for name, step in steps.items()}
    times: dict[str, list[list[float]]] = {name: [] for name in steps}
    roof_times: list[list[float]] = [[] for _ in roofs]
    elapsed = _elapsed_cuda if settings.device == "cuda" else _elapsed_cpu
    warm_up = 3 if settings.device == "cuda" else 0
    order = list(steps)
    end = time.perf_counter() + settings.seconds
    for n in range(-warm_up, settings.max_rounds):
        if n >= settings.min_rounds and time.perf_counter() > end:
            break
        for roof, roof_time in zip(roofs, roof_times, strict=True):
            roof_time += elapsed([roof.run])
        for name in list(order):
            try:
                sample = elapsed(steps[name])
            except torch.OutOfMemoryError:
                order.remove(name)
                del times[name]
                continue
            finally:
                passes[name].value = None
            if n >= 0:
                times[name].append(sample)
        order = order[1:] + order[:1]
    return times, rates(roofs, [statistics.median(roof_time) for roof_time in roof_times])


def _elapsed_cpu(steps: list[Callable[[], object]]) -> list[float]:
    marks = [time.perf_counter()]
    for step in steps:
        step()
        marks.append(time.perf_counter())
    return [1e3 * (end - start) for start, end in zip(marks, marks[1:], strict=False)]


def _elapsed_cuda(steps: list[Callable[[], object]]) -> list[float]:
    marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(steps) + 1)]
    torch.empty(2**28, dtype=torch.uint8, device="cuda").zero_()  # flush the L2 cache
    torch.cuda._sleep(5_000_000)  # the device waits until the work is queued
    marks[0].record()
    for step, mark in zip(steps, marks[1:], strict=True):
        step()
        mark.record()
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in zip(marks, marks[1:], strict=False)]


def _samples(times: list[list[float]], mode: str) -> list[float]:
    return [sum(steps) if mode == "fwdbwd" else steps[mode == "bwd"] for steps in times]


def _fill(row: Row, times: list[list[float]], flops: int, rate: dict[str, float]) -> None:
    samples = _samples(times, row.mode)
    quintiles = statistics.quantiles(samples, n=5, method="inclusive")
    row.p20_ms, row.p80_ms = quintiles[0], quintiles[-1]
    row.p50_ms, row.rounds = statistics.median(samples), len(samples)
    row.flops_per_second = 1e3 * flops / row.p50_ms
    row.fraction_of_roof = row.flops_per_second / rate["GEMM"]


def format_shape(shape: Shape) -> str:
    return "x".join(map(str, shape))
