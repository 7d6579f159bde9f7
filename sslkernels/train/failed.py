"""One-line error messages of the commands."""

from __future__ import annotations

import argparse
import sys
import traceback


def failed(program: str, arguments: argparse.Namespace, status: int, message: str) -> int:
    """Print the message on one line, after a traceback with ``--traceback``; return the status."""
    if arguments.traceback:
        traceback.print_exc()
    print(f"python -m {program}: error: {' '.join(message.split())}", file=sys.stderr)
    return status
