"""Command-line arguments of the stages' processes."""

from __future__ import annotations

import argparse
import atexit
from pathlib import Path


def stage_arguments(about: str | None) -> argparse.Namespace:
    """``out``, the file to write, and ``dry``, which simulates a device from now on."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--dry", action="store_true", help="without a device, and without values")
    parser.add_argument("--recording", type=Path, metavar="FILE",
                        help="of a dry run: what Triton would compile")  # fmt: skip
    arguments = parser.parse_args()
    if arguments.dry:
        from .. import rehearsal
        from ..rehearsal import launches, recording

        rehearsal.install()
        rehearsal.Rehearsal().__enter__()
        if arguments.recording:
            atexit.register(recording.write, arguments.recording, launches.compilations)
    return arguments
