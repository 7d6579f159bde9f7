"""Every example runs as it stands, and its loss falls where that can be expected."""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
NEEDS = {
    "lightning_simclr": "pytorch_lightning",
    "lightly_patch": "lightly",
    "metric_learning": "pytorch_metric_learning",
}
# DINO's loss first rises: its targets become sharper. lightly_patch compares, and does not train.
FALLING = {path.stem for path in EXAMPLES.glob("*.py")} - {"dino", "lightly_patch"}
LONGEST = 100  # lines

# A torchvision that was built for another torch can be imported after this.
RUN = """
import runpy, sys
from bench.peers import torchvision_transforms
try:
    torchvision_transforms()
except ImportError:
    pass
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_example(path):
    if path.stem in NEEDS and not find_spec(NEEDS[path.stem]):
        pytest.skip(f"{NEEDS[path.stem]} is not installed")
    command = [sys.executable, "-c", RUN, str(path)]
    if path.stem == "large_batch":
        torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
        command = [sys.executable, *torchrun, str(path)]
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=environment)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr
    losses = [float(x) for x in re.findall(r"loss (-?\d+\.\d+)", run.stdout)]
    assert len(losses) >= 2, run.stdout
    if path.stem in FALLING:
        assert losses[-1] < losses[0], run.stdout


def test_the_notebook():
    for package in ("nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package)
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the peak of memory cannot be read here")
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "same_curve_less_memory.ipynb", as_version=4)
    committed = [cell.outputs for cell in notebook.cells if cell.cell_type == "code"]
    assert all(committed[1:]) and "image/png" in committed[-1][-1].data  # it comes with its results
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = [x.text for cell in notebook.cells for x in cell.get("outputs", []) if "text" in x]
    assert any("largest difference" in text for text in printed)


def test_examples_are_short_and_listed():
    listed = re.findall(r"\]\(([\w.]+)\)", (EXAMPLES / "README.md").read_text())
    assert sorted(listed) == sorted(x.name for x in EXAMPLES.iterdir() if x.suffix != ".md")
    for path in EXAMPLES.glob("*.py"):
        assert len(path.read_text().splitlines()) <= LONGEST, path.name
