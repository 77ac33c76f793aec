"""Mixes of replicas, what arrives at them, and what the best of all balancers would make of it.

The ideal is one shared queue in front of all replicas, simulated on the same arrivals: who comes first
goes first, to the fastest replica that is free. No balancer that must send a call on before a replica
is free can know as much.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Pace:
    """How long a replica holds its device: `batch_ms + item_ms x items`, for up to `most` items."""

    batch_ms: float
    item_ms: float = 0.0
    most: int = 1

    def seconds(self, items: int) -> float:
        """Of a batch of `items`."""
        return (self.batch_ms + self.item_ms * items) / 1000

    @property
    def capacity(self) -> float:
        """Calls a second."""
        return self.most / self.seconds(self.most)


@dataclass(frozen=True, slots=True)
class Mix:
    """Replicas; `later` are their paces from the middle of the time on, if they change."""

    name: str
    paces: tuple[Pace, ...]
    later: tuple[Pace, ...] = field(default=())

    def at(self, share: float) -> tuple[Pace, ...]:
        """The paces when that share of the time is over."""
        return self.later if self.later and share >= 0.5 else self.paces

    def slower(self, more_ms: Sequence[float]) -> Mix:
        """The same with so much more for each batch, by replica."""
        paces, later = (
            tuple(
                replace(pace, batch_ms=pace.batch_ms + more)
                for pace, more in zip(part, more_ms, strict=False)
            )
            for part in (self.paces, self.later)
        )
        return replace(self, paces=paces, later=later)


def _mix(name: str, *ms: float, later: Sequence[float] = ()) -> Mix:
    return Mix(name, tuple(map(Pace, ms)), tuple(map(Pace, later)))


MIXES = (  # those with most replicas first
    _mix("six", 5, 8, 10, 15, 20, 30),
    _mix("five_slow", 15, 15, 20, 30, 30),
    _mix("one_fast", 5, 20, 20, 20),
    _mix("equal", 10, 10, 10, 10),
    _mix("one_slows_down", 10, 10, 10, 10, later=(10, 10, 10, 30)),
    _mix("facts", 5, 10, 20),
    _mix("near", 10, 11, 12),
    _mix("tenfold", 4, 12, 40),
    _mix("two_swap", 5, 10, 20, later=(20, 10, 5)),
    Mix("batches", (Pace(10, 1, 8), Pace(20, 2, 8), Pace(40, 4, 8))),
    _mix("two", 10, 20),
)


def arrivals(mix: Mix, load: float, seconds: float, seed: int) -> list[float]:
    """When calls come, in seconds: a Poisson stream at `load` times what the replicas can do then."""
    chance = random.Random(seed)
    times: list[float] = []
    now = 0.0
    while True:
        now += chance.expovariate(load * sum(pace.capacity for pace in mix.at(now / seconds)))
        if now >= seconds:
            return times
        times.append(now)


def ideal(mix: Mix, times: Sequence[float], seconds: float) -> list[float]:
    """Seconds that each call would take with one shared queue."""
    latencies: list[float] = []
    queue: deque[float] = deque()
    free = set(range(len(mix.paces)))
    busy: list[tuple[float, int]] = []  # until when, which

    def start(now: float) -> None:
        paces = mix.at(now / seconds)
        while queue and free:
            replica = min(free, key=lambda each: (paces[each].seconds(1), each))
            batch = [queue.popleft() for _ in range(min(len(queue), paces[replica].most))]
            until = now + paces[replica].seconds(len(batch))
            latencies.extend(until - came for came in batch)
            free.remove(replica)
            heapq.heappush(busy, (until, replica))

    for came in times:
        while busy and busy[0][0] <= came:
            now, replica = heapq.heappop(busy)
            free.add(replica)
            start(now)
        queue.append(came)
        start(came)
    while queue:
        now, replica = heapq.heappop(busy)
        free.add(replica)
        start(now)
    return latencies


def percentiles_ms(latencies: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99, in milliseconds."""
    ordered = sorted(latencies)
    return {
        f"p{share}": round(ordered[min(len(ordered) - 1, len(ordered) * share // 100)] * 1000, 1)
        for share in (50, 95, 99)
    }
