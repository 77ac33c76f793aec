"""How late a replica's event loop is while its devices are full: all else that it does waits for it.

One replica at a time, as in any mesh, is loaded as `serve_text`, `serve_image` and `serve_vector` load
it. Its own histogram `meshwork_event_loop_lag_seconds`, read from /metrics before and after, tells; the
99th percentile is the upper edge of the bucket that holds it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import urllib.request
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers.places import DATA, IMAGE_MODEL, ROOT, TEXT_MODEL
from benchmarks.peers.replica import Replica
from benchmarks.report import Targets, arguments, finish, machine
from benchmarks.serve_vector import contenders
from meshwork.model_config import ModelConfig
from meshwork.supervisor.ports import free_port

_BUCKET = re.compile(r'meshwork_event_loop_lag_seconds_bucket\{le="([^"]+)"\} (\S+)')
IN_FLIGHT = {"text": 64, "image": 16, "vector": 64}
TARGET_MS = 5.0


def replicas(folder: Path) -> list[Replica]:
    """One for each workload; those with much to compute on a slot for each core."""
    slots = ",".join(f"cpu:{core}" for core in range(os.cpu_count() or 1))
    text = Replica(
        name="loop-text",
        workload="text",
        wire="benchmarks.peers.typed_wires:ClassifyText",
        service="nlp",
        model=ModelConfig(source=str(TEXT_MODEL)),
        settings={"DEVICE": slots, "THREADS": "1"},
    )
    image = replace(
        text,
        name="loop-image",
        workload="image",
        wire="benchmarks.peers.typed_wires:Classify",
        service="vision",
        model=ModelConfig(source=str(IMAGE_MODEL)),
    )
    return [text, image, replace(contenders(folder)[0], name="loop-vector")]


def lag_counts(port: int) -> dict[float, float]:
    """Wake-ups so far that were at most so many seconds late, by seconds."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {float(edge): float(count) for edge, count in _BUCKET.findall(text)}


def quantile(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """The bucket's upper edge, in seconds, below which `share` of the wake-ups between the two lie."""
    counts = {edge: after[edge] - before.get(edge, 0.0) for edge in after}
    total = counts[max(counts)]
    return min(edge for edge, count in counts.items() if count >= share * total)


def measure(replica: Replica, seconds: float) -> dict[str, Any]:
    """Loads a replica and reads its lag."""
    port, tag = free_port(), f"{replica.name}-{uuid.uuid4().hex[:8]}"
    listening = replace(replica, settings={**replica.settings, "HTTP_LISTEN": f"127.0.0.1:{port}"})
    count = IN_FLIGHT[replica.workload]
    with listening.running(tag) as address:
        load = [
            *(sys.executable, "-m", "benchmarks.peers.loadgen", "--wire", replica.wire, "--address", address),
            *("--workload", replica.workload, "--tag", tag, "--in-flight", str(count)),
        ]
        warm = [*load, "--windows", "1", "--window-s", "2", "--warm-s", "3"]
        subprocess.run(warm, cwd=ROOT, check=True, capture_output=True)
        before = lag_counts(port)
        full = [*load, "--windows", "1", "--window-s", str(seconds), "--warm-s", "0"]
        subprocess.run(full, cwd=ROOT, check=True, capture_output=True)
        after = lag_counts(port)
    return {
        "in_flight": count,
        "wake_ups": after[max(after)] - before[max(before)],
        **{f"p{share}_ms": quantile(before, after, share / 100) * 1000 for share in (50, 90, 99)},
    }


def main() -> None:
    """Measures and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of load for each workload")
    options = parser.parse_args()
    if not (DATA / "reference.npz").is_file():
        sys.exit("the workloads' data is missing: run `python -m benchmarks.peers data` first, a few minutes")
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        figures = {each.workload: measure(each, options.seconds) for each in replicas(Path(folder))}
    targets: Targets = {
        f"{name}_loop_lag_p99_ms": (figure["p99_ms"], "<=", TARGET_MS) for name, figure in figures.items()
    }
    finish("event_loop", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    main()
