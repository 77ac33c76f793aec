"""Writes down what routers see: every router gathers it, the leader writes it, so that it is there once.

What a follower gathered it drops after KEPT_S, since the leader has written it. A router that takes
over writes what it gathered since its predecessor fell silent, less what that one wrote; and when
Redis is back, what happened while it was away.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence

from prometheus_client import Counter

from meshwork.router.v1 import router_pb2
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.events import Events
from meshwork.state.leader import Deposed
from meshwork.state.routers import RoutersView
from services.router import happenings
from services.router.leading import Leading
from services.router.registry import FellBehind, Registry

log = logging.getLogger(__name__)

EVENTS = Counter("meshwork_events", "What this router saw happen.", ("kind", "level"))

KEPT_S = 5.0
WAITING = 1000  # events that may wait to be written; older ones are dropped
POLL_S = 0.25
REPLY_S = 1.5  # a Redis that hangs must not hold up what is to be written when it is back
SAME_S = 10.0  # the same words about the same thing within this time are one event


_DURATION = re.compile(r"for [0-9.]+ s")


def same(one: router_pb2.Event, other: router_pb2.Event) -> bool:
    """Whether two routers saw the same thing."""
    apart_ms = abs(one.time.ToMilliseconds() - other.time.ToMilliseconds())
    return apart_ms < SAME_S * 1000 and _gist(one) == _gist(other)


def _gist(event: router_pb2.Event) -> tuple[int, str, str]:
    # Each router measures a silence itself.
    return event.kind, event.subject, _DURATION.sub("", event.message)


def labels(event: router_pb2.Event) -> tuple[str, str]:
    """Kind and level, for example `anomaly` and `warning`."""
    kind = router_pb2.EventKind.Name(event.kind).removeprefix("EVENT_KIND_").lower()
    return kind, router_pb2.EventLevel.Name(event.level).removeprefix("EVENT_LEVEL_").lower()


class Chronicle:
    """Gathers and writes events.

    Args:
        silent: gives how long each replica that is late is silent, in seconds.
    """

    def __init__(self, events: Events, registry: Registry, silent: Callable[[str], float | None]) -> None:
        self._events = events
        self._registry = registry
        self._silent = silent
        self._waiting: deque[tuple[float, router_pb2.Event]] = deque(maxlen=WAITING)
        self._appending: set[asyncio.Task[bool]] = set()

    def tell(self, event: router_pb2.Event) -> None:
        """Takes in what every router sees."""
        EVENTS.labels(*labels(event)).inc()
        self._waiting.append((asyncio.get_running_loop().time(), event))

    def leader(self, before: str, after: str) -> None:
        """Another router leads."""
        self.tell(happenings.of_leader(before, after))

    def state(self, level: router_pb2.EventLevel.ValueType, message: str) -> None:
        """Redis went away, came back, or forgot."""
        log.log(logging.INFO if level == router_pb2.EVENT_LEVEL_INFO else logging.WARNING, "%s", message)
        self.tell(happenings.happened(router_pb2.EVENT_KIND_STATE, level, message))

    def routers(self, before: RoutersView, after: RoutersView) -> None:
        """The routers are others than before."""
        for event in happenings.of_routers(before, after):
            self.tell(event)

    def ejections(
        self,
        before: Mapping[str, router_pb2.Ejection],
        after: Mapping[str, router_pb2.Ejection],
        overruled: Collection[str],
    ) -> None:
        """The ejections are others than before."""
        for event in happenings.of_ejections(before, after, self._registry.replicas, overruled):
            log.warning("%s %s", event.subject, event.message)
            self.tell(event)

    def rejected(self, client: str, kind: str, names: Sequence[str], reason: str) -> None:
        """A client of this router rejected what discovery sent it; nobody else sees that."""
        what = f"{kind} {', '.join(names)}".rstrip()
        text = f"rejects {what} and keeps what it had: {reason}"
        level = router_pb2.EVENT_LEVEL_ERROR
        event = happenings.happened(router_pb2.EVENT_KIND_REJECTED, level, text, subject=client)
        self._append(event)

    def hung(self, gateway: str, message: str) -> None:
        """This router's own gateway hung; nobody else saw that."""
        kind, level = router_pb2.EVENT_KIND_ANOMALY, router_pb2.EVENT_LEVEL_WARNING
        self._append(happenings.happened(kind, level, message, subject=gateway))

    def _append(self, event: router_pb2.Event) -> None:
        EVENTS.labels(*labels(event)).inc()
        task = asyncio.create_task(self._events.append(event), name="event")
        self._appending.add(task)
        task.add_done_callback(self._appending.discard)

    async def follow(self) -> None:
        """Gathers what happens to replicas, until cancelled."""
        while True:
            # What is there before leases were read is no news.
            while not self._registry.known:  # noqa: ASYNC110 - its event is for the one who plans
                await asyncio.sleep(POLL_S)
            known = dict(self._registry.replicas)
            news = set(known)
            async with contextlib.aclosing(self._registry.watch()) as changes:
                with contextlib.suppress(FellBehind):
                    async for change in changes:
                        name = change.replica.name
                        if name in news and change.type == router_pb2.CHANGE_TYPE_ADDED:
                            news.discard(name)
                            continue
                        gone = change.type == router_pb2.CHANGE_TYPE_REMOVED
                        before, after = known.pop(name, None), None if gone else change.replica
                        if after is not None:
                            known[name] = after
                        for event in happenings.of_replica(before, after, self._silent(name)):
                            self.tell(event)

    async def write(self, leading: Leading) -> None:
        """Writes what was gathered whenever this router leads, until cancelled."""
        loop = asyncio.get_running_loop()
        grant = ""
        while True:
            await asyncio.sleep(POLL_S)
            before, grant = grant, leading.grant
            try:
                if grant and grant != before:
                    grant = ""  # till this is done
                    async with asyncio.timeout(REPLY_S):
                        await self._drop_written()
                    grant = leading.grant
                if grant:
                    async with asyncio.timeout(REPLY_S):
                        await self._write(grant)
                elif leading.leader:
                    while self._waiting and self._waiting[0][0] < loop.time() - KEPT_S:
                        self._waiting.popleft()
            except Deposed:
                leading.deposed(grant)
            except REDIS_AWAY as error:  # TimeoutError is one of them
                log.debug("events can't be read or written now: %s", error)

    async def _write(self, grant: str) -> None:
        while self._waiting:
            await self._events.put(self._waiting[0][1], grant)
            self._waiting.popleft()

    async def _drop_written(self) -> None:
        """Drops what the leader before has written."""
        written = await self._events.recent(WAITING)
        kept = [each for each in self._waiting if not any(same(each[1], other) for other in written)]
        self._waiting.clear()
        self._waiting.extend(kept)
