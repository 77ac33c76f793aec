"""How much each process logs, changed while the mesh runs.

A level is kept for a process's name or for its service's, the process's own winning; "" takes it back,
after which the process logs as it did when it started.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence

from redis.asyncio import Redis

from meshwork.state.changes import changes
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys

log = logging.getLogger(__name__)


class LogLevels:
    """Reads and writes the levels."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def set(self, name: str, level: str) -> None:
        """Has the process or service `name` log at `level`, or as at its start if that is ""."""
        async with self._redis.pipeline(transaction=True) as batch:
            if level:
                batch.hset(self._keys.log_levels, name, level)
            else:
                batch.hdel(self._keys.log_levels, name)
            batch.publish(self._keys.log_level_changes, name)
            await batch.execute()

    async def all(self) -> dict[str, str]:
        """The levels that were set, by name."""
        return {
            str(name): str(level)
            for name, level in (await self._redis.hgetall(self._keys.log_levels)).items()
        }

    async def follow(self, names: Sequence[str]) -> None:
        """Keeps this process's level as it is set for the first of `names` that has one, until cancelled."""
        root = logging.getLogger()
        first = root.level
        async with contextlib.aclosing(
            changes(self._redis, self._keys.log_level_changes, resync_s=30.0)
        ) as reasons:
            async for _ in reasons:
                try:
                    levels = await self.all()
                except REDIS_AWAY:
                    continue  # said elsewhere, loudly enough
                wanted = next((levels[name] for name in names if levels.get(name)), "")
                level = logging.getLevelNamesMapping().get(wanted.upper(), first)
                if level != root.level:
                    log.warning("logging at %s from now on", logging.getLevelName(level))
                    root.setLevel(level)
