"""``python -m sslkernels.data.dali --explain``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from .available import HAS_DALI
from .differences import explain


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sslkernels.data.dali",
        description=f"Views made inside DALI, which is {'' if HAS_DALI else 'not '}installed here.",
    )
    parser.add_argument(
        "--explain", action="store_true", help="print how DALI's views differ from torchvision's"
    )
    if parser.parse_args(argv).explain:
        print(explain())
    else:
        parser.print_help()


if __name__ == "__main__":
    main()
