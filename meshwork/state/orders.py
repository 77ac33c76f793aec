"""What operators order of running processes: a replica drains, a service's replicas are replaced.

A drain is for one process, so that it can't hit what starts later under an old name. Orders are kept
for an hour: what is not taken up by then is not taken up at all. A restart is taken up by the
supervisors, each for the replicas that it runs; they write down how far each one is.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncGenerator, Iterable
from dataclasses import field
from typing import Literal

from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from redis.asyncio import Redis

from meshwork.router.v1.router_pb2 import Replica
from meshwork.state.changes import changes
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys

log = logging.getLogger(__name__)

KEPT_S = 3600


def process_of(replica: Replica) -> str:
    """The process that holds the lease `replica`: its name, and when it started."""
    return f"{replica.name}/{replica.start_time.ToNanoseconds()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Restart:
    """A rolling restart of a service.

    Attributes:
        replicas: names of those to be replaced.
        id: another one is another restart, which takes the place of the one before.
    """

    service: str
    replicas: tuple[str, ...]
    id: str = field(default_factory=lambda: secrets.token_hex(4))


StepState = Literal["waiting", "starting", "draining", "replaced", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """How far the replacement of one replica is."""

    state: StepState
    successor: str = ""  # name of the replica that takes its place, once there is one
    detail: str = ""  # why it failed; "" otherwise
    host: str = ""  # of the supervisor that does it


_RESTART, _STEP = TypeAdapter(Restart), TypeAdapter(Step)


class Orders:
    """Writes and reads orders."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def drain(self, process: str) -> None:
        """Orders the `process` of a replica to drain and end."""
        async with self._redis.pipeline(transaction=True) as batch:
            batch.set(self._keys.drain_order(process), "1", ex=KEPT_S)
            batch.publish(self._keys.drain_orders(process), process)
            await batch.execute()

    async def until_drain(self, process: str, *, resync_s: float = 5.0) -> None:
        """Returns once the `process` is ordered to drain."""
        async with contextlib.aclosing(
            changes(self._redis, self._keys.drain_orders(process), resync_s=resync_s)
        ) as reasons:
            async for _ in reasons:
                with contextlib.suppress(*REDIS_AWAY):
                    if await self._redis.exists(self._keys.drain_order(process)):
                        return

    async def restart(self, order: Restart) -> None:
        """Orders that the replicas of a service be replaced; an earlier order of it ends where it is."""
        async with self._redis.pipeline(transaction=True) as batch:
            batch.set(self._keys.restart(order.service), _RESTART.dump_json(order), ex=KEPT_S)
            batch.publish(self._keys.restart_orders, order.service)
            await batch.execute()

    async def last_restart(self, service: str) -> Restart | None:
        """The last restart of `service` that was ordered, if it was within the hour."""
        text = await self._redis.get(self._keys.restart(service))
        if text is None:
            return None
        try:
            return _RESTART.validate_json(text)
        except ValidationError as error:
            log.warning("what %s holds in Redis is no restart: %s", self._keys.restart(service), error)
            return None

    async def restarts(
        self, services: Iterable[str], *, resync_s: float = 5.0
    ) -> AsyncGenerator[Restart, None]:
        """Yields each restart of one of the `services` once, for ever."""
        services = tuple(services)
        seen: dict[str, str] = {}
        async with contextlib.aclosing(
            changes(self._redis, self._keys.restart_orders, resync_s=resync_s)
        ) as reasons:
            async for _ in reasons:
                for service in services:
                    with contextlib.suppress(*REDIS_AWAY):
                        order = await self.last_restart(service)
                        if order is not None and order.service == service and seen.get(service) != order.id:
                            seen[service] = order.id
                            yield order

    async def step(self, restart: str, replica: str, step: Step) -> None:
        """Writes down how far the replacement of `replica` is."""
        key = self._keys.restart_steps(restart)
        async with self._redis.pipeline(transaction=True) as batch:
            batch.hset(key, replica, _STEP.dump_json(step))
            batch.expire(key, KEPT_S)
            await batch.execute()

    async def steps(self, restart: str) -> dict[str, Step]:
        """How far each replica is, by name; those that no supervisor took up are not in it."""
        found = {}
        for name, text in (await self._redis.hgetall(self._keys.restart_steps(restart))).items():
            with contextlib.suppress(ValidationError):
                found[str(name)] = _STEP.validate_json(text)
        return found
