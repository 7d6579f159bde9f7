"""Benchmarks: every time has passed a correctness check first. ``python -m bench --help``."""
