"""Runs on a device: limits, results kept when a run is cut off, resuming, and the page."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

pytest.importorskip("triton")

from bench.device import page, prepare, speed  # noqa: E402
from bench.device.__main__ import main  # noqa: E402
from bench.device.outcomes import passed, read_lines  # noqa: E402
from bench.device.run import run_stages  # noqa: E402
from bench.device.speed import SHAPES  # noqa: E402
from bench.device.stages import STAGES, Stage  # noqa: E402

ROOT = Path(__file__).parents[2]


def stage(name, code, seconds=10.0):
    return Stage(name, "a test", seconds, lambda folder, dry: [sys.executable, "-c", code])


def run(stages, folder, seconds=60.0):
    return run_stages(stages, folder, seconds, dry=False, prepared=None)["stages"]


def test_each_stage_has_its_time_and_leaves_what_it_found(tmp_path):
    done = stage("done", "print('all is well')")
    failing = stage("failing", "raise SystemExit(3)")
    missing = Stage("missing", "a test", 10, lambda folder, dry: ["no-such-program"])
    code = "import time; print('begun', flush=True); time.sleep(600)"
    found = run([done, failing, missing, stage("endless", code, 1.0)], tmp_path, 20.0)
    assert [found[name]["code"] for name in found] == [0, 3, None, None]
    assert "no-such-program" in found["missing"]["error"]
    assert "not done after" in found["endless"]["error"] and found["endless"]["seconds"] < 60
    log = (tmp_path / "log.txt").read_text()
    assert "all is well" in log and "begun" in log
    assert json.loads((tmp_path / "device.json").read_text())["stages"] == found
    assert len(list(tmp_path.iterdir())) == 2


def test_a_second_run_does_what_is_missing_or_failed(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    code = "from pathlib import Path; p = Path({!r}); p.open('a').write('x')"
    good = stage("good", code.format(str(marks / "good")))
    bad = stage("bad", code.format(str(marks / "bad")) + "; raise SystemExit(1)")
    for _ in range(2):
        run([good, bad], tmp_path / "run")
    assert [(marks / name).read_text() for name in ("good", "bad")] == ["x", "xx"]
    (tmp_path / "run" / "device.json").write_text("{")  # cut off
    run([good], tmp_path / "run")
    assert (marks / "good").read_text() == "xx"


def test_time_that_is_left_goes_to_those_that_follow(tmp_path, capsys):
    run([stage("quick", "pass", 50.0), stage("next", "pass", 50.0)], tmp_path, 100.0)
    limits = [line for line in capsys.readouterr().out.splitlines() if "at most" in line]
    assert limits[0].endswith("50 s at most")
    assert 80 < float(limits[1].split()[-4]) <= 100


def test_outcomes_are_written_one_by_one_and_what_passed_is_not_run_again(tmp_path):
    tests, outcomes = tmp_path / "test_some.py", tmp_path / "outcomes.jsonl"
    tests.write_text(
        "import os, pytest\n"
        "def test_good(): pass\n"
        "def test_bad(): assert 1 == 2, 'as it is'\n"
        "@pytest.mark.skip(reason='no use')\n"
        "def test_none(): pass\n"
        "def test_that_ends_all(): os._exit(9)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    command += ["-p", "bench.device.outcomes", "--outcomes", str(outcomes)]
    for times in (1, 2):
        assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 9
        found = [(row["test"].partition("::")[2], row["outcome"]) for row in read_lines(outcomes)]
        again = [("test_bad", "failed"), ("test_none", "skipped")] * times
        assert found == [("test_good", "passed"), *again]
    assert "as it is" in read_lines(outcomes)[1]["why"]
    with outcomes.open("a") as file:
        file.write('{"test": "cut o')
    assert {name.partition("::")[2] for name in passed(outcomes)} == {"test_good"}


def test_the_page_is_what_the_results_say():
    assert page.PAGE.read_text() == page.page(page.RESULTS)


def test_page_of_a_run(tmp_path):
    folder = tmp_path / "some-gpu" / "run"
    run([stage("correct", "pass")], folder)
    test = "tests/gpu/test_sinkhorn_gpu.py::test_ragged_and_wide"
    row = {"outcome": "passed", "commit": "abc", "date": "2030-01-02T03:04:05"}
    lines = [{"test": f"{test}[{i}]", **row} for i in range(3)]
    lines.append({**lines[0], "outcome": "failed"})
    write_lines(folder / "tests.jsonl", lines)
    measured = {"shape": "512x128", "mode": "fwdbwd", "status": "ok", "p50_ms": 0.5}
    ours = {**measured, "impl": "ours", "speedup_over_eager": 1.5, "fraction_of_roof": 0.25}
    fused = {**measured, "impl": "fused", "p50_ms": 0.25}
    host = {"ours": 0.2, "eager": 0.3, "fused": 0.05}
    content = {"op": "nt_xent", "rows": [ours, fused], "host_ms": host}
    content |= {"commit": "abc", "date": "2030-01-02"}
    write_lines(folder / "speed.jsonl", [content])
    text = page.page(tmp_path)
    assert "| correct | done |" in text and "## some-gpu" in text
    assert "| sinkhorn | test_ragged_and_wide | 1 failed, 2 passed | 2030-01-02 | abc |" in text
    line = (
        "| nt_xent | 512x128 | ok | 0.5 ms | 1.5 x | 1.5 x | 2 x | 4 x | 25 % | 2030-01-02 | abc |"
    )
    assert line in text
    assert "| clip | 512x512 | never run |" in text
    assert text.count("never run") > len(SHAPES)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_prepared_files_are_put_where_they_belong(tmp_path, monkeypatch):
    made, there = tmp_path / "made", tmp_path / "there"
    group = made / "triton" / "key" / "__grp__kernel.json"
    group.parent.mkdir(parents=True)
    group.write_text(json.dumps({"child_paths": {"kernel.cubin": "/elsewhere/kernel.cubin"}}))
    prepare.pack(made)
    there.mkdir()
    (there / prepare.CACHE).write_bytes((made / prepare.CACHE).read_bytes())
    (there / "_C.some.so").touch()
    (there / prepare.COMMIT).write_text("abc")
    monkeypatch.setenv("SSLKERNELS_COMMIT", "")
    monkeypatch.delenv("SSLKERNELS_COMMIT")
    (tmp_path / "sslkernels").mkdir()
    monkeypatch.setattr(prepare, "ROOT", tmp_path)
    prepare.install_prepared(there)
    assert (tmp_path / "sslkernels" / "_C.some.so").exists()
    assert os.environ["SSLKERNELS_COMMIT"] == "abc"
    found = json.loads((there / "triton" / "key" / "__grp__kernel.json").read_text())
    assert found["child_paths"] == {"kernel.cubin": str(there / "triton" / "key" / "kernel.cubin")}
    with tarfile.open(there / prepare.CACHE) as archive:
        assert "triton/key/__grp__kernel.json" in archive.getnames()


@pytest.mark.parametrize("was_dry", [True, False])
def test_dry_results_and_others_are_kept_apart(tmp_path, was_dry, capsys, monkeypatch):
    """Otherwise results without a device would count as done."""
    run_stages([stage("machine", "pass")], tmp_path, 60.0, dry=was_dry, prepared=None)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    with pytest.raises(SystemExit, match="2"):
        main(["--out", str(tmp_path), *["--dry"] * (not was_dry)])
    assert f"holds results of a {'dry' if was_dry else 'real'} run" in capsys.readouterr().err


def test_a_loss_that_fails_stops_no_other(tmp_path, monkeypatch, capsys):
    def losses(op, shape, seconds):
        if op == "clip":
            raise RuntimeError("out of luck")
        label = "x".join(map(str, shape))
        return {"op": op, "shapes": [{"shape": label}], "rows": []}

    file = tmp_path / "speed.jsonl"
    monkeypatch.setattr(speed, "losses", losses)
    monkeypatch.setattr(speed, "views", lambda: {"op": "views", "shapes": [{"shape": "512x224"}]})
    monkeypatch.setattr("sys.argv", ["speed", "--out", str(file)])
    assert speed.main() == 1 and "out of luck" in capsys.readouterr().err
    assert {row["op"] for row in read_lines(file)} == {*SHAPES, "views"} - {"clip"}
    count = len(read_lines(file))
    assert speed.main() == 1 and len(read_lines(file)) == count  # only failures run again


@pytest.mark.parametrize("arguments, words", [
    (["--stages", "speed,sped"], "must be some of machine, edges"),
    (["--dry", "--resume", "nowhere"], "there is no such folder"),
], ids=str)  # fmt: skip
def test_wrong_arguments_are_named(arguments, words, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert words in capsys.readouterr().err


def test_stages_are_listed(capsys):
    assert main(["--stages"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [stage.name for stage in STAGES]
    assert sum(stage.seconds for stage in STAGES) == 300
