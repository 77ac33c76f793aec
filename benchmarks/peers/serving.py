"""What `serve_text` and `serve_image` share: a replica of ours, peers, and the offline limit, in turns."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.peers.catalog import STRONGEST, WIRES, present
from benchmarks.peers.compare import beside, best, compare
from benchmarks.peers.offline import limit
from benchmarks.peers.places import DATA
from benchmarks.peers.replica import Replica
from benchmarks.report import Targets, arguments, finish, machine
from meshwork.model_config import ModelConfig, Precision

PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """What is measured, and what is wanted of it."""

    benchmark: str
    workload: str
    service: str
    wire: str  # module:Class
    source: str
    in_flight: tuple[int, ...]
    faster: Mapping[
        tuple[Precision, int], float
    ]  # by precision and calls in flight: times the best peer's rate
    of_limit: Mapping[Precision, float]  # by precision: share of the offline limit, with the most in flight
    tolerance: float  # of float32 scores
    engine: str = ""

    def replica(self, precision: Precision, device: str, threads: int) -> Replica:
        """Ours."""
        return Replica(
            name=f"meshwork-{precision}",
            workload=self.workload,
            wire=self.wire,
            service=self.service,
            model=self.model(precision),
            settings={"DEVICE": device, "THREADS": str(threads)},
        )

    def model(self, precision: Precision) -> ModelConfig:
        """What it serves."""
        return ModelConfig(source=self.source, precision=precision, engine=self.engine)  # type: ignore[arg-type]


def run(question: Question, description: str | None) -> None:
    """Reads the command line, measures, prints."""
    parser = arguments(description)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each contender")
    parser.add_argument("--window-s", type=float, default=3.0, help="seconds of a window; a turn has two")
    parser.add_argument(
        "--peers", nargs="*", default=list(STRONGEST), choices=tuple(WIRES), help="whom to measure beside"
    )
    slots = ",".join(f"cpu:{core}" for core in range(os.cpu_count() or 1))
    parser.add_argument("--device", default=slots, help="of our replica; by default a slot for each core")
    parser.add_argument("--threads", type=int, default=1, help="of a forward pass of ours")
    options = parser.parse_args()
    if not (DATA / "reference.npz").is_file():
        from benchmarks.peers import data

        print("making weights, requests and reference answers, once: a few minutes", file=sys.stderr)
        data.make()
    before = machine()
    peers = present(options.peers, question.workload)
    ours = {each: question.replica(each, options.device, options.threads) for each in PRECISIONS}
    figures = compare(
        [*peers, *ours.values()],
        question.in_flight,
        rounds=options.rounds,
        window_s=options.window_s,
        also={
            f"offline-{each}": partial(limit, question.workload, question.model(each))
            for each in question.of_limit
        },
    )
    for replica in ours.values():
        if "failed" in figures[replica.name]:
            sys.exit(f"{replica.name}: {figures[replica.name]['failed']}")
    names = [peer.name for peer in peers]
    figures["beside_the_best_peer"] = {
        f"{each}, {count} in flight": beside(figures, names, f"meshwork-{each}", count)
        for each in PRECISIONS
        for count in question.in_flight
    }
    targets: Targets = {}
    for (precision, count), wanted in question.faster.items():
        rival = best(figures, names, count)
        if rival is not None:
            mine = figures[f"meshwork-{precision}"][str(count)]
            ratio = round(mine["rps"] / rival["rps"], 2)
            targets[f"{precision}_rate_{count}_in_flight_over_best_peer"] = (ratio, ">=", wanted)
    most = str(max(question.in_flight))
    for precision, wanted in question.of_limit.items():
        share = figures[f"meshwork-{precision}"][most]["rps"] / figures[f"offline-{precision}"]["rps"]
        targets[f"{precision}_share_of_offline_limit"] = (round(share, 2), ">=", wanted)
    error = max(load["max_error"] for load in _loads(figures["meshwork-float32"]))
    targets["float32_largest_error"] = (error, "<=", question.tolerance)
    failed = sum(load["errors"] for each in ours.values() for load in _loads(figures[each.name]))
    targets["calls_of_ours_that_failed"] = (failed, "<=", 0)
    finish(question.benchmark, before, figures, targets, quiet=options.json)


def _loads(figures: Mapping[str, object]) -> list[dict[str, float]]:
    return [load for load in figures.values() if isinstance(load, dict)]
