"""The snapshot that is in force, and who has taken it."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from meshwork.xds.snapshot import Snapshot


class Taker(Protocol):
    """A stream that brings its client to the snapshot in force."""

    generation: int  # of the last snapshot that its client took whole; 0 if none

    def wake(self) -> None:
        """A newer snapshot is in force."""


class SnapshotCache:
    """Holds one snapshot; each one that differs from the one before is a generation.

    Attributes:
        snapshot: the one in force.
        generation: its number, from 1.
        since: when it was put in force, in seconds of Unix time.
    """

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.snapshot = snapshot or Snapshot({}, complete=False)
        self.generation = 1
        self.since = time.time()
        self._takers: set[Taker] = set()
        self._waiting: dict[asyncio.Future[None], int] = {}

    def publish(self, snapshot: Snapshot) -> int:
        """Puts `snapshot` in force, if it says something new; returns the generation in force."""
        if snapshot.version != self.snapshot.version or snapshot.complete != self.snapshot.complete:
            self.snapshot = snapshot
            self.generation += 1
            self.since = time.time()
            for taker in self._takers:
                taker.wake()
        return self.generation

    def join(self, taker: Taker) -> None:
        """Lets `taker` be woken, and be waited for."""
        self._takers.add(taker)

    def leave(self, taker: Taker) -> None:
        """Forgets `taker`: its client has gone."""
        self._takers.discard(taker)
        self.progressed()

    def progressed(self) -> None:
        """Says that a taker's generation went up."""
        if not self._waiting:
            return
        lowest = self._lowest()
        for future, generation in self._waiting.items():
            if generation <= lowest and not future.done():
                future.set_result(None)

    async def taken(self, generation: int) -> None:
        """Waits until every client that is there has taken `generation` or a later one."""
        if self._lowest() >= generation:
            return
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = generation
        try:
            await future
        finally:
            del self._waiting[future]

    def _lowest(self) -> int:
        return min((taker.generation for taker in self._takers), default=self.generation)
