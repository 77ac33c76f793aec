"""How long `meshwork up -d` takes to all ready, and what an idle mesh weighs.

The first start of each run is thrown away: it warms the page cache, as the target is a warm start.
Memory is what `meshwork status` counts: resident memory (RSS) of every process, Envoy, Valkey and
the supervisor included, so that pages which processes share count more than once.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.report import arguments, finish, machine
from meshwork.supervisor.home import Home, alive
from meshwork.supervisor.ports import free_port
from meshwork.supervisor.supervisor import gateways

SETTLE_S = 5.0
# What a service must not have imported: another's libraries, or what only training and tests use.
FOREIGN = {
    "vision": ("transformers", "sklearn", "tokenizers", "pocketsphinx", "envoy_data_plane"),
    "nlp": ("transformers", "sentence_transformers", "sklearn", "PIL", "pocketsphinx", "envoy_data_plane"),
    "speech": ("torch", "transformers", "PIL", "envoy_data_plane"),
    "translation": ("transformers", "PIL", "pocketsphinx", "envoy_data_plane"),
    "recommendation": ("transformers", "PIL", "tokenizers", "pocketsphinx", "envoy_data_plane"),
    "pipeline": ("torch", "transformers", "PIL", "tokenizers", "pocketsphinx", "envoy_data_plane"),
}


def meshwork(home: Path, *words: str) -> None:
    """Runs the command in a mesh home of its own."""
    subprocess.run(
        [sys.executable, "-m", "meshwork", *words],
        env={**os.environ, "MESHWORK_HOME": str(home)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def memory_mb(home: Home) -> dict[str, float]:
    """Resident memory by process, in MB."""
    record = home.running()
    assert record is not None
    found = {process.service or process.name: alive(process) for process in record.processes}
    named: dict[str, psutil.Process] = {name: process for name, process in found.items() if process}
    named["supervisor"] = psutil.Process(record.pid)
    for gateway in gateways(home):
        named["gateway"] = gateway
    sizes = {}
    for name, process in named.items():
        family = [process, *process.children(recursive=True)] if name in FOREIGN else [process]
        sizes[name] = round(sum(member.memory_info().rss for member in family) / 1e6, 1)
    return sizes


def foreign_imports() -> dict[str, list[str]]:
    """By service: modules that its entry point imports and should not."""
    found = {}
    for service, names in FOREIGN.items():
        script = (
            f"import sys, services.{service}.__main__, services.{service}.service; "
            f"print(*(name for name in {names!r} if name in sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
        found[service] = done.stdout.split()
    return found


def main() -> None:
    """Starts and stops the mesh a few times and prints what it took."""
    parser = arguments(__doc__)
    parser.add_argument("--runs", type=int, default=3, help="warm starts to measure")
    options = parser.parse_args()
    before = machine()
    starts: list[float] = []
    stops: list[float] = []
    memory: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder))
        for run in range(options.runs + 1):
            began = time.monotonic()
            meshwork(home.root, "up", "-d", "--port", str(free_port()))
            started = time.monotonic()
            if run == options.runs:
                time.sleep(SETTLE_S)
                memory = memory_mb(home)
            stopping = time.monotonic()
            meshwork(home.root, "down")
            stopped = time.monotonic()
            if run:
                starts.append(round(started - began, 2))
                stops.append(round(stopped - stopping, 2))
    figures: dict[str, Any] = {
        "start_s": starts,
        "stop_s": stops,
        "rss_mb": memory,
        "foreign_imports": foreign_imports(),
    }
    foreign = sum(len(names) for names in figures["foreign_imports"].values())
    finish(
        "startup",
        before,
        figures,
        {
            "start_s_median": (statistics.median(starts), "<=", 20.0),
            "stop_s_worst": (max(stops), "<=", 10.0),
            "idle_rss_gb": (round(sum(memory.values()) / 1000, 2), "<=", 2.5),
            "foreign_imports": (foreign, "<=", 0),
        },
        quiet=options.json,
    )


if __name__ == "__main__":
    main()
