"""Runs a study: every setting with every seed, with a log of the progress."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..eval.table import UNKNOWN, align
from ..plots.panels import plot_panels
from .study import Measures, Row, Setting, Study, summarize

TABLE, TRIALS, PLOT = "table.csv", "trials.json", "study.png"


def run_study(
    study: Study,
    name: str,
    folder: Path,
    *,
    seeds: int,
    epochs: int,
    log: Callable[[str], None] = print,
) -> list[Row]:
    """Run all trials of a study; write ``table.csv``, ``trials.json`` and ``study.png``.

    Args:
        study: the study.
        name: of the study.
        folder: folder of the files; created if missing. Files of an earlier run are replaced.
        seeds: number of seeds: 0, 1, …
        epochs: of each run.
        log: called with a line of text after each run, and with the table at the end.

    Returns:
        A row per setting.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total, done, start = len(study.settings) * seeds, 0, time.perf_counter()
    rows, trials = [], []
    for setting in study.settings:
        found = []
        for seed in range(seeds):
            found.append(study.trial(setting, seed, epochs))
            trials.append({**setting, "seed": seed, **found[-1]})
            done += 1
            seconds = time.perf_counter() - start
            log(_line(study, setting, seed, found[-1], done, total, seconds))
        rows.append(summarize(setting, found))
        # written after each setting, so that an interrupted study has partial results
        report = {"study": name, "question": study.question, "epochs": epochs, "trials": trials}
        (folder / TRIALS).write_text(json.dumps(report, indent=2) + "\n")
        _write_table(study, rows, folder / TABLE)
    log(f"\n{study.question}\n{_count(seeds, 'seed')}, {_count(epochs, 'epoch')} each\n")
    log(table(study, rows))
    files = [folder / TABLE, folder / TRIALS]
    try:
        plot_panels(study.panels(rows), study.question, folder / PLOT)
        files.append(folder / PLOT)
    except ImportError as error:
        log(f"\nNo plot: {error}.")
    log("\n" + "\n".join(map(str, files)))
    return rows


def table(study: Study, rows: list[Row]) -> str:
    """Mean ± standard deviation over seeds, a line per setting; for one seed, its values."""
    lines = [[*(key.replace("_", " ") for key in rows[0].setting), *study.columns.values()]]
    for row in rows:
        stds = row.std if row.seeds > 1 else {}
        cells = [_value(study, key, row.mean.get(key), stds.get(key)) for key in study.columns]
        lines.append([*map(str, row.setting.values()), *cells])
    return align(lines)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def _value(study: Study, key: str, mean: float | None, std: float | None = None) -> str:
    if mean is None:
        return UNKNOWN
    if key in study.numbers:
        return f"{mean:.3f}" + ("" if std is None else f" ± {std:.3f}")
    return f"{100 * mean:.1f}" + ("%" if std is None else f" ± {100 * std:.1f} %")


def _line(
    study: Study,
    setting: Setting,
    seed: int,
    measures: Measures,
    done: int,
    total: int,
    seconds: float,
) -> str:
    where = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in setting.items())
    what = ", ".join(
        f"{title} {_value(study, key, measures[key])}"
        for key, title in study.columns.items()
        if key in measures
    )
    left = seconds / done * (total - done)
    minutes = f"{left / 60:.0f} min" if left >= 90 else f"{left:.0f} s"
    return f"[{done:>{len(str(total))}}/{total}] {where}, seed {seed}: {what}; {minutes} left"


def _write_table(study: Study, rows: list[Row], path: Path) -> None:
    """Settings, seeds, and mean and standard deviation of each column, as fractions."""
    lines: list[dict[str, Any]] = []
    for row in rows:
        line = {**row.setting, "seeds": row.seeds}
        for key in study.columns:
            for name, values in ((key, row.mean), (f"{key}_std", row.std)):
                line[name] = f"{values[key]:.6g}" if key in values else ""
        lines.append(line)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, lines[0])
        writer.writeheader()
        writer.writerows(lines)
