"""The routers' word to a draining replica: no client of mine holds a snapshot with you in it.

Each router answers for the clients that are connected to it, so a replica waits for every router that
is there. What they say is kept for a minute, under the process and not the replica's name alone: a
process that starts under a name that drained before is not meant.
"""

from __future__ import annotations

from collections.abc import Set

from redis.asyncio import Redis

from meshwork.state.keys import Keys

KEPT_S = 60
ANY = "any router"

# KEYS: router_expiry, drained. Returns the routers that are there, and those that confirmed.
_READ = """
local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)
return {redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf'), redis.call('SMEMBERS', KEYS[2])}
"""


def missing(routers: Set[str], confirmed: Set[str]) -> Set[str]:
    """The routers that a drain still waits for; `ANY` while none is known and none has answered."""
    if not routers and not confirmed:
        return {ANY}
    return routers - confirmed


class Drains:
    """Says and hears which routers have a replica out of every snapshot in use."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._read = redis.register_script(_READ)

    async def confirm(self, process: str, router: str) -> None:
        """Says that no client of `router` is sent to that `process` of a replica any more."""
        key = self._keys.drained(process)
        async with self._redis.pipeline(transaction=True) as batch:
            batch.sadd(key, router)
            batch.expire(key, KEPT_S)
            await batch.execute()

    async def missing(self, process: str) -> Set[str]:
        """The routers that have yet to say so: see the function `missing`."""
        keys = [self._keys.router_expiry, self._keys.drained(process)]
        routers, confirmed = await self._read(keys=keys)
        return missing({str(name) for name in routers}, {str(name) for name in confirmed})
