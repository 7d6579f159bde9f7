"""Regression benchmarks: the same cases, tiny, with pytest-benchmark.

Without that plugin, or with --benchmark-disable, they are correctness checks.
"""

from __future__ import annotations

import time

import pytest
import torch

from .baselines import BASELINES
from .cases import CASES
from .measure import Pass, errors, format_shape, passed
from .roofs import in_mode

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TEMPERATURE = 0.1


def synced_clock() -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@pytest.mark.benchmark(timer=synced_clock, warmup=False, min_rounds=3, max_time=0.1)
@pytest.mark.parametrize("name", ["ours", "tiled", "eager"])
@pytest.mark.parametrize("shape", [(64, 16), (250, 33)], ids=format_shape)
@pytest.mark.parametrize("op", CASES)
@pytest.mark.parametrize("mode", ["fwd", "fwdbwd"])
def test_loss(
    request: pytest.FixtureRequest, mode: str, op: str, shape: tuple[int, int], name: str
) -> None:
    case = CASES[op]
    inputs = case.make_inputs(shape, torch.float32, DEVICE, TEMPERATURE)
    exact = case.oracle(inputs, TEMPERATURE)
    eager, run = (Pass(BASELINES[op][each].load(TEMPERATURE), inputs) for each in ("eager", name))
    found = errors(run, exact)
    assert passed(found, errors(eager, exact), torch.float32), found
    if not request.config.pluginmanager.hasplugin("benchmark"):
        return

    def step() -> None:
        run.forward()
        if mode == "fwdbwd":
            run.backward()

    benchmark = request.getfixturevalue("benchmark")
    benchmark.group = f"{op} {format_shape(shape)} {mode}"
    benchmark.extra_info |= {"device": DEVICE, "torch": torch.__version__, "errors": found}
    benchmark(step)
    if benchmark.stats:
        flops = in_mode(case.work(shape).flops(DEVICE), mode)
        benchmark.extra_info["gflops"] = flops / benchmark.stats.stats.median / 1e9
