"""A lane: one model's queue, and the choice of its next batch.

Work is ordered by when it is due (`Call.due`). Callers get their fair share by start-time fair
queueing: each caller has a virtual time that grows by the cost of what was served to it, and only
callers within one batch of the least served may go next; among those the earliest due goes first.

A batch is led by that item. Others join in the same order while they are of the leader's group, the
batch's cost stays within the budget, and padding stays within a fifth of the batch:

    waste = 1 - sum of lengths / (items x longest)
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from meshwork.errors import DeadlineExceeded
from meshwork.serving.call import Call
from meshwork.serving.sizes import nbytes
from meshwork.serving.task import Task

AnyTask = Task[Any, Any, Any, Any]
R = TypeVar("R")

MOST_WASTE = 0.2  # of a batch may be padding
_LOOKED_AT = 512  # items that the search for a batch looks at, at most
_HUSKS = 64  # entries without a caller that a flow keeps before it sweeps


@dataclass(order=True, slots=True)
class Work(Generic[R]):
    """One item in a queue."""

    due: float  # on the monotonic clock
    order: int
    prepared: Any = field(compare=False)
    call: Call = field(compare=False)
    cost: float = field(compare=False)
    group: Hashable = field(compare=False)
    length: int = field(compare=False)  # along the padded axis; 0 if it is not padded
    size: int = field(compare=False)  # bytes
    arrived: float = field(compare=False)
    done: asyncio.Future[R] = field(compare=False)
    taken: bool = field(default=False, compare=False)  # it is in a batch, or its caller left


@dataclass(slots=True)
class _Flow:
    """One caller's part of a lane."""

    served: float  # virtual time: cost served so far, from the lane's when the caller came
    heap: list[Work[Any]] = field(default_factory=list)


class Lane:
    """One model's queue; its devices take batches from it, and may be several."""

    def __init__(self, max_items: int) -> None:
        self._max_items = max_items
        self._flows: dict[str, _Flow] = {}
        self._virtual = 0.0  # the least virtual time among callers who wait
        self._order = 0
        self.queued = 0  # items that someone waits for
        self.queued_cost = 0.0
        self.queued_bytes = 0

    def put(self, task: AnyTask, prepared: Any, call: Call, now: float) -> Work[Any]:
        """Queues one item; once whoever waits for its `done` has left, it counts no more."""
        self._order += 1
        work: Work[Any] = Work(
            due=call.due(now),
            order=self._order,
            prepared=prepared,
            call=call,
            cost=task.cost(prepared),
            group=task.group(prepared),
            length=task.padded_length(prepared),
            size=nbytes(prepared),
            arrived=now,
            done=asyncio.get_running_loop().create_future(),
        )
        self._enter(work)
        work.done.add_done_callback(lambda _: self._leave(work))
        return work

    def put_back(self, work: Work[Any]) -> None:
        """Returns to its place what was taken and could not be begun."""
        if not work.done.done():
            work.taken = False
            self._enter(work)
            self._flows[work.call.caller].served -= work.cost

    def end_all(self, error: Exception) -> None:
        """Ends all that waits with `error`."""
        for flow in self._flows.values():
            for work in flow.heap:
                if not work.done.done():
                    work.done.set_exception(error)

    def _enter(self, work: Work[Any]) -> None:
        flow = self._flows.get(work.call.caller)
        if flow is None:
            flow = self._flows[work.call.caller] = _Flow(self._virtual)
        heapq.heappush(flow.heap, work)
        self.queued += 1
        self.queued_cost += work.cost
        self.queued_bytes += work.size

    def _leave(self, work: Work[Any]) -> None:
        if work.taken:
            return
        self._uncount(work)
        flow = self._flows.get(work.call.caller)
        # A heap gives up only its first entry cheaply: the rest stay until they are most of it.
        if flow is not None and len(flow.heap) > 2 * self.queued + _HUSKS:
            flow.heap = [each for each in flow.heap if not each.done.done()]
            heapq.heapify(flow.heap)

    def _uncount(self, work: Work[Any]) -> None:
        work.taken = True
        self.queued -= 1
        self.queued_bytes -= work.size
        self.queued_cost = self.queued_cost - work.cost if self.queued else 0.0  # 0.0 forgets rounding

    def first_due(self, now: float) -> float | None:
        """When the most urgent item is due; None if nobody waits. Drops what no one waits for."""
        for caller, flow in list(self._flows.items()):
            while flow.heap and self._stale(flow.heap[0], now):
                self._drop(heapq.heappop(flow.heap))
            if not flow.heap:
                del self._flows[caller]
        return min((flow.heap[0].due for flow in self._flows.values()), default=None)

    @staticmethod
    def _stale(work: Work[Any], now: float) -> bool:
        return work.done.done() or work.call.deadline <= now

    def _drop(self, work: Work[Any]) -> None:
        if not work.taken:
            self._uncount(work)
        if not work.done.done():
            work.done.set_exception(DeadlineExceeded("the deadline passed while the call was queued"))

    def take(self, now: float, budget: Callable[[float], float]) -> list[Work[Any]]:
        """Removes and returns the next batch.

        Args:
            budget: from the first item's cost to the cost that the batch is filled up to.
        """
        if self.first_due(now) is None:
            return []
        self._virtual = min(flow.served for flow in self._flows.values())
        batch: list[Work[Any]] = []
        passed: list[tuple[_Flow, Work[Any]]] = []
        limit, cost, lengths, longest = 0.0, 0.0, 0, 0
        for flow, work in self._in_order(now, budget(0.0)):
            if batch:
                if cost + work.cost > limit or len(batch) == self._max_items:
                    passed.append((flow, work))
                    break
                padded = (len(batch) + 1) * max(longest, work.length)
                wasted = 1 - (lengths + work.length) / padded if padded else 0.0
                if work.group != batch[0].group or wasted > MOST_WASTE:
                    passed.append((flow, work))
                    continue
            else:
                limit = budget(work.cost)
            self._uncount(work)
            flow.served += work.cost
            batch.append(work)
            cost, lengths, longest = cost + work.cost, lengths + work.length, max(longest, work.length)
        for flow, work in passed:
            heapq.heappush(flow.heap, work)
        return batch

    def _in_order(self, now: float, slack: float) -> Iterator[tuple[_Flow, Work[Any]]]:
        """Pops items in the order in which they may go; who looks no further stops asking."""
        looked_at = 0
        while waiting := [flow for flow in self._flows.values() if flow.heap]:
            most = min(flow.served for flow in waiting) + slack
            fair = [(flow.heap[0], index) for index, flow in enumerate(waiting) if flow.served <= most]
            heapq.heapify(fair)
            while fair:
                if looked_at == _LOOKED_AT:
                    return
                looked_at += 1
                _, index = heapq.heappop(fair)
                flow = waiting[index]
                work = heapq.heappop(flow.heap)
                if self._stale(work, now):
                    self._drop(work)
                else:
                    yield flow, work
                if flow.heap and flow.served <= most:
                    heapq.heappush(fair, (flow.heap[0], index))


def padding_waste(batch: Sequence[Work[Any]]) -> float:
    """The share of a batch that is padding, from 0 to 1."""
    padded = len(batch) * max((work.length for work in batch), default=0)
    return 1 - math.fsum(work.length for work in batch) / padded if padded else 0.0
