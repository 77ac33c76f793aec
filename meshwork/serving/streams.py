"""Streams: callers of a model that answers in many steps, all sharing each step (continuous batching).

Between two steps those who left or ran out of time leave the model, and those who wait join it as far
as it has room; so a caller that goes away costs one step at most. Steps are jobs of the device like
other models' batches, and take their turns with them.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from meshwork.errors import DeadlineExceeded, Overloaded
from meshwork.serving import metrics
from meshwork.serving.call import Call
from meshwork.serving.capacity import moved
from meshwork.serving.cost import CostModel
from meshwork.serving.device import Device, Job
from meshwork.serving.lane import Lane, Work
from meshwork.serving.task import StreamTask
from meshwork.serving.threads import contained

AnyStreamTask = StreamTask[Any, Any, Any, Any]

_JOINING = 8  # callers that may join with one step


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer, or the error that ended it."""

    raw: Any
    finished: bool


@dataclass(slots=True)
class Stream:
    """One caller's answer while it is made."""

    key: int
    prepared: Any
    call: Call
    work: Work[Any]  # its place in the queue
    pieces: asyncio.Queue[Piece] = field(default_factory=asyncio.Queue)
    joined: float = 0.0  # when it came onto the device; 0 while it waits
    compute_s: float = 0.0  # of the steps that it took part in
    steps: int = 0  # that it took part in
    most: int = 1  # callers in the fullest of them


class StreamSource:
    """The callers of one streaming model on one device."""

    def __init__(self, model: str, task: AnyStreamTask, device: Device) -> None:
        self.task = task
        self._device = device
        self._lane = Lane(_JOINING)
        self._keys = 0
        self._active: dict[int, Stream] = {}
        self._leaving: list[int] = []
        self.costs = CostModel()  # of a step, by its callers
        self.served_cost = 0.0
        self.item_cost = 0.0  # mean steps of an answer; 0 while not known
        self._steps = metrics.COMPUTE.labels(model, device.name)
        self._callers = metrics.BATCH_ITEMS.labels(model, device.name)

    @property
    def queued(self) -> int:
        """Callers that wait to join."""
        return self._lane.queued

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait."""
        return self._lane.queued_bytes

    @property
    def busy(self) -> bool:
        """Whether anybody waits or is being answered."""
        return bool(self._active or self._lane.queued)

    @property
    def rate_s(self) -> float:
        """Seconds of one caller's step among as many others as is best; 0 if unknown."""
        return self.costs.best_rate

    def queued_s(self) -> float:
        """The next step, if there is one: nobody knows how many will follow."""
        return self._step_s() if self.busy else 0.0

    def seconds(self, cost: float) -> float:
        """The time to a first piece: one step, whatever the cost."""
        return self._step_s()

    def _step_s(self) -> float:
        return self.costs.seconds(max(1, len(self._active)))

    def open(self, prepared: Any, call: Call) -> Stream:
        """Queues a caller; its pieces come in `pieces`, the last one finished."""
        work = self._lane.put(self.task, prepared, call, self._device.clock())
        self._keys += 1
        stream = work.prepared = Stream(self._keys, prepared, call, work)
        work.done.add_done_callback(lambda done: _refuse(stream, done))
        self._device.wake()
        return stream

    def close(self, stream: Stream) -> None:
        """Its caller has gone: it leaves before the next step."""
        stream.work.done.cancel()
        if self._active.pop(stream.key, None) is not None:
            self._leaving.append(stream.key)
            self._device.wake()

    def first_due(self, now: float) -> float | None:
        """Now, while there is a step to take."""
        if self._active or self._leaving:
            return now
        return self._lane.first_due(now) if self._lane.queued else None

    def next_job(self, now: float) -> Job | None:
        """The next step, with those who join it."""
        for key, stream in list(self._active.items()):
            if stream.call.deadline <= now:
                del self._active[key]
                self._leaving.append(key)
                _end(stream, DeadlineExceeded("the deadline passed before the answer was whole"))
        joining = self._lane.take(now, lambda _: math.inf)
        leaving, self._leaving = self._leaving, []
        if not (joining or leaving or self._active):
            return None
        return _Step(self, joining, leaving, self._step_s())

    def settled(
        self, step: _Step, pieces: Sequence[tuple[int, Any, bool]], begun: float, took_s: float
    ) -> None:
        """Hands the pieces of a step out."""
        for work in step.waiting:
            self._lane.put_back(work)
        for work, error in step.joined:
            stream: Stream = work.prepared
            if work.done.cancelled():
                self._leaving.append(stream.key)
            elif error is not None:
                _end(stream, error)
            else:
                stream.joined = begun
                self._active[stream.key] = stream
        if pieces or self._active:
            callers = max(1, len(self._active))
            self.costs.learn(callers, took_s)
            self.served_cost += callers
            self._steps.observe(took_s)
            self._callers.observe(callers)
        for stream in self._active.values():
            stream.compute_s += took_s
            stream.steps += 1
            stream.most = max(stream.most, len(self._active))
        for key, raw, finished in pieces:
            found = self._active.get(key)
            if found is None:
                continue
            last = finished or isinstance(raw, Exception)
            found.pieces.put_nowait(Piece(raw, last))
            if last:
                self.item_cost = moved(self.item_cost, found.steps)
                del self._active[key]
                self._leaving.append(key)

    def end_queued(self, error: Exception) -> None:
        """Ends the callers that wait to join with `error`."""
        self._lane.end_all(error)

    def end_all(self, error: Exception) -> None:
        """Ends every stream with `error`."""
        for key, stream in self._active.items():
            _end(stream, error)
            self._leaving.append(key)
        self._active.clear()
        self._lane.end_all(error)

    @property
    def keys(self) -> list[int]:
        """Those who are being answered."""
        return list(self._active)


class _Step:
    """A step as a device's job."""

    on_loop = False

    def __init__(
        self, source: StreamSource, joining: list[Work[Any]], leaving: list[int], expected_s: float
    ) -> None:
        self._source = source
        self._joining = joining
        self._leaving = leaving
        self._others = source.keys
        self.expected_s = expected_s
        self.joined: list[tuple[Work[Any], Exception | None]] = []
        self.waiting: list[Work[Any]] = []

    def run(self) -> list[tuple[int, Any, bool]]:
        """Leaves, joins, and one step; what breaks the step ends everyone in it."""
        task = self._source.task
        keys = list(self._others)
        for key in self._leaving:
            contained(task.leave, key)
        for index, work in enumerate(self._joining):
            try:
                if not contained(task.room_for, work.prepared.prepared):
                    if keys:
                        self.waiting = self._joining[index:]
                        break
                    raise Overloaded("there is no memory for an answer this long", retry_after_s=1.0)
                contained(task.join, work.prepared.key, work.prepared.prepared)
                keys.append(work.prepared.key)
                self.joined.append((work, None))
            except Exception as error:
                self.joined.append((work, error))
        if not keys:
            return []
        try:
            return list(contained(task.step))
        except Exception as error:
            return [(key, error, True) for key in keys]

    def settle(self, result: list[tuple[int, Any, bool]], begun: float, elapsed_s: float) -> None:
        """Gives each caller its piece."""
        self._source.settled(self, result, begun, elapsed_s)


def _end(stream: Stream, error: BaseException) -> None:
    stream.pieces.put_nowait(Piece(error, finished=True))


def _refuse(stream: Stream, done: asyncio.Future[Any]) -> None:
    """Tells a caller whose place in the queue ended with an error."""
    if not done.cancelled() and (error := done.exception()) is not None:
        _end(stream, error)
