"""The load generator, a process of its own: `in_flight` callers, each with one request out at any time.

It waits for the first right answer, then for each load: warms up, measures windows of a few seconds,
and checks a sample of the answers that came under load. Prints one JSON object:
`{"ready_at": seconds since the epoch, "loads": {in_flight: Load as a mapping}}`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median

import numpy as np
import uvloop

from benchmarks.peers.processes import cpu_s, machine_cpu_s, tagged
from benchmarks.peers.requests import Requests
from benchmarks.peers.wire import Call, Wire, open_wire

FIRST_ANSWER_S = 180.0
CHECKED_EVERY = 41  # requests; coprime to the number of inputs, so that all are checked in time
MOST_ERRORS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What was measured with a number of callers; medians over the windows."""

    rps: float  # answers a second
    p50_ms: float
    p99_ms: float
    server_cpu_us: float  # CPU of all of the server's processes, a request
    generator_cpu_us: float  # this process's, a request
    server_cores: float  # CPU seconds of the server a second
    other_cores: float  # CPU seconds a second that went to neither the server nor the generator
    windows_rps: list[float]
    errors: int  # calls that did not end with an answer
    error: str  # what one of them said
    checked: int  # answers held to the reference
    max_error: float  # largest difference of those from it


@dataclass(slots=True)
class _Tally:
    """What had been counted at a moment, or between two."""

    at_s: float
    answered: int
    server_s: float
    own_s: float
    machine_s: float  # of all processes


async def first_answer(wire: Wire, requests: Requests, tag: str) -> float:
    """Asks until an answer comes; gives the time.

    Raises:
        SystemExit: none came, or the server's processes are gone.
    """
    request = wire.encode(requests.inputs[0])
    ends, last, missing = time.monotonic() + FIRST_ANSWER_S, "", 0
    while time.monotonic() < ends:
        missing = missing + 1 if tag and not tagged(tag) else 0
        if missing > 3:  # a process that just becomes another program is missing for a moment
            sys.exit(f"the server ended; the last try said: {last}")
        try:
            async with asyncio.timeout(60), wire.connect(1) as calls:
                wire.decode(await calls[0](request))
                return time.time()
        except Exception as error:
            last = f"{type(error).__name__}: {error}"
            await asyncio.sleep(0.1)
    sys.exit(f"no answer in {FIRST_ANSWER_S:g} s; the last try said: {last}")


class _Callers:
    """Callers that go round the inputs until told to stop."""

    def __init__(self, encoded: list[bytes]) -> None:
        self.encoded = encoded
        self.latencies_s: list[float] = []
        self.sample: list[tuple[int, bytes]] = []
        self.errors = 0
        self.error = ""
        self.running = True
        self._next = 0

    async def run(self, call: Call) -> None:
        """One caller."""
        clock = time.perf_counter
        while self.running and self.errors < MOST_ERRORS:
            number = self._next
            self._next += 1
            index = number % len(self.encoded)
            began = clock()
            try:
                answer = await call(self.encoded[index])
            except Exception as error:
                self.errors += 1
                self.error = f"{type(error).__name__}: {error}"[:500]
                await asyncio.sleep(0.01)
                continue
            self.latencies_s.append(clock() - began)
            if number % CHECKED_EVERY == 0:
                self.sample.append((index, answer))


async def load(
    wire: Wire, requests: Requests, in_flight: int, *, windows: int, window_s: float, warm_s: float, tag: str
) -> Load:
    """Measures with `in_flight` callers."""
    callers = _Callers([wire.encode(value) for value in requests.inputs])
    servers = tagged(tag) if tag else []

    def tally() -> _Tally:
        own = os.times()
        return _Tally(
            at_s=time.perf_counter(),
            answered=len(callers.latencies_s),
            server_s=cpu_s(servers),
            own_s=own.user + own.system,
            machine_s=machine_cpu_s(),
        )

    async with wire.connect(in_flight) as calls:
        tasks = [asyncio.create_task(callers.run(call)) for call in calls]
        await asyncio.sleep(warm_s)
        tallies = [tally()]
        for _ in range(windows):
            await asyncio.sleep(window_s)
            tallies.append(tally())
        callers.running = False
        await asyncio.wait(tasks, timeout=30)
    spans = [
        _Tally(*(getattr(after, name) - getattr(before, name) for name in _Tally.__slots__))
        for before, after in pairwise(tallies)
        if after.answered > before.answered
    ]
    if not spans:
        sys.exit(f"nothing was answered at {in_flight} in flight: {callers.error}")
    latencies_ms = np.array(callers.latencies_s[tallies[0].answered : tallies[-1].answered]) * 1e3
    rates = [span.answered / span.at_s for span in spans]
    return Load(
        rps=round(median(rates), 1),
        p50_ms=round(float(np.percentile(latencies_ms, 50)), 3),
        p99_ms=round(float(np.percentile(latencies_ms, 99)), 3),
        server_cpu_us=round(median(span.server_s / span.answered for span in spans) * 1e6, 1),
        generator_cpu_us=round(median(span.own_s / span.answered for span in spans) * 1e6, 1),
        server_cores=round(median(span.server_s / span.at_s for span in spans), 2),
        other_cores=round(
            median((span.machine_s - span.server_s - span.own_s) / span.at_s for span in spans), 2
        ),
        windows_rps=[round(rate, 1) for rate in rates],
        errors=callers.errors,
        error=callers.error,
        checked=len(callers.sample),
        max_error=max(
            (requests.error(index, wire.decode(answer)) for index, answer in callers.sample), default=-1.0
        ),
    )


async def _run(options: argparse.Namespace) -> None:
    requests = Requests.load(options.workload)
    wire = open_wire(options.wire, options.workload, options.address)
    ready_at = await first_answer(wire, requests, options.tag)
    loads = {}
    for in_flight in options.in_flight:
        measured = await load(
            wire,
            requests,
            in_flight,
            windows=options.windows,
            window_s=options.window_s,
            warm_s=options.warm_s,
            tag=options.tag,
        )
        loads[in_flight] = asdict(measured)
    print(json.dumps({"ready_at": ready_at, "loads": loads}))


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wire", required=True, help="module:Class of a benchmarks.peers.wire.Wire")
    parser.add_argument("--workload", required=True, choices=("text", "vector", "image"))
    parser.add_argument("--address", required=True, help="host:port")
    parser.add_argument("--in-flight", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--windows", type=int, default=3)
    parser.add_argument("--window-s", type=float, default=3.0)
    parser.add_argument("--warm-s", type=float, default=1.5)
    parser.add_argument("--tag", default="", help="of the server's processes; empty to leave their CPU out")
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
