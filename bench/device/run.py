"""Runs the stages, each to its end or time limit, and records each outcome at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..machine import commit
from .stages import Stage

SUMMARY, LOG = "device.json", "log.txt"


def run_stages(
    stages: Sequence[Stage], folder: Path, seconds: float, *, dry: bool, prepared: Path | None
) -> dict[str, Any]:
    """Run stages within ``seconds``; ``device.json`` in the folder is rewritten after each.

    A stage that is done in the folder's summary is not run again. Time left by a stage is shared by
    the following ones in proportion to their own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    summary = read_summary(folder)
    waiting = [stage for stage in stages if summary["stages"].get(stage.name, {}).get("code") != 0]
    end = time.monotonic() + seconds
    for index, stage in enumerate(waiting):
        share = stage.seconds / sum(other.seconds for other in waiting[index:])
        limit = share * (end - time.monotonic())
        print(f"{stage.name}: {stage.about}; {limit:.0f} s at most", flush=True)
        row = run_stage(stage, folder, limit, dry=dry, prepared=prepared)
        summary["stages"][stage.name] = row
        (folder / SUMMARY).write_text(json.dumps(summary, indent=1) + "\n")
        print(f"{stage.name}: {outcome(row)} after {row['seconds']:.0f} s", flush=True)
    return summary


def run_stage(
    stage: Stage, folder: Path, limit: float, *, dry: bool, prepared: Path | None
) -> dict[str, Any]:
    """The outcome of a stage; its output is added to ``log.txt``."""
    command = stage.command(folder, dry)
    environment = {**os.environ, **dict(stage.environment), "PYTHONUNBUFFERED": "1"}
    if prepared is not None:
        environment["TRITON_CACHE_DIR"] = str(prepared / "triton")
        environment["TRITON_STORE_BINARY_ONLY"] = "1"
    row = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "dry": dry,
        "command": " ".join(command),
    }
    start = time.monotonic()
    with (folder / LOG).open("ab") as log:
        log.write(f"\n==== {stage.name}: {' '.join(command)}\n".encode())
        log.flush()
        try:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            log.write(f"{error}\n".encode())
            return row | {"code": None, "error": str(error), "seconds": 0.0}
        try:
            row["code"] = process.wait(limit)
        except (subprocess.TimeoutExpired, KeyboardInterrupt) as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, KeyboardInterrupt):
                raise
            row |= {"code": None, "error": f"not done after {limit:.0f} s"}
    return row | {"seconds": round(time.monotonic() - start, 1)}


def outcome(row: dict[str, Any]) -> str:
    if row["code"] is None:
        return row["error"]
    return "done" if row["code"] == 0 else f"failed with status {row['code']}"


def read_summary(folder: Path) -> dict[str, Any]:
    """The summary of an earlier run in this folder; empty if there was none."""
    try:
        return json.loads((folder / SUMMARY).read_text())
    except FileNotFoundError:
        return {"stages": {}}
    except ValueError as error:
        print(f"{folder / SUMMARY} is not whole and is begun anew: {error}", file=sys.stderr)
        return {"stages": {}}
