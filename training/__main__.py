"""Trains and measures the starter models from nothing: `make starters`, `python -m training NAME`."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

# speech measures what its packages bring; the others are trained.
STARTERS = ("digits", "minilm", "sequence", "speech", "phrases")


def main() -> None:
    """Makes the starters that are named, all by default."""
    parser = argparse.ArgumentParser(prog="python -m training", description=__doc__)
    parser.add_argument("starters", nargs="*", metavar="NAME", help=f"one of: {', '.join(STARTERS)}")
    names = parser.parse_args().starters or STARTERS
    unknown = [name for name in names if name not in STARTERS]
    if unknown:
        parser.error(f"no starter {', '.join(unknown)}; there are: {', '.join(STARTERS)}")
    for number, name in enumerate(names, 1):
        print(f"[{number}/{len(names)}] {name}")
        began = time.monotonic()
        subprocess.run([sys.executable, "-m", f"training.{name}"], check=True)
        print(f"[{number}/{len(names)}] {name} is done after {(time.monotonic() - began) / 60:.1f} minutes")


if __name__ == "__main__":
    main()
