"""Which replicas are kept from traffic, and why: written by the leader, read by every router.

All routers plan with the same ejections, so their snapshots are the same. They outlive the leader
that made them; its successor goes on from what is here.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Iterable, Mapping

from google.protobuf import json_format
from redis.asyncio import Redis

from meshwork.router.v1.router_pb2 import Ejection
from meshwork.state.changes import changes
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys
from meshwork.state.leader import FENCE, FENCED, Deposed

log = logging.getLogger(__name__)

# KEYS: leader, ejections. ARGV: grant, channel, number of those to put, name and body of each, names to lift.
_APPLY = (
    FENCE
    + """
local last = 3 + 2 * ARGV[3]
for i = 4, last, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
for i = last + 1, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
redis.call('PUBLISH', ARGV[2], '')
return 0
"""
)


class Ejections:
    """Reads and writes the ejections, by replica."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._apply = redis.register_script(_APPLY)

    async def apply(self, put: Mapping[str, Ejection], lifted: Iterable[str], grant: str) -> None:
        """Ejects the replicas of `put` and lets those of `lifted` back.

        Raises:
            Deposed: the lock is not held by `grant`; nothing was written.
        """
        bodies = [part for name, each in put.items() for part in (name, json_format.MessageToJson(each))]
        args: list[str | int] = [grant, self._keys.ejection_changes, len(put), *bodies, *lifted]
        if await self._apply(keys=[self._keys.leader, self._keys.ejections], args=args) == FENCED:
            raise Deposed

    async def all(self) -> dict[str, Ejection]:
        """The ejections, by replica; what is none is left out."""
        found = {}
        for name, body in sorted((await self._redis.hgetall(self._keys.ejections)).items()):
            try:
                found[str(name)] = json_format.Parse(body, Ejection(), ignore_unknown_fields=True)
            except json_format.ParseError as error:
                log.error("the ejection of %s can't be read and is left out: %s", name, error)
        return found

    async def watch(self, *, resync_s: float = 2.0) -> AsyncGenerator[Mapping[str, Ejection], None]:
        """Yields the ejections as they are, and again each time that they changed, for ever."""
        last: dict[str, Ejection] | None = None
        async with contextlib.aclosing(
            changes(self._redis, self._keys.ejection_changes, resync_s=resync_s)
        ) as reasons:
            async for _ in reasons:
                try:
                    now = await self.all()
                except REDIS_AWAY as error:
                    log.warning("ejections can't be read: %s", error)
                    continue
                if now != last:
                    last = now
                    yield now
