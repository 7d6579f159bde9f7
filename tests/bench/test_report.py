"""The page of benchmarks, from files of results that the benchmarks wrote."""

import json

import pytest
import torch
from small_roofs import small_roofs

pytest.importorskip("triton")

from bench import measure, report, step, views  # noqa: E402
from bench.__main__ import main  # noqa: E402
from bench.baselines import BASELINES  # noqa: E402
from bench.plot import KINDS  # noqa: E402
from bench.suite import PEERS  # noqa: E402


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Results of two losses, views and a step, at very small sizes."""
    folder = tmp_path_factory.mktemp("results")
    patch, threads = pytest.MonkeyPatch(), torch.get_num_threads()
    for module in ("bench.__main__", "bench.views", "bench.step"):
        patch.setattr(f"{module}.RESULTS", folder)
    patch.setattr(measure, "make_roofs", small_roofs)
    patch.setattr(measure, "extra_memory_cpu", lambda *_: dict.fromkeys(measure.MODES, 5 << 20))
    patch.setitem(PEERS, "nt_xent", (64, 16))
    patch.setitem(PEERS, "vicreg", (16, 32))
    command = "--suite peers --quick --save --device cpu --op nt_xent,vicreg --baseline eager,gram"
    assert main([*command.split(), "--modes", "fwdbwd"]) == 0
    views.main(["--images", "2", "--rounds", "1", "--save"])
    step.main(["--batch", "2", "--size", "32", "--rounds", "1", "--save"])
    torch.set_num_threads(threads)
    yield folder
    patch.undo()


def test_every_number_is_from_a_file(results, tmp_path):
    text = report.page(results, tmp_path)
    (device,) = results.iterdir()
    (line,) = [x for x in text.splitlines() if x.startswith("| `vicreg`")]
    content = json.loads((device / "peers" / "vicreg-float32.json").read_text())
    rows = {row["impl"]: row for row in content["rows"]}
    times = {name: rows[name]["p50_ms"] / rows["ours"]["p50_ms"] for name in ("eager", "gram")}
    assert line.startswith(f"| `vicreg` | 16×32 | {times['eager']:.1f}× | – | gram ")
    assert f"gram {times['gram']:.1f}×" in line
    for row in rows.values():
        assert f"{row['extra_bytes'] / 2**20:,.0f} MiB" in line

    content = json.loads((device / "step-simclr-resnet.json").read_text())
    whole = [sum(row[part] for part in step.PARTS) for row in content["rows"]]
    assert f"| loss | {content['rows'][0]['loss'] / whole[0]:.1%} |" in text
    assert f"| together | 100.0% | {whole[1] / whole[0]:.1%} |" in text
    assert "| torchvision-pil |" in text and "python -m bench.views --images 2" in text
    assert (tmp_path / f"benchmarks-{device.name}.png").read_bytes().startswith(b"\x89PNG")
    assert f"](benchmarks-{device.name}.png)" in text


def test_what_was_not_measured_is_left_out(results):
    text = report.page(results)
    assert "`dino`" not in text and "very large batch" not in text


def test_a_suite_has_its_own_shapes(capsys):
    with pytest.raises(SystemExit):
        main(["--suite", "peers", "--shapes", "8x8"])
    assert "leave --shapes out" in capsys.readouterr().err


def test_the_picture_leaves_no_implementation_out():
    drawn = [name for _, names in KINDS.values() for name in names]
    measured = {name for op in PEERS for name in BASELINES[op]}
    assert sorted(drawn) == sorted(measured - {"ours", "tiled"})


def test_random_slices_at_other_shapes(tmp_path):
    rows = [
        {"shape": shape, "mode": "fwdbwd", "status": "ok", "impl": impl, "p50_ms": time,
         "extra_bytes": time << 20}
        for shape, impl, time in (
            ("32x64x256", "ours", 2), ("32x64x256", "lejepa", 25), ("256x128", "lejepa", 99),
        )
    ]  # fmt: skip
    made = {
        "device": "a",
        "command": "b",
        "date": "2026",
        "torch": "2",
        "triton": "3",
        "threads": 2,
    }
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "sigreg-float32.json").write_text(
        json.dumps({"op": "sigreg", **made, "rows": rows})
    )
    text = report.page(tmp_path)
    assert "| `sigreg` | 32×64×256 | lejepa | 12.5× | 25.0 MiB | 2.0 MiB |" in text
    assert "256×128" not in text and text.count("lejepa |") == 1
