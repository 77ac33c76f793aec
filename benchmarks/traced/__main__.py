"""Runs a replica; with `--no-metrics`, one that counts nothing for Prometheus."""

import sys
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

from benchmarks.traced.service import SPEC
from meshwork.server import main


def nothing(*_: Any) -> None:
    """Instead of counting."""


if __name__ == "__main__":
    if sys.argv[1:] == ["--no-metrics"]:
        Counter.inc = Gauge.set = Gauge.inc = Gauge.dec = Histogram.observe = nothing  # type: ignore[assignment]
    main(SPEC)
