"""The replicas that the router knows: what the leases say, kept through Redis's bad moments.

A lease that lapses or is given up takes its replica out at once. When leases vanish because Redis
was away or lost its data, their replicas are kept for a grace period in which those that live write
their leases anew; one that has died meanwhile is ejected by Envoy itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import socket
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from meshwork.router.v1 import router_pb2
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.leases import LeaseBook, LeaseView
from services.router.memory import Memory

log = logging.getLogger(__name__)

GRACE_S = 6.0
RECALL_S = 1.0  # how long Redis has for its first answer before the last start's replicas are taken
KEEP_INTERVAL_S = 5.0
REAP_INTERVAL_S = 0.5
WATCH_QUEUE = 1024

Replicas = Mapping[str, router_pb2.Replica]


@dataclass(frozen=True, slots=True)
class Change:
    """A replica that came, changed or went."""

    type: router_pb2.ChangeType.ValueType
    replica: router_pb2.Replica


class Roster:
    """Decides which replicas there are; no input or output, the clock is handed in."""

    def __init__(self, grace_s: float = GRACE_S) -> None:
        self.replicas: Replicas = {}
        self.known = False
        self._grace_s = grace_s
        self._grace_until = 0.0
        self._epoch = ""
        self._born: float | None = None
        self._reviewed = False  # whether the last update came after the last grace period

    @property
    def born(self) -> bool:
        """Whether leases were read at all."""
        return self._born is not None

    def settled(self, now: float) -> bool:
        """Whether nothing will change unless the leases do."""
        return self.known and self._reviewed and now >= self._grace_until

    def recall(self, replicas: Replicas) -> bool:
        """Takes replicas of a moment ago for a guess, if nothing was read; true if there are some."""
        if not self.born:
            self.replicas = replicas
        return not self.born and bool(replicas)

    def update(self, view: LeaseView, now: float) -> list[Change]:
        """Takes a view of the leases in; gives what changed."""
        if self._born is None:
            self._born = now
        if self.replicas and (view.reconnected or view.epoch != self._epoch):
            self._grace_until = now + self._grace_s
        self._epoch = view.epoch
        # A Redis without any lease may be one that forgot them all just before we came.
        self.known = self.known or bool(view.epoch) or now - self._born >= self._grace_s
        exact = self._reviewed and view.changed is not None
        self._reviewed = now >= self._grace_until
        before = self.replicas
        if exact and self._reviewed and view.changed is not None:
            self.replicas = view.replicas
            return differences(before, view.replicas, view.changed)
        kept = {}
        if now < self._grace_until:
            kept = {
                name: replica
                for name, replica in before.items()
                if name not in view.replicas and replica.state != router_pb2.REPLICA_STATE_DRAINING
            }
        self.replicas = {**kept, **view.replicas}
        return differences(before, self.replicas)


def differences(before: Replicas, after: Replicas, names: Iterable[str] | None = None) -> list[Change]:
    """What happened between two moments, by name; to those of `names`, if given."""
    changes = []
    for name in sorted(before.keys() | after.keys() if names is None else names):
        if name not in before:
            if name in after:
                changes.append(Change(router_pb2.CHANGE_TYPE_ADDED, after[name]))
        elif name not in after:
            changes.append(Change(router_pb2.CHANGE_TYPE_REMOVED, before[name]))
        elif before[name] != after[name]:
            changes.append(Change(router_pb2.CHANGE_TYPE_MODIFIED, after[name]))
    return changes


class FellBehind(Exception):
    """A watcher did not take changes as fast as they came."""


class Registry:
    """Follows the leases; tells those who watch.

    Attributes:
        changed: set whenever the replicas, or whether they are known, changed; the one who plans
            clears it.
        kept: names of the replicas whose leases Redis does not have, in a grace period.

    Args:
        memory: keeps the replicas for a start while Redis is away.
    """

    def __init__(self, book: LeaseBook, *, grace_s: float = GRACE_S, memory: Memory | None = None) -> None:
        self._book = book
        self._memory = memory
        self._roster = Roster(grace_s)
        self._heard = False  # whether Redis answered since the replicas were last written down
        self._watchers: set[asyncio.Queue[Change]] = set()
        # By host and start of the process: one that starts anew under its old name may be elsewhere.
        self._hosts: dict[tuple[str, int], str] = {}
        self._found: dict[str, router_pb2.Replica] = {}
        self._changed: set[str] = set()
        self.changed = asyncio.Event()
        self.kept: frozenset[str] = frozenset()

    @property
    def replicas(self) -> Replicas:
        """The replicas there are, by name; addresses are resolved."""
        return self._roster.replicas

    @property
    def known(self) -> bool:
        """Whether `replicas` is what there is, rather than what was not heard of yet."""
        return self._roster.known

    async def run(self) -> None:
        """Follows the leases until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow(), name="leases")
            group.create_task(self._reap(), name="lapsed leases")
            if self._memory is not None:
                group.create_task(self._remember(self._memory), name="memory")

    async def watch(self) -> AsyncGenerator[Change, None]:
        """Yields the replicas there are as ADDED and then each change, for ever.

        Raises:
            FellBehind: more changes came than the watcher took.
        """
        queue: asyncio.Queue[Change] = asyncio.Queue(WATCH_QUEUE)
        there = differences({}, self.replicas)
        self._watchers.add(queue)
        try:
            for change in there:
                yield change
            while queue in self._watchers or not queue.empty():
                yield await queue.get()
            raise FellBehind
        finally:
            self._watchers.discard(queue)

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._book.watch()) as views:
            async for view in views:
                await self._take(view)

    async def _remember(self, memory: Memory) -> None:
        await asyncio.sleep(RECALL_S)
        if not self._roster.born and self._roster.recall(await asyncio.to_thread(memory.recall)):
            log.warning("Redis is away: starting with the replicas that the last router knew")
            for change in differences({}, self.replicas):
                self._changed.add(change.replica.name)
                self._tell(change)
            self.changed.set()
        while True:
            if self._heard:
                self._heard = False
                await asyncio.to_thread(memory.keep, dict(self.replicas))
            await asyncio.sleep(KEEP_INTERVAL_S)

    async def _reap(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(*REDIS_AWAY):
                await self._book.reap()
                self._heard = self.known
                # The end of a grace period is a change that no lease announces.
                if self._roster.born and not self._roster.settled(loop.time()):
                    await self._take(await self._book.view())
            await asyncio.sleep(REAP_INTERVAL_S)

    async def _take(self, view: LeaseView) -> None:
        if view.changed is None or view.reconnected:
            wanted = {_host_key(replica) for replica in view.replicas.values()}
            self._hosts = {key: address for key, address in self._hosts.items() if key in wanted}
            names: Iterable[str] = self._found.keys() | view.replicas.keys()
        else:
            names = view.changed
        found = dict(self._found)
        for name in names:
            lease = view.replicas.get(name)
            if lease is None:
                found.pop(name, None)
            else:
                found[name] = await self._resolved(lease)
        self._found = found
        known = self._roster.known
        changes = self._roster.update(replace(view, replicas=found), asyncio.get_running_loop().time())
        kept = len(self.replicas) > len(found)
        self.kept = frozenset(self.replicas.keys() - found.keys() if kept else ())
        for change in changes:
            self._changed.add(change.replica.name)
            self._tell(change)
        if changes or self._roster.known != known:
            self.changed.set()

    def touch(self, names: Collection[str]) -> None:
        """Has the replicas of these names planned anew: something else than their leases changed."""
        if names:
            self._changed |= set(names)
            self.changed.set()

    def take_changes(self) -> set[str]:
        """Names of the replicas that came, changed or went since this was called last."""
        changed, self._changed = self._changed, set()
        return changed

    def _tell(self, change: Change) -> None:
        log.info(
            "%s %s at %s: %s",
            router_pb2.ChangeType.Name(change.type).removeprefix("CHANGE_TYPE_").lower(),
            change.replica.name,
            change.replica.address,
            router_pb2.ReplicaState.Name(change.replica.state).removeprefix("REPLICA_STATE_").lower(),
        )
        for queue in tuple(self._watchers):
            try:
                queue.put_nowait(change)
            except asyncio.QueueFull:
                self._watchers.discard(queue)

    async def _resolved(self, replica: router_pb2.Replica) -> router_pb2.Replica:
        """`replica` with the IP of its host: endpoints that Envoy gets must not be names."""
        host, _, port = replica.address.rpartition(":")
        with contextlib.suppress(ValueError):
            ipaddress.ip_address(host.strip("[]"))
            return replica
        key = _host_key(replica)
        if key not in self._hosts:
            try:
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
            except OSError as error:
                log.warning("%s: its host %r has no address: %s", replica.name, host, error)
                return replica
            addresses = sorted((entry[0] != socket.AF_INET, str(entry[4][0])) for entry in found)
            self._hosts[key] = addresses[0][1]
        address = self._hosts[key]
        known = router_pb2.Replica()
        known.CopyFrom(replica)
        known.address = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return known


def _host_key(replica: router_pb2.Replica) -> tuple[str, int]:
    return replica.address.rpartition(":")[0], replica.start_time.ToNanoseconds()
