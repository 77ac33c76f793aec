"""How many replicas of each service were asked for, by `mesh.yaml` or `meshwork scale`."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Mapping

from redis.asyncio import Redis

from meshwork.state.changes import changes
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys

log = logging.getLogger(__name__)


class Desired:
    """Reads and writes the desired numbers of replicas."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def set(self, service: str, replicas: int) -> None:
        """Asks for `replicas` of `service`; 0 keeps the service known with none running."""
        if replicas < 0:
            raise ValueError(f"{replicas} replicas of {service}: should be 0 or more")
        async with self._redis.pipeline(transaction=True) as batch:
            batch.hset(self._keys.desired, service, str(replicas))
            batch.publish(self._keys.desired_changes, service)
            await batch.execute()

    async def get(self, service: str) -> int | None:
        """The number asked for, or None if nobody said."""
        value = await self._redis.hget(self._keys.desired, service)
        return None if value is None else int(value)

    async def forget(self, service: str) -> None:
        """Takes `service` out of the mesh's wishes."""
        async with self._redis.pipeline(transaction=True) as batch:
            batch.hdel(self._keys.desired, service)
            batch.publish(self._keys.desired_changes, service)
            await batch.execute()

    async def all(self) -> dict[str, int]:
        """The number asked for, by service."""
        return {
            str(name): int(count) for name, count in (await self._redis.hgetall(self._keys.desired)).items()
        }

    async def watch(self, *, resync_s: float = 5.0) -> AsyncGenerator[Mapping[str, int], None]:
        """Yields the numbers as they are, and again each time that they changed, for ever."""
        last: dict[str, int] | None = None
        async with contextlib.aclosing(
            changes(self._redis, self._keys.desired_changes, resync_s=resync_s)
        ) as reasons:
            async for _ in reasons:
                try:
                    now = await self.all()
                except REDIS_AWAY as error:
                    log.warning("desired replicas can't be read: %s", error)
                    continue
                if now != last:
                    last = now
                    yield now
