"""One device: its thread, the models that take turns on it, and the door to their queues.

No timer delays a lone request; batches form while the device is busy. A free device asks the queues
that are within their fair share of its time (start-time fair queueing over models) for the one whose
most urgent item is due first, and runs its next batch. Refusal happens at the door: when the queue
holds too many items or bytes, or when

    predicted wait = (rest of the running batch + queued cost at the learned rate) x drag

is longer than four fifths of the time that the caller has. *Drag* is how much longer it takes from one
batch to the next than the batch should take, learned while batches follow each other: a process that shares
its cores comes late to its device. Were it all of the caller's time, a device with more work than it can do
would end each item just after its caller gave up, and answer nobody. Work whose caller left or whose
deadline passed never reaches the device.

A device whose job takes many times as long as it should, and seconds, has stalled: a driver or a lock
that does not come back, most often. It takes no more work until that job ends.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from opentelemetry import trace

from meshwork.errors import DeadlineExceeded, Overloaded, Unavailable
from meshwork.serving import metrics, traced
from meshwork.serving.call import Call
from meshwork.serving.capacity import moved
from meshwork.serving.cost import CostModel
from meshwork.serving.lane import AnyTask, Lane, Work, padding_waste
from meshwork.serving.load import LoadMeter
from meshwork.serving.threads import contained

log = logging.getLogger(__name__)

_ON_LOOP_S = 0.0003  # a batch of a `light` task that takes no longer is not worth the way to a thread
_LOOP_HELD_S = 0.005  # one that took as long would have held up every call
_LOOP_SPARED = 1000  # batches after such a one before the loop does one again
_NICE = 5  # of a device's thread, beside 0 of the event loop's
_TURN_S = 0.2  # device time by which a model may be ahead of another that waits
_PROMISED = 0.8  # of a caller's time; the rest is for the way back, and for what predictions miss
_MOST_DRAG = 2.0  # a batch that takes more than so many times what it should says more of the pace
_STALL_S, _STALL_TIMES = 3.0, 20.0  # a job that takes so long, and so many times what it should, has stalled
_SOON_S = 0.05  # the least that a refused caller is told to wait


@dataclass(frozen=True, kw_only=True, slots=True)
class Done:
    """What became of one item, and what it took."""

    raw: Any  # the task's Raw, or the exception that it failed with
    queue_s: float  # seconds from the door to the device
    compute_s: float  # seconds that its batch held the device
    batch_size: int  # items in that batch
    begun: float = 0.0  # when the device took it, on the monotonic clock
    cost: float = 0.0  # of the whole batch, in the task's unit
    batch: trace.SpanContext | None = None  # the batch's span, if a traced call was in it


class Job(Protocol):
    """Something that a device should do next."""

    @property
    def expected_s(self) -> float:
        """How long it is expected to take; 0 if that is not known."""

    @property
    def on_loop(self) -> bool:
        """Whether it is so short that the event loop should do it."""

    def run(self) -> Any:
        """Does it, on the device's thread."""

    def settle(self, result: Any, begun: float, elapsed_s: float) -> None:
        """Hands the results out, on the event loop."""


class Source(Protocol):
    """What gives a device its jobs: the queue of one model."""

    @property
    def queued(self) -> int:
        """Items that wait."""

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait."""

    @property
    def served_cost(self) -> float:
        """Cost of all that was served so far."""

    @property
    def rate_s(self) -> float:
        """Seconds per unit of cost in good batches, at the pace of now; 0 if unknown."""

    def queued_s(self) -> float:
        """Device time that what waits will take, as far as is known."""

    def first_due(self, now: float) -> float | None:
        """When its most urgent work is due; None if there is none."""

    def next_job(self, now: float) -> Job | None:
        """Takes the next job out of the queue."""

    def end_queued(self, error: Exception) -> None:
        """Ends what waits with `error`; what was begun goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """What a device's queues may hold."""

    items: int = 4096
    queue_bytes: int = 1 << 30


