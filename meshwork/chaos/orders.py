"""What operators do in peace, which must cost no call either: drain a replica, restart a service."""

from __future__ import annotations

from typing import ClassVar

from meshwork.chaos.faults import Fault, ReplicaFault, replica_with_peer
from meshwork.errors import FailedPrecondition

DONE_S = 180.0


class Drain(ReplicaFault):
    """`meshwork drain REPLICA`."""

    name: ClassVar[str] = "drain"

    def says(self) -> str:
        """See Fault."""
        return f"drains {self.victim}, as `meshwork drain` does; the mesh starts another in its place"

    async def begin(self) -> None:
        """See Fault."""
        await self.mesh.clients[0].admin.drain_replica(self.victim)

    async def end(self) -> None:
        """Waits until the service has as many replicas as before."""
        await self.mesh.until_replaced(self.replica, self.peers, DONE_S)


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
        for replica in self._before:
            if not await self.mesh.until_replaced(replica, len(self._before), DONE_S):
                raise FailedPrecondition(f"{replica.name} was not replaced within {DONE_S:g} s")
