import pytest


def pytest_configure(config: pytest.Config) -> None:
    # the marker belongs to pytest-benchmark, which may be absent
    config.addinivalue_line("markers", "benchmark: options of pytest-benchmark")
