"""What a call itself costs: a vector times a 64 x 8 matrix, Meshwork beside other model servers.

Meshwork's replica is a process as in any mesh, with a service and a model of 40 lines each
(benchmarks/vector); every answer is typed, says what served it, and carries its load report. `meshwork`
takes unary calls, `meshwork-aio` the same by grpc.aio's own server, and `meshwork-stream` one stream a
channel that carries many requests a message. The rate is for 64 callers over 4 channels; CPU is that
of all of a server's processes, a request.

`--quick` measures Meshwork alone, once.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers.catalog import STRONGEST, WIRES, present
from benchmarks.peers.compare import compare
from benchmarks.peers.places import DATA, VECTOR_MODEL
from benchmarks.peers.replica import Replica
from benchmarks.report import Targets, arguments, finish, machine
from benchmarks.vector.profile import profile
from meshwork.model_config import ModelConfig

IN_FLIGHT = (1, 64)
MOST = "64"
CARD = 'name: product\nversion: "1"\nservice: vector\ntask: product\nmethods: [Predict]\nlicence: MIT\n'
NOT_GRPC = ("mosec", "litserve", "bentoml")
OURS, AIO, STREAM = "meshwork", "meshwork-aio", "meshwork-stream"


def contenders(folder: Path) -> list[Replica]:
    """Ours: three ways to take the same requests."""
    (folder / "card.yaml").write_text(CARD, encoding="utf-8")
    shutil.copy(VECTOR_MODEL / "weight.npy", folder)
    unary = Replica(
        name=OURS,
        workload="vector",
        wire="benchmarks.vector.wires:Predict",
        service="vector",
        module="benchmarks.vector",
        model=ModelConfig(source=str(folder)),
    )
    return [
        unary,
        replace(unary, name=AIO, settings={"FRONT": "aio"}),
        replace(unary, name=STREAM, wire="benchmarks.vector.wires:PredictMany"),
    ]


def main() -> None:
    """Measures and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--window-s", type=float, default=3.0, help="seconds of a window; a turn has two")
    parser.add_argument("--peers", nargs="*", default=list(STRONGEST), choices=tuple(WIRES))
    parser.add_argument("--quick", action="store_true", help="one turn of Meshwork's three, no peers")
    options = parser.parse_args()
    if not (DATA / "reference.npz").is_file():
        sys.exit("the workloads' data is missing: run `python -m benchmarks.peers data` first, a few minutes")
    before = machine()
    peers = [] if options.quick else present(options.peers, "vector")
    with tempfile.TemporaryDirectory() as folder:
        ours = contenders(Path(folder))
        figures: dict[str, Any] = compare(
            [*peers, *ours],
            IN_FLIGHT,
            rounds=1 if options.quick else options.rounds,
            window_s=options.window_s,
        )
        for replica in ours:
            if "failed" in figures[replica.name]:
                sys.exit(f"{replica.name}: {figures[replica.name]['failed']}")
        try:
            figures["profile"] = profile(ours[0], IN_FLIGHT[-1])
        except RuntimeError as error:
            figures["profile"] = {"failed": str(error)}
    cost = {name: found[MOST]["server_cpu_us"] for name, found in figures.items() if MOST in found}
    targets: Targets = {"cpu_us_a_request_64_in_flight": (cost[OURS], "<=", 180.0)}
    speak_grpc = [cost[peer.name] for peer in peers if peer.name in cost and peer.name not in NOT_GRPC]
    if speak_grpc:
        targets["cpu_of_best_grpc_peer_over_ours"] = (round(min(speak_grpc) / cost[OURS], 2), ">=", 2.0)
    loads = [figures[each.name][str(count)] for each in ours for count in IN_FLIGHT]
    targets["largest_error"] = (max(load["max_error"] for load in loads), "<=", 1e-4)
    targets["calls_of_ours_that_failed"] = (sum(load["errors"] for load in loads), "<=", 0)
    if "mosec" in cost:
        figures["cpu_of_ours_over_mosec"] = {
            name: round(cost[name] / cost["mosec"], 1) for name in (OURS, STREAM)
        }
    finish("serve_vector", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    main()
