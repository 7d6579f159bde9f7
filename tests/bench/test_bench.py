import dataclasses
import json
import math

import pytest
import torch
from small_roofs import small_roofs

from bench import measure, memory
from bench.__main__ import main
from bench.baselines import BASELINES, Baseline
from bench.cases import CASES
from bench.contrastive_baselines import nt_xent_eager

QUICK = ["--op", "nt_xent", "--quick", "--device", "cpu", "--shapes", "64x16"]


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: threads wait for each other on shared cores, and sizes here are small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def no_memory(monkeypatch):
    """Skip the memory, whose measurement starts a process for each implementation, and the
    machine's roofs."""
    monkeypatch.setattr(measure, "extra_memory_cpu", lambda *arguments: None)
    monkeypatch.setattr(measure, "make_roofs", small_roofs)


def run(tmp_path, *arguments):
    path = tmp_path / "result.json"
    code = main([*QUICK, *arguments, "--json", str(path)])
    return code, json.loads(path.read_text())


def rows_of(content, impl):
    return [row for row in content["rows"] if row["impl"] == impl]


def add_baseline(monkeypatch, name, **fields):
    monkeypatch.setitem(BASELINES["nt_xent"], name, Baseline(about=name, **fields))


def test_json_holds_the_machine_and_every_row(tmp_path, capsys):
    code, content = run(tmp_path, "--baseline", "eager,tiled")
    assert code == 0
    for key in ("device", "cpu", "torch", "python", "date", "command", "work", "shapes"):
        assert content[key], key
    assert content["shapes"][0]["rates"].keys() == {"GEMM", "DRAM", "exp"}
    assert {(row["mode"], row["impl"]) for row in content["rows"]} == {
        (mode, impl) for mode in ("fwd", "bwd", "fwdbwd") for impl in ("ours", "eager", "tiled")
    }
    for row in content["rows"]:
        assert row["status"] == "ok"
        assert 0 < row["p20_ms"] <= row["p50_ms"] <= row["p80_ms"]
        assert row["speedup_over_eager"] > 0 and row["fraction_of_roof"] > 0
        assert row["errors"].keys() == {"loss", "gradient_norm", "gradient_max"}
    table = capsys.readouterr().out
    assert "limited by" in table and max(map(len, table.splitlines())) <= 120


@pytest.mark.parametrize(
    "wrong",
    [
        lambda loss: loss * 1.001,
        lambda loss: loss * math.nan,
        lambda loss: loss.detach() + 0 * loss,
    ],
)
def test_a_wrong_implementation_gets_no_time(tmp_path, capsys, monkeypatch, no_memory, wrong):
    def load(temperature):
        right = nt_xent_eager(temperature)
        return lambda *inputs: wrong(right(*inputs))

    add_baseline(monkeypatch, "broken", load=load)
    code, content = run(tmp_path, "--baseline", "eager,broken", "--modes", "fwd")
    (row,) = rows_of(content, "broken")
    assert row["status"] == "wrong result" and row["p50_ms"] is None
    assert "WRONG" in capsys.readouterr().out
    assert code == 0

    monkeypatch.setitem(BASELINES["nt_xent"], "ours", BASELINES["nt_xent"]["broken"])
    assert run(tmp_path, "--baseline", "")[0] == 1


def test_what_cannot_run_is_a_row(tmp_path, monkeypatch, no_memory):
    def missing(temperature):
        import no_such_package  # noqa: F401

    def failing(temperature):
        raise RuntimeError("no luck\nand more")

    add_baseline(monkeypatch, "missing", load=missing)
    add_baseline(monkeypatch, "failing", load=failing)
    add_baseline(monkeypatch, "huge", load=nt_xent_eager, matrices=1e12)
    code, content = run(tmp_path, "--baseline", "missing,failing,huge,inf-cl", "--modes", "fwd")
    assert code == 0
    status = {row["impl"]: row["status"] for row in content["rows"]}
    assert status["missing"] == "not installed"
    assert status["failing"] == "failed: no luck"
    assert status["huge"].startswith("would need") and status["huge"].endswith("GiB")
    assert status["inf-cl"] == "needs cuda"


def test_eager_error_comes_from_a_smaller_shape_when_it_does_not_fit(
    tmp_path, capsys, monkeypatch, no_memory
):
    eager = dataclasses.replace(BASELINES["nt_xent"]["eager"], matrices=1)
    monkeypatch.setitem(BASELINES["nt_xent"], "eager", eager)
    monkeypatch.setattr(measure, "available_memory", lambda device: 4 * 64**2)
    code, content = run(tmp_path, "--baseline", "eager", "--modes", "fwd")
    assert code == 0
    assert content["shapes"][0]["eager_errors_from"] == "32x16"
    assert "32x16" in capsys.readouterr().out


def test_memory_counts_the_matrices_of_eager():
    shape = (1024, 16)
    extra = memory.extra_memory_cpu("nt_xent", "eager", shape, torch.float32, 0.1)
    if extra is None:
        pytest.skip("the system does not report the peak of the resident set")
    matrix = 4 * CASES["nt_xent"].work(shape).entries()
    assert 2 * matrix < extra["fwdbwd"] < 4 * matrix


def test_one_process_measures_shape_after_shape():
    with memory.CPUMemory("nt_xent", "eager", torch.float32, 0.1) as measure:
        if (small := measure((256, 16))) is None:
            pytest.skip("the system does not report the peak of the resident set")
        large = measure((1024, 16))
        assert measure((2**40, 16)) is None  # more than available
        again = measure((256, 16))
    assert large["fwdbwd"] > 8 * small["fwdbwd"] > 4 * again["fwdbwd"] > 0


def test_plot(tmp_path, no_memory):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "picture.png"
    run(tmp_path, "--baseline", "eager", "--modes", "fwd", "--plot", str(picture))
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--op", "no_such_op"],
        ["--shapes", "64"],
        ["--shapes", "0x16"],
        ["--shapes", "64x16x8", "--op", "sigreg,nt_xent"],
        ["--dtype", "int8"],
        ["--baseline", "no_such_baseline"],
        ["--modes", "sideways"],
        ["--temperature", "0"],
    ],
    ids=" ".join,
)
def test_bad_arguments_exit_with_2(arguments, capsys):
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    assert arguments[0] in capsys.readouterr().err


def test_list(capsys):
    assert main(["--list"]) == 0
    assert "lightly" in capsys.readouterr().out
