"""Runs a replica."""

from benchmarks.traced.service import SPEC
from meshwork.server import main

if __name__ == "__main__":
    main(SPEC)
