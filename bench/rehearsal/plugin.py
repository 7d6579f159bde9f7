"""Rehearses tests for a device: ``python -m pytest -p bench.rehearsal.plugin tests/gpu``.

pytest's help describes the options (``--every``, ``--recording``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from . import Rehearsal, install, launches, recording, smoke

install()
smoke.check()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("rehearsal")
    group.addoption("--every", type=int, default=1, metavar="N",
                    help="rehearse every N-th parameter set of a test")  # fmt: skip
    group.addoption("--recording", type=Path, metavar="FILE",
                    help="write there what Triton would compile")  # fmt: skip


def pytest_configure(config: pytest.Config) -> None:
    import oracle

    oracle.repeated = lambda draw, times: [draw()]  # without values one draw is enough
    torch.compile = lambda *_, **__: pytest.skip("torch.compile cannot be rehearsed")


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> Any:
    """Simulate a device while marks are set; then select a share of the tests."""
    is_available, torch.cuda.is_available = torch.cuda.is_available, lambda: True
    try:
        outcome = yield
    finally:
        torch.cuda.is_available = is_available
    seen: Counter[str] = Counter()
    chosen = []
    for item in items:
        function = item.nodeid.partition("[")[0]
        if needs_values(item) and seen[function] % config.getoption("every"):
            seen[function] += 1
            continue
        seen[function] += 1
        chosen.append(item)
    items[:] = chosen
    return outcome


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Any:
    with Rehearsal() as item.rehearsal:
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: Any) -> Any:
    """Ignore assertions about values, which do not exist."""
    try:
        return (yield)
    except AssertionError:
        if not (needs_values(pyfuncitem) and pyfuncitem.rehearsal.operations.invented):
            raise
        return True


def pytest_sessionfinish(session: pytest.Session) -> None:
    path = session.config.getoption("recording")
    if path is not None:
        recording.write(path, dict.fromkeys(launches.compilations))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    count, launched = len(set(launches.compilations)), launches.launched.total()
    terminalreporter.write_line(f"{launched} launches of {count} specialisations")


def needs_values(item: pytest.Item) -> bool:
    """Whether the test needs a device."""
    return item.get_closest_marker("gpu") is not None
