"""What happened in the mesh: a bounded stream, of which later entries have higher ids.

The leader writes what every router sees, so that it is there once; whoever does something himself
(an operator's command, a router that hears a client's refusal) writes that. While Redis is away an
event is logged and dropped; an event is for people, and nobody waits for it to be written.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Iterable
from typing import Any

from google.protobuf import json_format
from redis.asyncio import Redis

from meshwork.router.v1.router_pb2 import EVENT_LEVEL_INFO, Event, EventKind, EventLevel
from meshwork.state.changes import BACKOFF_S
from meshwork.state.connect import REDIS_AWAY, REPLY_TIMEOUT_S
from meshwork.state.keys import Keys
from meshwork.state.leader import FENCE, FENCED, Deposed

log = logging.getLogger(__name__)

KEPT = 10_000
READ_AT_ONCE = 500

# KEYS: leader, events. ARGV: grant or "", events kept, body.
_APPEND = f"""
if ARGV[1] ~= '' then {FENCE} end
return redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[2], '*', 'event', ARGV[3])
"""

_ID = re.compile(r"[0-9]{1,15}-[0-9]{1,15}")


def is_event_id(text: str) -> bool:
    """Whether `text` could be the id of an event."""
    return _ID.fullmatch(text) is not None


def event(
    kind: EventKind.ValueType,
    message: str,
    *,
    level: EventLevel.ValueType = EVENT_LEVEL_INFO,
    service: str = "",
    subject: str = "",
) -> Event:
    """An event of now."""
    found = Event(kind=kind, level=level, message=message, service=service, subject=subject)
    found.time.GetCurrentTime()
    return found


class Events:
    """Reads and writes the stream.

    Attributes:
        dropped: events that could not be written.
    """

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._append = redis.register_script(_APPEND)
        self.dropped = 0

    async def append(self, event: Event) -> bool:
        """Writes `event`; False if Redis is away and it was logged and dropped."""
        try:
            await self.put(event)
        except REDIS_AWAY as error:
            self.dropped += 1
            kind = EventKind.Name(event.kind).removeprefix("EVENT_KIND_").lower()
            log.warning("not written, Redis is away (%s): %s: %s", error, kind, event.message)
            return False
        return True

    async def put(self, event: Event, grant: str = "") -> None:
        """Writes `event`.

        Args:
            grant: that of the leader, where only the leader may write.

        Raises:
            Deposed: the lock is not held by `grant`; nothing was written.
            RedisError, OSError: Redis is away; nothing is known to be written.
        """
        if not event.HasField("time"):
            event.time.GetCurrentTime()
        body = json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True)
        keys = [self._keys.leader, self._keys.events]
        if await self._append(keys=keys, args=[grant, KEPT, body]) == FENCED:
            raise Deposed

    async def recent(self, count: int, *, before: str = "") -> list[Event]:
        """The last `count` events, or the last ones before the one with the id `before`, newest first."""
        end = f"({before}" if before else "+"
        entries: Any = await self._redis.xrevrange(self._keys.events, end, "-", count)
        return list(_parsed(entries))

    async def page(
        self, count: int, *, service: str = "", subject: str = "", before: str = ""
    ) -> tuple[list[Event], str]:
        """Up to `count` events about `service` and `subject`, newest first.

        Returns:
            The events, and the id to go on before; "" if there are no more.
        """
        found: list[Event] = []
        while True:
            end = f"({before}" if before else "+"
            entries: Any = await self._redis.xrevrange(self._keys.events, end, "-", READ_AT_ONCE)
            for event in _parsed(entries):
                if service in ("", event.service) and subject in ("", event.subject):
                    if len(found) == count:
                        return found, found[-1].id
                    found.append(event)
            if len(entries) < READ_AT_ONCE:
                return found, ""
            before = str(entries[-1][0])

    async def newest(self) -> str:
        """The id of the last event; "" if there is none."""
        entries: Any = await self._redis.xrevrange(self._keys.events, count=1)
        return str(entries[0][0]) if entries else ""

    async def watch(self, after: str = "") -> AsyncGenerator[Event, None]:
        """Yields each event after the one with the id `after`, for ever; while Redis is away, none."""
        failures = 0
        while True:
            try:
                # One blocking command must end before the client's own reply timeout does.
                wait_ms = int(REPLY_TIMEOUT_S / 2 * 1000)
                reply: Any = await self._redis.xread(
                    {self._keys.events: after or "0-0"}, READ_AT_ONCE, wait_ms
                )
                failures = 0
            except REDIS_AWAY:
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
                continue
            for _, entries in reply:
                after = str(entries[-1][0])
                for event in _parsed(entries):
                    yield event


def _parsed(entries: Iterable[tuple[str, dict[str, str]]]) -> Iterable[Event]:
    for name, fields in entries:
        try:
            event = json_format.Parse(fields["event"], Event(), ignore_unknown_fields=True)
        except (KeyError, json_format.ParseError) as error:
            log.warning("the event %s can't be read and is left out: %s", name, error)
            continue
        event.id = str(name)
        yield event
