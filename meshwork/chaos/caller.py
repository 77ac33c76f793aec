"""The process that calls the mesh: many callers, each at its own steady pace, whatever becomes of a call.

It reads a `Plan` as JSON from standard input, and writes a `Call` as a JSON list in a line for each that
has ended, until its input is closed; then it waits for what is under way and ends.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple

from meshwork.chaos.calls import STREAMS, UNARY, LightCall
from meshwork.client import AsyncClient, connect_async
from meshwork.errors import MeshworkError
from meshwork.process import run

MOST_UNDER_WAY = 4000
FLUSH_S = 0.05
OK = "OK"


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What load to make."""

    paths: dict[str, dict[str, Any]]  # name -> arguments of `connect_async`; callers take turns over them
    unary: list[str]  # calls by name
    streams: list[str]
    callers: int  # of unary calls
    rate: float  # unary calls a second, all callers together
    stream_callers: int
    stream_rate: float  # streams a second, all together
    deadline_s: float = 10.0


class Call(NamedTuple):
    """One call that has ended."""

    name: str  # `service.Method`
    path: str  # of Plan.paths
    started: float  # monotonic clock, which the processes of a host share
    took_s: float
    replica: str  # that answered; "" if none did
    code: str = OK
    message: str = ""  # of the error
    again_s: float = 0.0  # when it says to come back; 0 if it does not


class _Callers:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._clients = {
            path: connect_async(timeout_s=plan.deadline_s, **arguments)
            for path, arguments in plan.paths.items()
        }
        self._under_way: set[asyncio.Task[None]] = set()
        self._lines: list[str] = []

    def _each(self) -> Iterator[tuple[str, LightCall, str, float]]:
        """Call, how to make it, path and seconds between two, of each caller."""
        plan, paths = self._plan, list(self._clients)
        for names, callers, rate in (
            (plan.unary, plan.callers, plan.rate),
            (plan.streams, plan.stream_callers, plan.stream_rate),
        ):
            for index, _ in zip(count(), range(callers if names else 0), strict=False):
                name = names[(index // len(paths)) % len(names)]
                make = UNARY[name] if name in UNARY else STREAMS[name]()
                yield name, make, paths[index % len(paths)], callers / rate

    async def run(self, stop: asyncio.Event) -> None:
        callers = [asyncio.create_task(self._caller(*each)) for each in self._each()]
        writer = asyncio.create_task(self._write())
        await stop.wait()
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=self._plan.deadline_s + 5)
        writer.cancel()
        self._flush()
        await asyncio.gather(*(client.close() for client in self._clients.values()))

    async def _caller(self, name: str, make: LightCall, path: str, pause_s: float) -> None:
        due = time.monotonic() + random.random() * pause_s  # noqa: S311 - spreads the callers
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            due = max(due + pause_s, time.monotonic() - pause_s)
            if len(self._under_way) < MOST_UNDER_WAY:
                task = asyncio.create_task(self._call(name, make, path, self._clients[path]))
                self._under_way.add(task)
                task.add_done_callback(self._under_way.discard)

    async def _call(self, name: str, make: LightCall, path: str, client: AsyncClient) -> None:
        started, replica, code, message, again_s = time.monotonic(), "", OK, "", 0.0
        try:
            replica = await make(client, self._plan.deadline_s)
        except MeshworkError as error:
            code, message, again_s = error.code.name, str(error), error.retry_after_s or 0.0
        except Exception as error:  # whatever it is, the caller has no answer
            code, message = type(error).__name__, str(error)
        call = Call(name, path, started, time.monotonic() - started, replica, code, message, again_s)
        self._lines.append(json.dumps(call))

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(FLUSH_S)
            self._flush()

    def _flush(self) -> None:
        if self._lines:
            sys.stdout.write("\n".join(self._lines) + "\n")
            sys.stdout.flush()
            self._lines.clear()


async def _main() -> None:
    plan = Plan(**json.loads(sys.stdin.readline()))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait() -> None:
        sys.stdin.read()
        loop.call_soon_threadsafe(stop.set)

    waiting = loop.run_in_executor(None, wait)
    await _Callers(plan).run(stop)
    await waiting


if __name__ == "__main__":
    run(_main())
