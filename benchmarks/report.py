"""The one JSON line that every benchmark prints last.

::

    {"benchmark": NAME, "machine": {...}, "figures": {...}, "targets": {NAME: [value, target, met]}}
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from typing import Any

import psutil

Targets = dict[str, tuple[float, str, float]]
"""By name: the value measured, `<=` or `>=`, and the target."""


def machine() -> dict[str, Any]:
    """What ran it."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123 - not a file of ours
            return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the option that every benchmark has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    return parser


def finish(
    name: str, before: dict[str, Any], figures: dict[str, Any], targets: Targets, *, quiet: bool
) -> None:
    """Prints the figures for people, unless `quiet`, and the JSON line."""
    judged = {
        key: [value, f"{sign} {target:g}", value <= target if sign == "<=" else value >= target]
        for key, (value, sign, target) in targets.items()
    }
    if not quiet:
        for key, figure in figures.items():
            print(f"{key:>32}: {figure}")
        for key, (value, target, met) in judged.items():
            print(f"{key:>32}: {value:g} (target {target}: {'met' if met else 'MISSED'})")
    print(json.dumps({"benchmark": name, "machine": before, "figures": figures, "targets": judged}))
