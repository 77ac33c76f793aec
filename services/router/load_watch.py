"""Asks every replica for what it counts, while somebody watches, and tells all who watch.

One round of questions serves all watchers, and none is asked while nobody watches. A replica's own
counts are taken, rather than what a report of it says, so that what is shown here and what Prometheus
shows are one thing.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping

import aiohttp

from meshwork.router.v1 import router_pb2
from services.router.load_figures import Figures, Rates, loads, rates, read

log = logging.getLogger(__name__)

PERIOD_S = 2.0
WINDOW_S = 10.0  # of rates and quantiles: long enough for some calls of a quiet model
_REPLY_S = 1.5
_AT_ONCE = 16  # replicas that are asked at the same time
_LARGEST_BYTES = 4 << 20

_Past = deque[tuple[float, Figures]]  # when, on the monotonic clock, and what was said


class LoadWatch:
    """The load of the mesh, for those who watch it.

    Args:
        replicas: gives the replicas that hold a lease, by name.
    """

    def __init__(self, replicas: Callable[[], Mapping[str, router_pb2.Replica]]) -> None:
        self._replicas = replicas
        self._watchers = 0
        self._watched = asyncio.Event()
        self._told = asyncio.Condition()
        self._latest: router_pb2.WatchLoadResponse | None = None
        self._rounds = 0
        self._past: dict[str, _Past] = {}

    async def watch(self) -> AsyncGenerator[router_pb2.WatchLoadResponse, None]:
        """The load now, then each new one; who is slow misses some. They are everybody's: change none."""
        self._watchers += 1
        self._watched.set()
        seen = self._rounds
        try:
            if self._latest is not None:
                yield self._latest
            while True:
                async with self._told:
                    while self._rounds == seen:
                        await self._told.wait()
                    seen, latest = self._rounds, self._latest
                assert latest is not None
                yield latest
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._watched.clear()

    async def run(self) -> None:
        """Asks the replicas while somebody watches, until cancelled."""
        connector = aiohttp.TCPConnector(limit=_AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=_REPLY_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                if not self._watched.is_set():
                    self._past, self._latest = {}, None
                    await self._watched.wait()
                begun = time.monotonic()
                latest = await self._ask(session)
                async with self._told:
                    self._latest = latest
                    self._rounds += 1
                    self._told.notify_all()
                # Rates need two looks: the second one comes sooner.
                period_s = PERIOD_S if latest.window_s else PERIOD_S / 2
                await asyncio.sleep(max(0.1, begun + period_s - time.monotonic()))

    async def _ask(self, session: aiohttp.ClientSession) -> router_pb2.WatchLoadResponse:
        there = {name: each for name, each in self._replicas().items() if each.http_address}
        slots = asyncio.Semaphore(_AT_ONCE)  # what waits for a slot is not late yet

        async def ask(replica: router_pb2.Replica) -> Figures | None:
            async with slots:
                try:
                    return await _scrape(session, replica.http_address)
                except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
                    log.debug("%s does not say what its load is: %s", replica.name, error)
                    return None

        answers = await asyncio.gather(*map(ask, there.values()))
        now, window_s = time.monotonic(), 0.0
        response = router_pb2.WatchLoadResponse()
        response.time.FromMilliseconds(int(time.time() * 1000))
        self._past = {name: past for name, past in self._past.items() if name in there}
        measured: dict[str, tuple[str, Mapping[str, Rates]]] = {}
        for (name, replica), figures in zip(there.items(), answers, strict=True):
            past = self._past.setdefault(name, deque())
            while len(past) > 1 and past[1][0] <= now - WINDOW_S:
                past.popleft()
            if figures is None:
                response.silent_replicas.append(name)
                continue
            since, before = past[0] if past else (now, {})
            measured[name] = replica.service, rates(before, figures, now - since)
            window_s = max(window_s, now - since)
            past.append((now, figures))
        response.silent_replicas.sort()
        response.window_s = window_s
        response.loads.extend(loads(measured))
        return response


async def _scrape(session: aiohttp.ClientSession, address: str) -> Figures:
    """What the replica at `address` counts.

    Raises:
        ClientError, OSError: it does not answer, or not in time.
        ValueError: its answer, or its address, is none.
    """
    async with session.get(f"http://{address}/metrics", allow_redirects=False) as response:
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > _LARGEST_BYTES:
                raise ValueError(f"more than {_LARGEST_BYTES} bytes")
    # Some milliseconds of parsing; discovery goes on meanwhile.
    return await asyncio.to_thread(read, body.decode(errors="replace"))
