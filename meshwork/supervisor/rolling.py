"""Rolling restarts: each replica is replaced by a new one, which takes calls before the old one drains.

::

    order --> waiting --turn--> starting: successor READY? --yes--> draining --> replaced
                                     |
                                     '--no, or it lacks a model--> failed: the old one stays, all stop

Every supervisor takes an order up for the replicas that it runs; one of them at a time has its turn, by
a lock in Redis. A router reads all leases at once, so where it sees the old one draining it sees the
successor ready: no snapshot lacks both.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from redis.asyncio import Redis

from meshwork.router.v1 import router_pb2
from meshwork.serving.config import host_name
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys
from meshwork.state.orders import Orders, Restart, Step, StepState

log = logging.getLogger(__name__)

READY_S = 1800.0  # the longest that a successor may take to load its models
TURN_S = 15.0  # after which the turn of a supervisor that died is over
POLL_S = 0.1


class Fleet(Protocol):
    """What a supervisor lets be done with the replicas that it runs."""

    def runs(self, name: str) -> bool:
        """Whether it runs the replica, for good as far as it knows."""

    def lease(self, name: str) -> router_pb2.Replica | None:
        """What the replica says of itself."""

    def replace(self, name: str) -> str:
        """Starts another replica of the same service, which counts in place of `name`; gives its name."""

    def keep(self, name: str) -> None:
        """Lets `name` count again: its successor is given up."""

    def trouble(self, name: str) -> str:
        """Why the replica will never be ready, "" while it may."""

    async def retire(self, name: str) -> None:
        """Drains and ends the replica."""


def _live(replica: router_pb2.Replica) -> set[str]:
    useful = (router_pb2.MODEL_STATE_READY, router_pb2.MODEL_STATE_UNLOADED)
    return {f"{model.name}@{model.version}" for model in replica.models if model.state in useful}


def shortcoming(old: router_pb2.Replica | None, new: router_pb2.Replica | None) -> str | None:
    """What `new` lacks to take the place of `old`: None for nothing, "" if that may come yet."""
    if new is None or new.state != router_pb2.REPLICA_STATE_READY:
        return ""
    lacking = _live(old) - _live(new) if old is not None else set()
    if not lacking:
        return None
    if any(model.state == router_pb2.MODEL_STATE_LOADING for model in new.models):
        return ""
    errors = [model.error for model in new.models if model.error]
    return f"{new.name} does not have {', '.join(sorted(lacking))}: {'; '.join(errors) or 'it is not loaded'}"


class Rolling:
    """Follows orders to restart, for one supervisor.

    Args:
        fleet: its replicas.
        services: those that it may run replicas of.
    """

    def __init__(self, redis: Redis, keys: Keys, fleet: Fleet, services: Iterable[str]) -> None:
        self._redis = redis
        self._keys = keys
        self._orders = Orders(redis, keys)
        self._fleet = fleet
        self._services = tuple(services)
        self._last: dict[str, str] = {}  # service -> id of the order that is in force

    async def run(self) -> None:
        """Follows until cancelled. An order waits for what the one before it is doing, and ends that."""
        running: dict[str, asyncio.Task[None]] = {}
        orders = self._orders.restarts(self._services)
        async with asyncio.TaskGroup() as group, contextlib.aclosing(orders):
            async for order in orders:
                self._last[order.service] = order.id
                before = running.get(order.service)
                running[order.service] = group.create_task(self._take_up(order, before))

    async def _take_up(self, order: Restart, before: asyncio.Task[None] | None) -> None:
        own = [name for name in order.replicas if self._fleet.runs(name)]
        for name in own:
            await self._say(order, name, "waiting")
        if before is not None:
            await asyncio.wait([before])
        for name in own:
            async with self._turn(order.service):
                if self._last[order.service] != order.id:
                    return
                why = await self._failure(order)
                if why:
                    await self._say(order, name, "failed", detail=why)
                elif self._fleet.runs(name):
                    await self._replace(order, name)
                else:
                    await self._say(order, name, "replaced")

    async def _replace(self, order: Restart, name: str) -> None:
        successor = self._fleet.replace(name)
        log.info("%s takes the place of %s", successor, name)
        await self._say(order, name, "starting", successor)
        why = await self._unfit(name, successor)
        if why:
            log.error("%s stays: %s", name, why)
            self._fleet.keep(name)
            await self._say(order, name, "failed", successor, why)
            await self._fleet.retire(successor)
            return
        await self._say(order, name, "draining", successor)
        await self._fleet.retire(name)
        await self._say(order, name, "replaced", successor)

    async def _unfit(self, name: str, successor: str) -> str:
        """Waits until `successor` can take the place of `name`; why it can't, or ""."""
        old = self._fleet.lease(name)
        try:
            async with asyncio.timeout(READY_S):
                while True:
                    why = shortcoming(old, self._fleet.lease(successor))
                    if why is None:
                        return ""
                    why = why or self._fleet.trouble(successor)
                    if why:
                        return why
                    await asyncio.sleep(POLL_S)
        except TimeoutError:
            return f"{successor} is not ready after {READY_S:g} s"

    async def _failure(self, order: Restart) -> str:
        """Why nothing more of `order` should be done, "" if it should."""
        with contextlib.suppress(*REDIS_AWAY):
            steps = await self._orders.steps(order.id)
            failed = [name for name, step in sorted(steps.items()) if step.state == "failed"]
            if failed:
                return f"not tried, since {failed[0]} could not be replaced"
        return ""

    async def _say(
        self, order: Restart, name: str, state: StepState, successor: str = "", detail: str = ""
    ) -> None:
        step = Step(state=state, successor=successor, detail=detail, host=host_name())
        try:
            await self._orders.step(order.id, name, step)
        except REDIS_AWAY as error:  # only those who watch miss it
            log.warning("%s is %s, which can't be written down: %s", name, state, error)

    @asynccontextmanager
    async def _turn(self, service: str) -> AsyncIterator[None]:
        """Waits until no other supervisor replaces a replica of `service`, and keeps it so."""
        lock = self._redis.lock(self._keys.restart_lock(service), timeout=TURN_S, sleep=0.2)
        while True:
            try:
                await lock.acquire()
                break
            except REDIS_AWAY:
                await asyncio.sleep(1)

        async def keep() -> None:
            while True:
                await asyncio.sleep(TURN_S / 3)
                with contextlib.suppress(*REDIS_AWAY):
                    await lock.reacquire()

        keeping = asyncio.create_task(keep(), name=f"turn of {service}")
        try:
            yield
        finally:
            keeping.cancel()
            await asyncio.wait([keeping])
            with contextlib.suppress(*REDIS_AWAY):
                await lock.release()
