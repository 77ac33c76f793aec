"""Batching without waiting: a free device takes at once what is queued, most urgent deadline first.

No timer delays a lone request; batches form while the device is busy. Of the queued work the most
urgent item names the model, and that model's items join in deadline order until the task's cost
budget is full. Refusal happens at the door: when the queue is full, or when

    predicted wait = queued cost x measured seconds per unit of cost

is longer than the caller has. Work whose caller left or whose deadline passed never reaches the device.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from meshwork.errors import DeadlineExceeded, Overloaded
from meshwork.serving.load import LoadMeter
from meshwork.serving.task import Task
from meshwork.serving.threads import contained

log = logging.getLogger(__name__)

AnyTask = Task[Any, Any, Any, Any]

_HUSKS = 64  # entries without a caller that a lane keeps before it sweeps
_SMOOTHING = 0.2  # weight of the newest batch in the learned seconds per unit of cost


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What became of one item, and what it took."""

    raw: Any  # the task's Raw, or the exception that it failed with
    queue_s: float  # seconds from the door to the device
    compute_s: float  # seconds that its batch held the device
    batch_size: int  # items in that batch


@dataclass(order=True, slots=True)
class _Work:
    deadline: float  # on the loop's clock; inf if the caller set none
    order: int
    prepared: Any = field(compare=False)
    cost: float = field(compare=False)
    arrived: float = field(compare=False)
    done: asyncio.Future[Done] = field(compare=False)
    taken: bool = field(default=False, compare=False)  # it is in a batch, or its caller left


class Lane:
    """One model's queue on a device, and what its work was seen to cost."""

    def __init__(self, task: AnyTask) -> None:
        self.task = task
        self.heap: list[_Work] = []
        self.queued = 0  # items that someone waits for
        self.queued_cost = 0.0
        self.s_per_cost = 0.0

    def put(self, work: _Work) -> None:
        """Queues `work`; once its caller has left, it counts no more."""
        heapq.heappush(self.heap, work)
        self.queued += 1
        self.queued_cost += work.cost
        work.done.add_done_callback(lambda _: self._leave(work))

    def _leave(self, work: _Work) -> None:
        if work.taken:
            return
        self._uncount(work)
        # A heap gives up only its first entry cheaply: the rest stay until they are most of it.
        if len(self.heap) > 2 * self.queued + _HUSKS:
            self.heap = [each for each in self.heap if not each.done.done()]
            heapq.heapify(self.heap)

    def _uncount(self, work: _Work) -> None:
        work.taken = True
        self.queued -= 1
        self.queued_cost = self.queued_cost - work.cost if self.queued else 0.0  # 0.0 forgets rounding

    def take(self, now: float) -> list[_Work]:
        """Removes and returns the next batch; drops what no one waits for any more."""
        batch: list[_Work] = []
        cost = 0.0
        while self.heap:
            work = self.heap[0]
            stale = work.done.done() or work.deadline <= now
            if batch and not stale and cost + work.cost > self.task.max_batch_cost:
                break
            heapq.heappop(self.heap)
            if not work.taken:
                self._uncount(work)
            if stale:
                if not work.done.done():
                    work.done.set_exception(DeadlineExceeded("the deadline passed while the call was queued"))
                continue
            batch.append(work)
            cost += work.cost
        return batch

    def learn(self, cost: float, elapsed_s: float) -> None:
        """Takes a batch's measured time into the seconds per unit of cost."""
        sample = elapsed_s / max(cost, 1e-9)
        self.s_per_cost += (sample - self.s_per_cost) * (_SMOOTHING if self.s_per_cost else 1.0)


class Device:
    """One device: its thread, the lanes of its models, and the loop that feeds it."""

    def __init__(
        self,
        name: str,
        load: LoadMeter,
        *,
        max_queued: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"device-{name}")
        self._load = load
        self._max_queued = max_queued
        self._clock = clock
        self._lanes: list[Lane] = []
        self._preparing = 0
        self._queued = asyncio.Event()
        self._order = itertools.count()
        load.add_device(self.predicted_wait_s)

    def add(self, lane: Lane) -> None:
        """Lets `lane`'s work run here."""
        self._lanes.append(lane)

    def predicted_wait_s(self) -> float:
        """Seconds until the device will have done all that is queued, as far as was learned."""
        return sum(lane.queued_cost * lane.s_per_cost for lane in self._lanes)

    async def submit(self, lane: Lane, prepared: Any, deadline: float) -> Done:
        """Queues one item and waits for its answer.

        Raises:
            Overloaded: the queue is full, or the answer would come after `deadline`.
            DeadlineExceeded: `deadline` passed in the queue.
            MeshworkError: what the task found wrong with the item.
            Exception: any other that the task broke with on this item.
        """
        self._admit(deadline)
        cost = lane.task.cost(prepared)
        done: asyncio.Future[Done] = asyncio.get_running_loop().create_future()
        lane.put(_Work(deadline, next(self._order), prepared, cost, self._clock(), done))
        self._queued.set()
        result = await done
        if isinstance(result.raw, Exception):
            raise result.raw
        return result

    @contextmanager
    def preparing(self, deadline: float) -> Iterator[None]:
        """Holds a place in the queue for an item while it is preprocessed.

        Raises:
            Overloaded: as `submit`, before the item costs anything.
        """
        self._admit(deadline)
        self._preparing += 1
        try:
            yield
        finally:
            self._preparing -= 1

    def _admit(self, deadline: float) -> None:
        wait_s = self.predicted_wait_s()
        if self._preparing + sum(lane.queued for lane in self._lanes) >= self._max_queued:
            raise Overloaded(
                f"{self._max_queued} items are queued on this replica; try again in {wait_s:.2f} s",
                retry_after_s=max(wait_s, 0.05),
            )
        now = self._clock()
        if now >= deadline:
            raise DeadlineExceeded("the deadline passed before the work began")
        if now + wait_s > deadline:
            raise Overloaded(
                f"the queue is {wait_s:.2f} s long, more than the call's deadline allows",
                retry_after_s=wait_s,
            )

    async def run(self) -> None:
        """Feeds the device until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._queued.wait()
            waiting = [lane for lane in self._lanes if lane.heap]
            if not waiting:
                self._queued.clear()
                continue
            lane = min(waiting, key=lambda lane: lane.heap[0])
            batch = lane.take(self._clock())
            if not batch:
                continue
            begun = self._clock()
            self._load.device_begins(self.name)
            raws = await loop.run_in_executor(
                self.thread, _forward, lane.task, [work.prepared for work in batch]
            )
            self._load.device_ends(self.name)
            elapsed_s = self._clock() - begun
            lane.learn(math.fsum(work.cost for work in batch), elapsed_s)
            for work, raw in zip(batch, raws, strict=True):
                if work.done.done():
                    continue
                work.done.set_result(
                    Done(
                        raw=raw,
                        queue_s=begun - work.arrived,
                        compute_s=elapsed_s,
                        batch_size=len(batch),
                    )
                )


def _forward(task: AnyTask, batch: Sequence[Any]) -> list[Any]:
    """Runs a batch; if it breaks as a whole, runs its items one by one, so that only the bad fail."""
    try:
        raws = list(contained(task.forward, batch))
        if len(raws) != len(batch):
            raise RuntimeError(f"{type(task).__name__} gave {len(raws)} answers for {len(batch)} items")
    except Exception as error:
        if len(batch) == 1:
            return [error]
        log.warning("a batch of %d failed, its items run alone: %r", len(batch), error)
        return [_forward(task, [item])[0] for item in batch]
    return raws
