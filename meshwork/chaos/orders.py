"""What operators do in peace, which must cost no call either: drain a replica, restart a service."""

from __future__ import annotations

import asyncio
import time
from typing import ClassVar

from meshwork.chaos.faults import Fault, ReplicaFault, replica_with_peer
from meshwork.chaos.mesh import POLL_S
from meshwork.errors import FailedPrecondition, MeshworkError
from meshwork.router.v1.router_pb2 import Replica

DONE_S = 180.0


class Drain(ReplicaFault):
    """`meshwork drain REPLICA`."""

    name: ClassVar[str] = "drain"

    def says(self) -> str:
        """See Fault."""
        return f"drains {self.victim}, as `meshwork drain` does; the mesh starts another in its place"

    async def choose(self, target: str, *, force: bool) -> None:
        """See Fault."""
        await super().choose(target, force=force)
        self._before = len(await self.mesh.serving(self.replica.service))

    async def begin(self) -> None:
        """See Fault."""
        await self.mesh.clients[0].admin.drain_replica(self.victim)

    async def end(self) -> None:
        """Waits until the service has as many replicas as before."""
        give_up = time.monotonic() + DONE_S
        while time.monotonic() < give_up:
            serving = await self.mesh.serving(self.replica.service)
            if len(serving) >= self._before and not _same(self.replica, serving):
                return
            await asyncio.sleep(POLL_S)


class RollingRestart(Fault):
    """`meshwork restart SERVICE`."""

    name: ClassVar[str] = "rolling-restart"

    async def choose(self, target: str, *, force: bool) -> None:
        """See Fault; a new replica comes before each that goes, so one is enough."""
        self.subject = (await replica_with_peer(self.mesh, target, force=True)).service
        self._before = await self.mesh.serving(self.subject)

    def says(self) -> str:
        """See Fault."""
        return f"replaces the {len(self._before)} replicas of {self.subject}, as `meshwork restart` does"

    async def begin(self) -> None:
        """Restarts the service, and waits until every replica is a new one.

        Raises:
            FailedPrecondition: that took too long.
        """
        await self.mesh.clients[0].admin.restart_service(self.subject)
        give_up = time.monotonic() + DONE_S
        while time.monotonic() < give_up:
            try:
                there = await self.mesh.replicas(self.subject)
            except MeshworkError:
                there = []
            serving = await self.mesh.serving(self.subject)
            old = any(_same(each, there) for each in self._before)
            if not old and len(serving) >= len(self._before):
                return
            await asyncio.sleep(POLL_S)
        raise FailedPrecondition(f"{self.subject} was not restarted within {DONE_S:g} s")


def _same(replica: Replica, others: list[Replica]) -> bool:
    """Whether that very process is among the others."""
    return any((each.name, each.pid) == (replica.name, replica.pid) for each in others)
