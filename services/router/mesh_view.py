"""What a router knows of the mesh besides its replicas: ejections, routers, events, and how fresh it is.

It is the one place that puts together what the loops of this router gather, for those who ask; it
decides nothing and does nothing but write itself down as one of the routers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from collections.abc import Callable, Sequence

from redis.asyncio import Redis

import meshwork
from meshwork.router.v1 import router_pb2
from meshwork.serving.config import host_name
from meshwork.state.ejections import Ejections
from meshwork.state.events import Events
from meshwork.state.keys import Keys
from meshwork.state.leader import LeaderLock
from meshwork.state.leases import LeaseBook
from meshwork.state.routers import Routers
from meshwork.xds.ads import ClientState
from meshwork.xds.cache import SnapshotCache
from meshwork.xds.snapshot import kind
from services.router import envoy
from services.router.chronicle import Chronicle
from services.router.config import RouterConfig
from services.router.ejecting import Ejecting
from services.router.ejection import NOBODY, Ejected, overruled
from services.router.leading import Leading
from services.router.model_versions import ModelVersion, serving
from services.router.peers import Peers
from services.router.policy import policy_of
from services.router.registry import Registry
from services.router.sight import Sight
from services.router.watching import Watching


class MeshView:
    """Gathers it.

    Args:
        book: where lateness is read.
        cache: whose snapshot this router serves.

    Attributes:
        name: of this router.
        ejected: why replicas are kept from traffic, by name.
        events: what happened.
        chronicle: writes what happens.
    """

    def __init__(
        self,
        config: RouterConfig,
        redis: Redis,
        keys: Keys,
        book: LeaseBook,
        registry: Registry,
        cache: SnapshotCache,
    ) -> None:
        self._registry = registry
        self._cache = cache
        self._mesh = config.mesh
        self.name = config.router or f"router-{secrets.token_hex(3)}"
        self._own = router_pb2.Router(
            name=self.name,
            address=config.discovery[0] if not config.routers else config.router_listen,
            gateway=config.gateway_listen,
            host=host_name(),
            pid=os.getpid(),
            release=meshwork.__version__,
        )
        self._own.start_time.GetCurrentTime()
        self._ejections = Ejections(redis, keys)
        self.ejected: Ejected = NOBODY
        self.events = Events(redis, keys)
        self.chronicle = Chronicle(self.events, registry, lambda name: self._ejecting.silent_s(name))
        self._leading = Leading(LeaderLock(redis, keys), self.name, self.chronicle.leader)

        def ratio_of(each: ModelVersion) -> float:
            return policy_of(config.policies, each).eject_slow

        def bounds(service: str, model: str) -> tuple[float, float]:
            policy = policy_of(config.policies, ModelVersion(service, *model.rsplit("@", 1)))
            return policy.eject_failing / 100, policy.eject_slow

        self._watching = Watching(
            redis,
            keys,
            registry,
            self._leading,
            lambda name: name in self.ejected,
            bounds,
            self.chronicle.tell,
        )
        self._ejecting = Ejecting(
            book,
            self._ejections,
            registry,
            self._leading,
            ratio_of,
            lambda: (self._watching.failing, self._watching.slow),
        )
        self._sight = (
            Sight(envoy.admin_socket(config.folder), config.gateway_listen, lambda: registry.replicas)
            if config.gateway_listen
            else None
        )
        self._peers = Peers(
            Routers(redis, keys),
            self._described,
            lambda: self._sight.unreachable if self._sight else NOBODY,
            lambda: registry.kept,
            self.chronicle,
        )

    def listens(self, http_address: str) -> None:
        """Says where this router's HTTP listener is."""
        self._own.http_address = http_address

    async def run(self) -> None:
        """Gathers, and acts where this router leads, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._peers.run(), name="routers")
            group.create_task(self._leading.run(), name="leader lock")
            group.create_task(self._follow(), name="ejections")
            group.create_task(self._ejecting.run(), name="ejecting")
            group.create_task(self._watching.run(), name="watching")
            group.create_task(self.chronicle.follow(), name="what happens")
            group.create_task(self.chronicle.write(self._leading), name="events")
            if self._sight:
                group.create_task(self._sight.run(), name="the gateway's view")

    def ejection(self) -> Callable[[str], router_pb2.Ejection | None]:
        """By replica, what is to be shown of its ejection, as it is now; None for nothing."""
        ruled = self._overruled()
        seen = self._peers.seen()

        def of(name: str) -> router_pb2.Ejection | None:
            ejection = self.ejected.get(name)
            if ejection is None:
                return seen.get(name)
            shown = router_pb2.Ejection()
            shown.CopyFrom(ejection)
            shown.overruled = name in ruled
            return shown

        return of

    def rejected(self, client: ClientState, type_url: str, names: Sequence[str], reason: str) -> None:
        """A client rejected what it was sent."""
        self.chronicle.rejected(client.node.id or "a client", kind(type_url), names, reason)

    def describe(self) -> router_pb2.GetMeshResponse:
        """How the control plane is."""
        response = router_pb2.GetMeshResponse(
            name=self._mesh,
            router=self._described(),
            state=self._peers.standing.message(),
            routers=self._peers.there(),
            snapshot_generation=self._cache.generation,
        )
        response.snapshot_time.FromMilliseconds(int(self._cache.since * 1000))
        return response

    @property
    def routers(self) -> Sequence[router_pb2.Router]:
        """The routers that are there, this one among them."""
        return self._peers.there()

    @property
    def leads(self) -> bool:
        """Whether this router leads."""
        return bool(self._leading.grant)

    @property
    def stale(self) -> bool:
        """Whether what this router knows may be old: Redis can't be read, or forgot."""
        return self._peers.standing.stale

    def _described(self) -> router_pb2.Router:
        own = router_pb2.Router()
        own.CopyFrom(self._own)
        own.leader = bool(self._leading.grant)
        own.snapshot_version = self._cache.snapshot.version
        return own

    def _overruled(self) -> frozenset[str]:
        if not self.ejected:
            return frozenset()
        return overruled(serving(self._registry.replicas.values()).values(), self.ejected)

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._ejections.watch()) as views:
            async for now in views:
                before, self.ejected = self.ejected, now
                names = before.keys() | now.keys()
                self._registry.touch({name for name in names if before.get(name) != now.get(name)})
                self.chronicle.ejections(before, now, self._overruled())
