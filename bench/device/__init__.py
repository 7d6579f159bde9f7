"""A few minutes on a machine with a GPU, spent well: see ``python -m bench.device --help``.

``stages.py`` says what runs and for how long, ``run.py`` runs it and keeps what came of it,
``prepare.py`` builds beforehand what would cost time there, ``page.py`` tells it in docs/gpu.md.
"""
