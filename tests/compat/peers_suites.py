"""Other packages' own test suites, with and without ``patch``: no test may fail only with it.

``python tests/compat/peers_suites.py FOLDER``, with checkouts ``lightly``, ``solo-learn`` and
``pytorch-metric-learning`` in the folder, and the dependencies of their tests installed. The file
is also the pytest plugin that patches before collection, and records the outcome of each test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SUITES = {
    # peer: folder, path of its package, its tests
    "lightly": ("lightly", ".", ["tests/loss"]),
    "pytorch_metric_learning": ("pytorch-metric-learning", "src", [
        f"tests/losses/test_{x}.py" for x in (
            "ntxent_loss", "losses_without_labels", "vicreg_loss", "cross_batch_memory",
            "self_supervised_loss",
        )
    ]),
    "solo_learn": ("solo-learn", ".", ["tests/losses"] + [
        f"tests/methods/test_{x}.py" for x in ("ressl", "simclr", "mocov3", "vicreg", "swav")
    ]),
}  # fmt: skip

PEER, PATCHED, RECORD = (f"SSLKERNELS_{x}" for x in ("PEER", "PATCHED", "RECORD"))
ROOT = Path(__file__).parents[2]
_outcomes: dict[str, str] = {}


def pytest_configure(config):
    """Patch before any test imports the patched names."""
    sys.path.append(str(ROOT))
    from bench.peers import torchvision_transforms

    torchvision_transforms()
    peer = os.environ[PEER]
    if peer == "lightly":  # its conftest needs this, and the compat module follows its version
        import lightly.api  # noqa: F401
    if os.environ.get(PATCHED):
        from sslkernels.compat import patch

        print(patch(peer).left or f"all of {peer}'s losses are patched")


def pytest_runtest_logreport(report):
    """A test passes if all its phases do."""
    if report.outcome != "passed" or report.when == "call":
        before = _outcomes.get(report.nodeid)
        _outcomes[report.nodeid] = before if before == "failed" else report.outcome


def pytest_collectreport(report):
    if report.failed:
        _outcomes[report.nodeid] = "failed"


def pytest_sessionfinish(session):
    Path(os.environ[RECORD]).write_text(json.dumps(_outcomes))


def run(peer: str, root: Path, patched: bool) -> dict[str, str]:
    """The outcome of each test of a peer."""
    folder, package, tests = SUITES[peer]
    checkout = (root / folder).resolve()
    found = [x for x in tests if (checkout / x).exists()]
    with tempfile.NamedTemporaryFile() as record:
        paths = [str(checkout / package), str(Path(__file__).parent), os.environ.get("PYTHONPATH")]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(x for x in paths if x),
            PEER: peer,
            PATCHED: "yes" if patched else "",
            RECORD: record.name,
            "TEST_DEVICE": "cpu",
            "TEST_DTYPES": "float32,float64",
            "CUDA_VISIBLE_DEVICES": "",
        }
        command = [sys.executable, "-m", "pytest", "-q", "-p", "peers_suites", "-c", os.devnull]
        command += ["-p", "no:cacheprovider", "--rootdir", str(checkout), "--tb=short", *found]
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True
        )
        log = Path(tempfile.gettempdir(), f"peers-{peer}-{'with' if patched else 'without'}.log")
        log.write_text(done.stdout + done.stderr)
        try:
            return json.loads(Path(record.name).read_text())
        except json.JSONDecodeError:
            sys.exit(f"{peer}'s tests did not run: see {log}")


def main(root: Path) -> int:
    """Run the available suites, print a table; 1 if a test fails only with the patch."""
    print(f"{'':28}{'tests':>8}{'passed without':>16}{'passed with':>13}")
    broken = []
    for peer, (folder, *_) in SUITES.items():
        if not (root / folder).is_dir():
            print(f"{peer:28}no checkout")
            continue
        without, with_it = (run(peer, root, patched) for patched in (False, True))
        passed = [[k for k, x in y.items() if x == "passed"] for y in (without, with_it)]
        print(f"{peer:28}{len(without):>8}{len(passed[0]):>16}{len(passed[1]):>13}", flush=True)
        broken += [f"{folder}/{x}" for x in passed[0] if x not in passed[1]]
    print("\nfail only with the patch:", *(broken or ["none"]), sep="\n  ")
    return bool(broken)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()))
