"""The search for the largest batch, with known memory functions."""

import json
import math
from contextlib import nullcontext

import pytest

from bench import max_batch
from bench.max_batch import STEP, largest


@pytest.mark.parametrize(
    "memory",
    [
        lambda n: 3000 * n,
        lambda n: 12 * n**2 + 1000 * n,
        lambda n: 2_000_000 + 8 * n**2,
        lambda n: 500_000 + 5 * n,
        lambda n: 1000 * n if n < 700 else math.inf,
    ],
)
def test_what_is_found_fits_and_a_step_more_does_not(memory):
    budget = 64 * 2**20
    found = largest(memory, budget)
    assert memory(found) <= budget < memory(math.ceil(found * STEP) + 1)


def test_what_never_fits_or_runs_is_none():
    assert largest(lambda n: math.inf, 2**20) == 0


def test_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(max_batch, "RESULTS", tmp_path)
    known = {"ours": lambda n: 4000 * n, "eager": lambda n: 48 * n**2}
    monkeypatch.setattr(max_batch, "_memory", lambda op, name, device: nullcontext(known[name]))
    max_batch.main(["--op", "nt_xent", "--baseline", "ours,eager", "--budget", "16", "--save"])
    (path,) = tmp_path.glob("*/max_batch-float32.json")
    rows = {row["impl"]: row["largest"] for row in json.loads(path.read_text())["rows"]}
    assert 16 * 2**20 / 4000 / STEP < rows["ours"] <= 16 * 2**20 / 4000
    assert rows["eager"] <= (16 * 2**20 / 48) ** 0.5 < STEP * rows["eager"] + 1
    assert "nt_xent" in capsys.readouterr().out
