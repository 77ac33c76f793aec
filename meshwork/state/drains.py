"""The router's word to a draining replica that no client's snapshot holds it any more.

A list with one element, so that a replica can block on it until it is there; it stays for a minute,
so that a replica which asks late (or twice) hears it too.
"""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from meshwork.state.connect import REPLY_TIMEOUT_S
from meshwork.state.keys import Keys

KEPT_S = 60


class Drains:
    """Says and hears that a replica is out of every snapshot in use."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def confirm(self, replica: str) -> None:
        """Says that no client is sent to `replica` any more."""
        key = self._keys.drained(replica)
        async with self._redis.pipeline(transaction=True) as batch:
            batch.delete(key)
            batch.rpush(key, "1")
            batch.expire(key, KEPT_S)
            await batch.execute()

    async def confirmed(self, replica: str, timeout_s: float) -> bool:
        """Waits at most `timeout_s` for the router's word on `replica`; False if it did not come.

        Raises:
            TimeoutError: Redis hangs, so nobody knows.
        """
        async with asyncio.timeout(timeout_s + 1):
            return await self._confirmed(self._keys.drained(replica), timeout_s)

    async def _confirmed(self, key: str, timeout_s: float) -> bool:
        # One blocking command must end before the client's own reply timeout does.
        while timeout_s > 0:
            wait_s = min(timeout_s, REPLY_TIMEOUT_S / 2)
            # Moving the element onto its own list blocks until it is there and leaves it there.
            # redis-py types the wait of `blmove` as whole seconds, though Redis takes fractions.
            if await self._redis.blmove(key, key, wait_s) is not None:  # type: ignore[arg-type]
                return True
            timeout_s -= wait_s
        return False
