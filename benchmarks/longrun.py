"""A mesh under mixed load for ten minutes: does anything grow?

A whole mesh as `meshwork up` starts it, called through its gateway: all services, streams, callers who
cancel, deadlines that are too short, bad requests, and a model that is added, unloaded and removed again
and again. Every quarter of a minute the load pauses, and what each process holds is noted. The first
quarter of the time is the warm-up; then the last quarter is held against the second.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import meshwork
from benchmarks.report import Targets, arguments, finish, machine
from benchmarks.soak.load import WRITER, MixedLoad, until
from benchmarks.soak.watch import Sample, by_role, drift, sample, total
from benchmarks.stream.model import make
from meshwork.router.v1 import router_pb2
from meshwork.supervisor.home import Home
from meshwork.supervisor.ports import free_port

ROOT = Path(__file__).parents[1]
PROBE = Path(__file__).parent / "soak" / "probe"
LOAD_S = 15.0  # between two samples
REST_S = 2.0  # before a sample, so that answers and connections that end have ended
CALLERS = 6


@contextmanager
def mesh(folder: Path, probe: Path) -> Iterator[tuple[Home, str]]:
    """A mesh of its own, and its gateway's address; ended at the end."""
    home, port = Home(folder), free_port()
    environment = {
        **os.environ,
        "MESHWORK_HOME": str(home.root),
        "BENCH_PROBE": str(probe),
        "PYTHONPATH": os.pathsep.join([str(PROBE), str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    command = [sys.executable, "-m", "meshwork"]
    options = {"env": environment, "stdout": subprocess.DEVNULL}
    subprocess.run([*command, "up", "-d", "--port", str(port)], check=True, **options)  # type: ignore[call-overload]
    try:
        yield home, f"127.0.0.1:{port}"
    finally:
        subprocess.run([*command, "down"], check=True, **options)  # type: ignore[call-overload]


async def soak(
    home: Home, address: str, writer: Path, probe: Path, minutes: float
) -> tuple[list[Sample], dict[str, int]]:
    """Loads the mesh; gives the samples, and how calls ended."""
    record = home.running()
    assert record is not None
    samples: list[Sample] = []
    async with (
        meshwork.connect_async(address, timeout_s=60) as client,
        meshwork.connect_async(record.router, timeout_s=60) as admin,
    ):
        await admin.admin.add_model(WRITER, "nlp", str(writer))
        await until(client, WRITER, router_pb2.MODEL_STATE_READY)
        load = MixedLoad(client, admin)
        ends = time.monotonic() + minutes * 60
        while time.monotonic() < ends:
            await load.run(LOAD_S, CALLERS)
            await asyncio.sleep(REST_S)
            samples.append(await asyncio.to_thread(sample, home, probe))
            held = total(samples[-1])
            print(f"{len(samples):>3}: {held}, {load.ended.total()} calls", file=sys.stderr, flush=True)
    return samples, dict(load.ended)


def main() -> None:
    """Measures and prints."""
    parser = arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long the load lasts")
    options = parser.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        writer, probe = folder / "writer", folder / "probe"
        writer.mkdir()
        probe.mkdir()
        make(writer)
        with mesh(folder / "home", probe) as (home, address):
            samples, ended = asyncio.run(soak(home, address, writer, probe, options.minutes))
    totals = [total(each) for each in samples]
    figures = {
        "minutes": options.minutes,
        "samples": len(samples),
        "calls": ended,
        "first": asdict(totals[0]),
        "last": asdict(totals[-1]),
        "rss_mb": [held.rss_mb for held in totals],
        "drift_percent_by_role": {role: drift(held) for role, held in by_role(samples)},
    }
    targets: Targets = {
        f"{kind}_drift_percent": (percent, "<=", 2.0) for kind, percent in drift(totals).items()
    }
    failed = sum(count for how, count in ended.items() if how.startswith("failed"))
    targets["calls_that_failed"] = (failed, "<=", 0)
    finish("longrun", before, figures, targets, quiet=options.json)


if __name__ == "__main__":
    main()
