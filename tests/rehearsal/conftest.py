import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "gpu"))  # device.py, with its settings

# These tests need a separate process, which tests/test_rehearsal.py starts.
collect_ignore_glob = [] if "bench.rehearsal.plugin" in sys.modules else ["test_*.py"]


@pytest.fixture
def operations(request):
    """The mode that checks the operations of this test."""
    return request.node.rehearsal.operations
