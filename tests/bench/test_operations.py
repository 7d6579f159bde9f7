"""Every benchmarked operation: its exact result, its baselines, its work, its command."""

import json
from functools import partial

import distillation_formulas
import formulas
import gaussian_formulas
import pytest
import torch
from small_roofs import small_roofs

import bench.__main__
from bench import contrastive_cases, covariance_cases, distillation_cases, gaussian_cases, measure
from bench.baselines import BASELINES
from bench.cases import CASES, leaves
from bench.contrastive_cases import Pairs

SHAPE = (40, 7)
TEMPERATURE = 0.2
FORMULAS = {
    "nt_xent": formulas.nt_xent,
    "dcl": formulas.dcl,
    "supcon": lambda features, labels, temperature: formulas.supcon(
        features[:, None], formulas.same(labels), temperature, base_temperature=temperature
    ),
    "clip": lambda image, text, scale, temperature: formulas.clip(image, text, scale),
    "siglip": lambda image, text, scale, bias, temperature: formulas.siglip(
        image, text, scale, bias
    ),
    "moco": formulas.moco,
    "barlow_twins": lambda z_a, z_b, temperature: formulas.barlow_twins(
        z_a, z_b, covariance_cases.LAMBDA
    ),
    "vicreg": lambda z_a, z_b, temperature: formulas.vicreg(z_a, z_b),
    "dino": lambda *views, temperature: distillation_formulas.dino(
        views[: distillation_cases.STUDENTS], views[distillation_cases.STUDENTS :], 0.1, 0.04
    ),
    "dino_head": lambda x, w, y, v, temperature: distillation_formulas.dino(
        x @ w.T, y @ v.T, 0.1, 0.04
    ),
    "ibot_head": lambda x, w, y, v, temperature: distillation_formulas.dino(
        x @ w.T, y @ v.T, 0.1, 0.04, same_view=True
    ),
    "sigreg": lambda z, directions, temperature: gaussian_formulas.sigreg(z, directions),
    "lejepa": lambda global_proj, local_proj, directions, temperature: gaussian_formulas.lejepa(
        torch.cat([global_proj, local_proj]), len(global_proj), directions, gaussian_cases.LAMBDA
    ),
    "visreg": lambda global_proj, local_proj, directions, temperature: gaussian_formulas.visreg(
        torch.cat([global_proj, local_proj]), len(global_proj), directions
    ),
    "swav": lambda *crops, temperature: distillation_formulas.swav(
        crops[: distillation_cases.HIGH], crops[distillation_cases.HIGH :]
    ),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """One thread, and no memory, whose measurement starts a process for each implementation."""
    monkeypatch.setattr(measure, "extra_memory_cpu", lambda *arguments: None)
    monkeypatch.setattr(measure, "make_roofs", small_roofs)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("op", CASES)
def test_oracle_is_the_formula(op, monkeypatch):
    case = CASES[op]
    entries = case.work(SHAPE).entries() // case.work(SHAPE).n
    monkeypatch.setattr(contrastive_cases, "CHUNK", 7 * entries)  # seven rows at a time
    inputs = case.make_inputs(SHAPE, torch.float64, "cpu", TEMPERATURE)
    doubles = [x.detach().double() if x.is_floating_point() else x for x in inputs]
    for double, x in zip(doubles, inputs, strict=True):
        double.requires_grad_(x.requires_grad)
    loss = FORMULAS[op](*doubles, temperature=TEMPERATURE)
    gradients = torch.autograd.grad(loss, leaves(doubles))
    exact_loss, exact_gradients = case.oracle(inputs, TEMPERATURE)
    torch.testing.assert_close(exact_loss, loss.detach())
    torch.testing.assert_close(exact_gradients, list(gradients))


@pytest.mark.parametrize(
    "op, name",
    [
        (op, name)
        for op in BASELINES
        for name, baseline in BASELINES[op].items()
        if "cpu" in baseline.devices
    ],
)
def test_baseline_is_right(op, name, monkeypatch):
    if (op, name) != ("nt_xent", "compile"):  # one is compiled to machine code
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    try:
        loss = BASELINES[op][name].load(TEMPERATURE)
    except ImportError as error:
        pytest.skip(str(error))
    inputs = CASES[op].make_inputs((64, 16), torch.float32, "cpu", TEMPERATURE)
    exact = CASES[op].oracle(inputs, TEMPERATURE)
    eager = measure.Pass(BASELINES[op]["eager"].load(TEMPERATURE), inputs)
    found = measure.errors(measure.Pass(loss, inputs), exact)
    assert measure.passed(found, measure.errors(eager, exact), torch.float32), found


@pytest.mark.parametrize("op", CASES)
def test_every_implementation_of_ours_is_a_baseline(op):
    common = {"ours", "tiled", "eager", "compile"}
    assert common <= BASELINES[op].keys()
    without = ("siglip", "barlow_twins", "vicreg", *gaussian_cases.CASES)
    assert ("cuda" in BASELINES[op]) == (op not in without)
    without = ("dino", "dino_head", "ibot_head", "swav", *gaussian_cases.CASES)
    assert ("fused" in BASELINES[op]) == (op not in without)


def test_a_wrong_scalar_gradient_is_an_error():
    inputs = CASES["clip"].make_inputs(SHAPE, torch.float32, "cpu", TEMPERATURE)
    exact = CASES["clip"].oracle(inputs, TEMPERATURE)
    eager = BASELINES["clip"]["eager"].load(TEMPERATURE)

    def constant_scale(image, text, scale):
        return eager(image, text, scale.detach()) + 0 * scale

    found = measure.errors(measure.Pass(constant_scale, inputs), exact)
    right = measure.errors(measure.Pass(eager, inputs), exact)
    assert found["scalar_gradient"] == 1.0
    assert found["gradient_norm"] == right["gradient_norm"]
    assert not measure.passed(found, right, torch.float32)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("op", CASES)
def test_work_is_positive_and_grows(op, device):
    small, large = (CASES[op].work((n, 64)) for n in (128, 256))
    for amounts, larger in (
        *([(small.flops(device), large.flops(device))] if small.flops(device)["fwd"] else []),
        *([(small.exps(device), large.exps(device))] if CASES[op].has_temperature else []),
        (small.bytes(torch.float32), large.bytes(torch.float32)),
    ):
        assert 0 < amounts["fwd"] <= amounts["bwd"]
        assert all(amounts[mode] < larger[mode] for mode in amounts)
    assert small.bytes(torch.bfloat16)["fwd"] < small.bytes(torch.float32)["fwd"]


def test_work_of_features_takes_the_smaller_side():
    wide, tall = covariance_cases.Features(10, 30), covariance_cases.Features(30, 10)
    assert wide.flops("cpu") == tall.flops("cuda") == {"fwd": 2 * 3000, "bwd": 4 * 3000}


def test_work_of_slices():
    found = gaussian_cases.Slices(10, 4, 30)
    assert found.flops("cpu") == {"fwd": 2 * 8 * 10 * 4 * 30, "bwd": 2 * 8 * 10 * 4 * 30}
    assert found.exps("cpu")["fwd"] == 2 * 8 * 10 * 30 and found.entries() == 8 * 10 * 30 * 17
    assert found.bytes(torch.float32)["bwd"] == 4 * (8 * 10 * 4 + 4 * 30 + 8 * 10 * 4)
    assert CASES["sigreg"].work((10, 4, 30)) == found
    assert CASES["visreg"].work((10, 4)).exps("cpu")["bwd"] == 0


def test_work_counts_the_products():
    n, m, d = 10, 30, 4
    symmetric, general = Pairs(n, n, d, is_symmetric=True), Pairs(n, m, d)
    queue = Pairs(n, m, d, has_constant_columns=True)
    assert symmetric.flops("cpu") == {"fwd": n * n * d, "bwd": 3 * n * n * d}
    assert symmetric.flops("cuda") == {"fwd": n * n * d, "bwd": 4 * n * n * d}
    assert general.flops("cpu") == {"fwd": 2 * n * m * d, "bwd": 6 * n * m * d}
    assert general.flops("cuda") == {"fwd": 2 * n * m * d, "bwd": 8 * n * m * d}
    assert queue.flops("cuda") == {"fwd": 2 * n * m * d, "bwd": 4 * n * m * d}
    assert general.exps("cuda") == {"fwd": n * m, "bwd": 2 * n * m}
    assert queue.bytes(torch.float32)["bwd"] == 4 * ((n + m) * d + n * d + n)


@pytest.mark.parametrize("op", CASES)
def test_command(op, tmp_path, capsys):
    path = tmp_path / "result.json"
    arguments = ["--op", op, "--quick", "--shapes", "64x16", "--device", "cpu", "--json", str(path)]
    assert bench.__main__.main([*arguments, "--baseline", "eager"]) == 0
    content = json.loads(path.read_text())
    assert content["op"] == op
    assert [row["status"] for row in content["rows"]] == ["ok"] * 6
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 120


def test_several_operations_take_the_baselines_they_have(tmp_path, monkeypatch):
    monkeypatch.setattr(bench.__main__, "RESULTS", tmp_path)
    arguments = ["--op", "dcl,supcon", "--quick", "--shapes", "64x16", "--device", "cpu", "--save"]
    assert bench.__main__.main([*arguments, "--baseline", "supcontrast", "--modes", "fwd"]) == 0
    impls = {
        path.stem: [row["impl"] for row in json.loads(path.read_text())["rows"]]
        for path in tmp_path.glob("*/*.json")
    }
    assert impls == {"dcl-float32": ["ours"], "supcon-float32": ["ours", "supcontrast"]}


@pytest.mark.parametrize(
    "arguments", [["--baseline", "supcontrast"], ["--op", "nt_xent,no_such_op"]], ids=" ".join
)
def test_what_no_operation_has_is_an_error(arguments, capsys):
    with pytest.raises(SystemExit):
        bench.__main__.main(["--op", "nt_xent,dcl", *arguments])
    assert arguments[0] in capsys.readouterr().err


def test_one_file_holds_one_operation(tmp_path, capsys):
    with pytest.raises(SystemExit):
        bench.__main__.main(["--op", "nt_xent,dcl", "--json", str(tmp_path / "both.json")])
    assert "--json" in capsys.readouterr().err