def _yield_to_calls() -> None:
    """Lets the thread that answers calls go first where they share a core; Linux ranks threads singly."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


class Device:
    """One device and the loop that feeds it."""

    def __init__(
        self,
        name: str,
        load: LoadMeter,
        *,
        bounds: Bounds | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"device-{name}", initializer=_yield_to_calls)
        self.clock = clock
        self._bounds = bounds or Bounds()
        self._used_s: dict[Source, float] = {}  # virtual time of each source: device seconds
        self._virtual = 0.0
        self._preparing = 0
        self._preparing_bytes = 0
        self._running: tuple[float, float] | None = None  # when the job began, how long it should take
        self._drag = 1.0  # seconds that pass for each second that jobs should take
        self._jobs = 0  # begun so far
        self._looked_at = 0  # the job of the last look
        self._held_s = 0.0  # by how much that job was seen to run
        self._wake = asyncio.Event()
        self.busy_s = 0.0  # that it has worked
        load.add_device(self)

    @property
    def work(self) -> Iterable[Source]:
        """What runs here."""
        return self._used_s

    def add(self, source: Source) -> None:
        """Lets a source's work run here."""
        self._used_s[source] = self._virtual

    def remove(self, source: Source) -> None:
        """Takes no more of a source's work."""
        self._used_s.pop(source, None)

    def wake(self) -> None:
        """Says that a source has work."""
        self._wake.set()

    def wait_s(self) -> float:
        """Seconds until the device will have done all that is there now, as far as was learned."""
        rest = 0.0
        if self._running is not None:
            begun, expected = self._running
            rest = max(0.0, begun + expected - self.clock())
        return rest + sum(source.queued_s() for source in self._used_s)

    def predicted_s(self) -> float:
        """`wait_s`, counting how late this process comes to the device."""
        return self.wait_s() * self._drag

    def look(self, passed_s: float) -> None:
        """Takes in that so many seconds have passed since the last look.

        They are counted, not read off a clock, so that a process that was stopped itself sees no stall.
        """
        same = self._running is not None and self._jobs == self._looked_at
        self._held_s = self._held_s + passed_s if same else 0.0
        self._looked_at = self._jobs

    @property
    def stalled(self) -> bool:
        """Whether the job that runs was seen to take far longer than it should."""
        if self._running is None:
            return False
        _, expected = self._running
        return expected > 0 and self._held_s >= max(_STALL_S, _STALL_TIMES * expected)

    def stall(self) -> Unavailable:
        """What callers are told while it has stalled."""
        _, expected = self._running or (0.0, 0.0)
        return Unavailable(
            f"device {self.name} does not come back: a batch that should take {expected:.3g} s "
            f"has run for {self._held_s:.1f} s",
            reason="DEVICE_STALLED",
            metadata={"device": self.name},
        )

    @contextmanager
    def preparing(self, call: Call, model: str, items: int, size: int) -> Iterator[None]:
        """Holds places in the queue for items while they are preprocessed; or refuses them.

        Args:
            items: how many.
            size: bytes of their input.

        Raises:
            Overloaded: the queue is full, or the answer would come after the deadline.
            DeadlineExceeded: the deadline has passed.
            Unavailable: the device has stalled.
        """
        if self.stalled:
            metrics.REFUSED.labels(model, "stalled").inc()
            raise self.stall()
        self._admit(call, model, size)
        self._preparing += items
        self._preparing_bytes += size
        try:
            yield
        finally:
            self._preparing -= items
            self._preparing_bytes -= size

    def _admit(self, call: Call, model: str, size: int) -> None:
        items = self._preparing + sum(source.queued for source in self._used_s)
        held = self._preparing_bytes + sum(source.queued_bytes for source in self._used_s)
        if items >= self._bounds.items:
            raise self._full(model, "items", f"{items} items are queued on this replica")
        if held and held + size > self._bounds.queue_bytes:
            raise self._full(model, "bytes", f"{held >> 20} MB are queued on this replica")
        self.check_in_time(call, model, 0.0)

    def check_in_time(self, call: Call, model: str, own_s: float) -> None:
        """Refuses work that would be done too late, if anything is before it.

        Args:
            own_s: seconds that its own batch will take, as far as is known.

        Raises:
            Overloaded: it would be done after the deadline.
            DeadlineExceeded: the deadline has passed.
        """
        if call.deadline == math.inf:
            return
        now = self.clock()
        if now >= call.deadline:
            raise DeadlineExceeded("the deadline passed before the work began")
        wait_s = self.predicted_s()
        if wait_s and wait_s + own_s > _PROMISED * (call.deadline - now):
            metrics.REFUSED.labels(model, "deadline").inc()
            raise Overloaded(
                f"the answer would take {wait_s + own_s:.2f} s, more than the call's deadline allows",
                retry_after_s=max(wait_s, _SOON_S),
            )

    def _full(self, model: str, cause: str, what: str) -> Overloaded:
        wait_s = max(self.predicted_s(), _SOON_S)
        metrics.REFUSED.labels(model, cause).inc()
        return Overloaded(f"{what}; try again in {wait_s:.2f} s", retry_after_s=wait_s)

    async def run(self) -> None:
        """Feeds the device until cancelled."""
        loop = asyncio.get_running_loop()
        before: tuple[float, float] | None = None  # the job that this one follows, as `_running` was
        while True:
            now = self.clock()
            source = self._next(now)
            if source is None:
                before = None
                self._wake.clear()
                await self._wake.wait()
                continue
            job = source.next_job(now)
            if job is None:
                continue
            begun = self.clock()
            if before is not None:
                self._follows(begun - before[0], before[1])
            self._running = before = begun, job.expected_s
            self._jobs += 1
            if job.on_loop:
                result = job.run()
            else:
                result = await loop.run_in_executor(self.thread, job.run)
            self._running = None
            elapsed_s = self.clock() - begun
            self.busy_s += elapsed_s
            if source in self._used_s:
                self._used_s[source] += elapsed_s
            job.settle(result, begun, elapsed_s)
            del job, result  # while nothing comes, they would hold a batch, and a model that is unloaded

    def _follows(self, passed_s: float, expected_s: float) -> None:
        """Takes in how long it took from the begin of one job to that of the next."""
        if expected_s > 0:
            self._drag = moved(self._drag, min(max(passed_s / expected_s, 1.0), _MOST_DRAG))

    def _next(self, now: float) -> Source | None:
        dues = [(source, source.first_due(now)) for source in self._used_s]
        waiting = [(source, due) for source, due in dues if due is not None]
        if not waiting:
            return None
        if len(waiting) == 1:
            least = self._used_s[waiting[0][0]]
        else:
            least = min(self._used_s[source] for source, _ in waiting)
            waiting = [(source, due) for source, due in waiting if self._used_s[source] <= least + _TURN_S]
        self._virtual = max(self._virtual, least)
        for source, due in dues:
            if due is None:  # who does not wait saves nothing up
                self._used_s[source] = max(self._used_s[source], self._virtual)
        return min(waiting, key=lambda pair: pair[1])[0]


