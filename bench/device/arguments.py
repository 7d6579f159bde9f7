"""What the processes of the stages are told."""

from __future__ import annotations

import argparse
from pathlib import Path


def results_file(about: str | None) -> Path:
    """The file to write into. In a dry run there seems to be a device from here on."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--dry", action="store_true", help="without a device, and without values")
    arguments = parser.parse_args()
    if arguments.dry:
        from .. import rehearsal

        rehearsal.install()
        rehearsal.Rehearsal().__enter__()
    return arguments.out
