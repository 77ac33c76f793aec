"""What callers notice when a part of the mesh breaks: calls lost, the worst wait, how long the fault is used.

A mesh of its own, started by `meshwork up -d` once for all faults: nlp x 3 and translation x 2 with models
that cost nothing, two gateways, two routers, a Valkey. Callers in a process of their own make unary calls
and read streams, through each gateway and proxyless, before, during and after the fault
(`meshwork.chaos`). A call is lost if its caller gets an error, or no answer within 10 s; faults last
longer than that.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.report import Targets, arguments, finish, machine
from benchmarks.steady.mesh import light_services, running
from meshwork.chaos.faults import table
from meshwork.chaos.mesh import POLL_S, Mesh
from meshwork.chaos.report import Report
from meshwork.chaos.run import Pace, run
from meshwork.supervisor.home import Home

SERVICE = "nlp"
DURATION_S = 12.0
REPLICAS, BACK_S = 5, 60.0  # of all services, and the longest to wait for them
OUT_S = {"kill": 1.0, "hang": 3.0}  # the longest that a faulty replica may be used


async def measure(home: Home, name: str, pace: Pace, calls: int, *, quiet: bool) -> Report:
    """One fault on the mesh of `home`, once all replicas are back from the one before."""
    async with Mesh(home) as mesh:
        give_up = time.monotonic() + BACK_S
        while len(await mesh.serving()) < REPLICAS and time.monotonic() < give_up:  # noqa: ASYNC110
            await asyncio.sleep(POLL_S)
        fault = table()[name](mesh, duration_s=DURATION_S)
        await fault.choose(SERVICE, force=False)
        return await run(
            fault,
            pace,
            least_calls=calls,
            say=lambda text: None if quiet else print(f"{name}: {text}", file=sys.stderr),
        )


def main() -> None:
    """Measures each fault and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--fault", action="append", choices=list(table()), help="only this; may be repeated")
    parser.add_argument("--calls", type=int, default=20_000, help="unary calls a fault, at least")
    parser.add_argument("--rate", type=float, default=500.0, help="unary calls a second")
    parser.add_argument("--gateways", type=int, default=2)
    options = parser.parse_args()
    pace = Pace(rate=options.rate, callers=64, stream_rate=16.0, stream_callers=16, before_s=5.0, after_s=5.0)
    before = machine()
    figures: dict[str, Any] = {"rate": options.rate}
    targets: Targets = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), light_services(), options.gateways) as home,
    ):
        reports = []
        for name in options.fault or table():
            report = asyncio.run(measure(home, name, pace, options.calls, quiet=options.json))
            reports.append(report)
            # It takes minutes: who stops it has what was measured until then.
            print(f"{name}: {asdict(report)}", file=sys.stderr, flush=True)
    for report in reports:
        name = report.fault
        figures[name] = asdict(report)
        targets[f"{name}_calls"] = (report.calls, ">=", options.calls)
        targets[f"{name}_lost"] = (report.lost, "<=", 0)
        targets[f"{name}_streams_lost"] = (report.streams_lost, "<=", 0)
        if name in OUT_S and report.out_of_rotation_s is not None:
            targets[f"{name}_out_of_rotation_s"] = (report.out_of_rotation_s, "<=", OUT_S[name])
    finish("failover", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    main()
