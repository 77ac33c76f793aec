"""The peers, and the settings that were best for each on two cores.

Text and image: two workers with a thread each and batches of 8, but for MLServer, which batches in its
own process and is best with two threads there. Vector: one worker and batches of 32. All wait 2 ms
for a batch to fill.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from benchmarks.peers.contender import Peer
from benchmarks.peers.install import installed
from benchmarks.peers.servers.settings import Settings

WIRES = {
    "mosec": "benchmarks.peers.http_wires:Mosec",
    "pytriton": "benchmarks.peers.grpc_wires:OpenInference",
    "litserve": "benchmarks.peers.http_wires:LitServe",
    "bentoml": "benchmarks.peers.http_wires:BentoML",
    "mlserver": "benchmarks.peers.grpc_wires:OpenInference",
    "ray": "benchmarks.peers.grpc_wires:Ray",
}
STRONGEST = ("mosec", "pytriton")
"""First and second in every workload (see the results); what a paired run takes unless told otherwise."""


def peer(name: str, workload: str) -> Peer:
    """A peer with its best settings for a workload."""
    if workload == "vector":
        settings = Settings(workload=workload, workers=1, threads=1, max_batch=32)
    elif name == "mlserver":
        settings = Settings(workload=workload, workers=1, threads=2, max_batch=8)
    else:
        settings = Settings(workload=workload, workers=2, threads=1, max_batch=8)
    return Peer(name=name, workload=workload, wire=WIRES[name], settings=settings)


def present(names: Sequence[str], workload: str) -> list[Peer]:
    """Those of the named peers that are installed; says what to run for the others."""
    missing = [name for name in names if not installed(name)]
    if missing:
        print(
            f"not measured, as not installed: {', '.join(missing)}. To compare with them: "
            f"python -m benchmarks.peers install {' '.join(missing)}",
            file=sys.stderr,
        )
    return [peer(name, workload) for name in names if name not in missing]
