"""The snapshot that is in force, and who has taken it."""

from __future__ import annotations

import asyncio
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
    """

    def __init__(self, snapshot: Snapshot | None = None) -> None:
        self.snapshot = snapshot or Snapshot({}, complete=False)
        self.generation = 1
        self._takers: set[Taker] = set()
        self._progress = asyncio.Condition()

    def publish(self, snapshot: Snapshot) -> int:
        """Puts `snapshot` in force, if it says something new; returns the generation in force."""
        if snapshot.version != self.snapshot.version or snapshot.complete != self.snapshot.complete:
            self.snapshot = snapshot
            self.generation += 1
            for taker in self._takers:
                taker.wake()
        return self.generation

    def join(self, taker: Taker) -> None:
        """Lets `taker` be woken, and be waited for."""
        self._takers.add(taker)

    async def leave(self, taker: Taker) -> None:
        """Forgets `taker`: its client has gone."""
        self._takers.discard(taker)
        await self.progressed()

    async def progressed(self) -> None:
        """Says that a taker's generation went up."""
        async with self._progress:
            self._progress.notify_all()

    async def taken(self, generation: int) -> None:
        """Waits until every client that is there has taken `generation` or a later one."""
        async with self._progress:
            await self._progress.wait_for(
                lambda: all(taker.generation >= generation for taker in self._takers)
            )
