"""Tests and benchmarks for a few minutes on a GPU: see ``python -m bench.device --help``.

``stages.py`` defines the stages and their time limits, ``run.py`` runs them and keeps the results,
``prepare.py`` builds in advance what would take time there, ``page.py`` writes docs/gpu.md.
"""
