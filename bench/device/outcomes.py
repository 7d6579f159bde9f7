"""A pytest plugin: writes a line as each test ends, and skips tests that have already passed.

A report at the end, such as JUnit's, would be lost if a run is cut off.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ..machine import commit

LONGEST = 1500  # characters of a failure's text


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--outcomes", type=Path, metavar="FILE", help="a line of JSON for each test")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items[:] = [item for item in items if item.nodeid not in config.passed]


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("outcomes")
    if hasattr(config, "workerinput"):
        config.passed = config.workerinput["passed"]
    else:
        config.passed = passed(path) if path else set()
        if path:
            config.pluginmanager.register(Outcomes(path))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """For pytest-xdist: all processes skip the same tests, although the file grows."""
    node.workerinput["passed"] = sorted(node.config.passed)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """It is no failure if all tests have already passed."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("outcomes"):
        session.exitstatus = pytest.ExitCode.OK


class Outcomes:
    """Writes the outcomes."""

    def __init__(self, path: Path):
        self.path, self.commit = path, commit()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when != "call" and report.outcome == "passed":
            return
        row = {
            "test": report.nodeid,
            "outcome": report.outcome,
            "seconds": round(report.duration, 3),
        }
        row |= {"commit": self.commit, "date": datetime.now(UTC).isoformat(timespec="seconds")}
        if report.outcome != "passed":
            row["why"] = report.longreprtext[-LONGEST:]
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def read_lines(path: Path) -> list[dict]:
    """The complete lines of a JSON lines file; none if there is no file."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def passed(path: Path) -> set[str]:
    """The tests whose last outcome is a pass."""
    last = {row["test"]: row["outcome"] for row in read_lines(path)}
    return {test for test, found in last.items() if found == "passed"}
