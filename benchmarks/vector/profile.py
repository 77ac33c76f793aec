"""Where the event loop's thread spends its time while a replica is loaded, layer by layer, by py-spy.

Only samples that hold Python's lock are counted, so waiting and the C core's sends are left out; a
sample counts for the innermost of our layers, or for the library that runs outside of them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from benchmarks.peers import processes
from benchmarks.peers.places import ROOT
from benchmarks.peers.replica import Replica

_LAYERS = {  # part of a frame's file name -> what it is
    "meshwork/front/": "front: events, calls, sends",
    "meshwork/rpc.py": "rpc: parsing, errors, trailer",
    "meshwork/serving/": "runtime: admission, queue, batches, answers",
    "benchmarks/vector/": "service: request and response",
}
_LOOP = "event loop"
_RATE_HZ = 500


def profile(replica: Replica, in_flight: int, seconds: int = 5) -> dict[str, float]:
    """Shares by layer, and those of the costliest functions.

    Raises:
        RuntimeError: py-spy is not there, or may not look into the process.
    """
    tag = f"{replica.name}-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory() as folder, replica.running(tag) as address:
        load = [
            *(sys.executable, "-m", "benchmarks.peers.loadgen", "--wire", replica.wire, "--address", address),
            *("--workload", "vector", "--windows", "1", "--window-s", str(seconds + 2), "--warm-s", "2"),
            *("--in-flight", str(in_flight)),
        ]
        (pid, *_) = processes.tagged(tag)
        samples = Path(folder) / "samples"
        record = [
            *(
                str(Path(sys.executable).with_name("py-spy")),
                "record",
                "--pid",
                str(pid),
                "--duration",
                str(seconds),
                "--rate",
                str(_RATE_HZ),
            ),
            *("--gil", "--format", "raw", "--output", str(samples)),
        ]
        with subprocess.Popen(load, cwd=ROOT, stdout=subprocess.DEVNULL) as generator:
            try:
                time.sleep(2)  # while the generator warms up
                subprocess.run(record, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                generator.kill()
                raise RuntimeError(f"py-spy: {getattr(error, 'stderr', error)}") from error
        return _shares(samples.read_text(encoding="utf-8").splitlines())


def _shares(lines: Iterable[str]) -> dict[str, float]:
    layers: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for line in lines:
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        layers[_layer(frames)] += int(count)
        functions[frames[-1].rpartition(":")[0] + ")"] += int(count)
    total = max(1, layers.total())
    return {
        name: round(count / total, 3) for name, count in (*layers.most_common(), *functions.most_common(12))
    }


def _layer(frames: list[str]) -> str:
    for frame in reversed(frames):
        for part, layer in _LAYERS.items():
            if part in frame:
                return layer
    return _LOOP