class BatchSource:
    """One model's queue as one of its devices sees it."""

    def __init__(self, model: str, task: AnyTask, lane: Lane, device: Device, siblings: int) -> None:
        self.task = task
        self.costs = CostModel(longest_s=task.longest_batch_s)
        self.served_cost = 0.0
        self.item_cost = 0.0  # mean cost of an item; 0 while not known
        self.may_run_on_loop = task.light and device.name.startswith("cpu")
        self._lane = lane
        self._siblings = siblings  # devices that share the lane
        self._spare_loop = 0  # batches for which the loop is still spared
        self.labels = labels = (model, device.name)
        self._items = metrics.BATCH_ITEMS.labels(*labels)
        self._cost = metrics.BATCH_COST.labels(*labels)
        self._padding = metrics.PADDING.labels(*labels)
        self._compute = metrics.COMPUTE.labels(*labels)
        self._queue = metrics.QUEUE.labels(*labels)

    @property
    def queued(self) -> int:
        """Items that wait."""
        return self._lane.queued

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait."""
        return self._lane.queued_bytes

    @property
    def rate_s(self) -> float:
        """Seconds per unit of cost in good batches, at the pace of now; 0 if unknown."""
        return self.costs.best_rate

    def queued_s(self) -> float:
        """This device's part of the time that what waits will take."""
        return self.costs.queue_seconds(self._lane.queued_cost) / self._siblings

    def seconds(self, cost: float) -> float:
        """How long a batch of `cost` takes here, as far as is known."""
        return self.costs.seconds(cost)

    def runs_on_loop(self, expected_s: float) -> bool:
        """Whether a batch that should take so long is the event loop's to do."""
        return self.may_run_on_loop and not self._spare_loop and 0 < expected_s <= _ON_LOOP_S

    def first_due(self, now: float) -> float | None:
        """When the most urgent item is due."""
        return self._lane.first_due(now) if self._lane.queued else None

    def next_job(self, now: float) -> Job | None:
        """The next batch."""
        batch = self._lane.take(now, self.costs.budget)
        return _Batch(self, batch) if batch else None

    def end_queued(self, error: Exception) -> None:
        """Ends what waits with `error`."""
        self._lane.end_all(error)

    def learned(self, batch: Sequence[Work[Done]], cost: float, begun: float, elapsed_s: float) -> None:
        """Takes a batch's measured time into the cost model and the metrics."""
        self.costs.learn(cost, elapsed_s)
        # How long an input takes may be in the input, where no cost shows it.
        self._spare_loop = _LOOP_SPARED if elapsed_s > _LOOP_HELD_S else max(0, self._spare_loop - 1)
        self.served_cost += cost
        self.item_cost = moved(self.item_cost, cost / len(batch))
        self._items.observe(len(batch))
        self._cost.observe(cost)
        self._compute.observe(elapsed_s)
        if batch[0].length:
            self._padding.observe(padding_waste(batch))
        for work in batch:
            self._queue.observe(begun - work.arrived)


class _Batch:
    """A batch as a device's job."""

    def __init__(self, source: BatchSource, batch: list[Work[Done]]) -> None:
        self._source = source
        self._batch = batch
        self._cost = math.fsum(work.cost for work in batch)
        self.expected_s = source.costs.seconds(self._cost)
        self.on_loop = source.runs_on_loop(self.expected_s)

    def run(self) -> list[Any]:
        """The raw answers, or exceptions, in order."""
        begun = time.perf_counter()
        raws = _forward(self._source.task, [work.prepared for work in self._batch])
        self._took_s = time.perf_counter() - begun  # without the way to the device's thread and back
        return raws

    def settle(self, result: list[Any], begun: float, elapsed_s: float) -> None:
        """Gives each item its answer."""
        self._source.learned(self._batch, self._cost, begun, self._took_s)
        span = traced.batch(self._source.labels, self._batch, self._cost, begun, self._took_s)
        for work, raw in zip(self._batch, result, strict=True):
            if not work.done.done():
                work.done.set_result(
                    Done(
                        raw=raw,
                        queue_s=begun - work.arrived,
                        compute_s=self._took_s,
                        batch_size=len(self._batch),
                        begun=begun,
                        cost=self._cost,
                        batch=span,
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
