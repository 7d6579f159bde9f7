import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "gpu"))  # device.py, with its settings

# These tests need a process of their own: tests/test_rehearsal.py starts it.
collect_ignore_glob = [] if "bench.rehearsal.plugin" in sys.modules else ["test_*.py"]


@pytest.fixture
def operations(request):
    """What watches over the operations of this test."""
    return request.node.rehearsal.operations
