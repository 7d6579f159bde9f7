"""The site builds without a warning, and has every public name."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MODULES = (
    "sslkernels", "sslkernels.functional", "sslkernels.distributed",
    "sslkernels.compat.lightly", "sslkernels.compat.open_clip", "sslkernels.data",
    "sslkernels.data.pretext", "sslkernels.train", "sslkernels.metrics", "sslkernels.eval",
    "sslkernels.study", "sslkernels.plots",
)  # fmt: skip

ELSEWHERE = {"sslkernels.Gather"}  # described as sslkernels.distributed.Gather


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    for package in ("sphinx", "myst_parser", "furo", "sphinx_copybutton"):
        pytest.importorskip(package)
    folder = tmp_path_factory.mktemp("site")
    doctrees = tmp_path_factory.mktemp("doctrees")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-c", "docs"]
    command += ["-d", str(doctrees), ".", str(folder)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return folder


def test_every_public_name_is_in_the_reference(site):
    from sphinx.util.inventory import InventoryFile

    with (site / "objects.inv").open("rb") as file:
        found = InventoryFile.load(file, "", lambda base, target: target)
    documented = {name for kind, names in found.items() if kind.startswith("py:") for name in names}
    for module in MODULES:
        for name in importlib.import_module(module).__all__:
            value = getattr(importlib.import_module(module), name)
            if callable(value) and f"{module}.{name}" not in ELSEWHERE:
                assert f"{module}.{name}" in documented


def test_maths_and_pages_are_there(site):
    page = (site / "sslkernels/primitives/pairwise_logsumexp/README.html").read_text()
    assert 'class="math notranslate nohighlight"' in page and "```" not in page
    assert "url=docs/index.html" in (site / "index.html").read_text()
    for path in (ROOT / "docs").glob("*.md"):
        assert (site / "docs" / f"{path.stem}.html").exists()
