import os
from collections import Counter

import pytest
import torch

os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")  # otherwise each process starts others
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # needed for deterministic cuBLAS


def pytest_collection_modifyitems(items):
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_terminal_summary(terminalreporter):
    """Print the time of each folder of tests."""
    seconds = Counter()
    for report in (x for reports in terminalreporter.stats.values() for x in reports):
        if hasattr(report, "duration"):
            seconds[report.nodeid.partition("::")[0].rpartition("/")[0]] += report.duration
    terminalreporter.section("seconds by folder")
    for folder, total in seconds.most_common():
        terminalreporter.write_line(f"{total:8.1f} {folder}")


@pytest.fixture(autouse=True)
def _reproducible_and_poisoned():
    """A fixed seed; memory from torch.empty and resize_ is NaN."""
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


@pytest.fixture(scope="session", params=[2, 4], ids="{} ranks".format)
def gang(request):
    """Processes in a gloo group: ``gang.run(function, *args)`` on every rank."""
    from gang import Gang

    gang = Gang(request.param)
    yield gang
    gang.close()
