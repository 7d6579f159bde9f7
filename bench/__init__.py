"""Benchmarks: only results that pass a correctness check are timed. ``python -m bench --help``."""
