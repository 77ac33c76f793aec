"""What can be broken, by name.

A fault is prepared before the load begins, begun, ended, and cleared away after the load: `end` and
`clear` are called however the run ends.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from meshwork.chaos.mesh import Mesh
from meshwork.errors import FailedPrecondition, NotFound
from meshwork.router.v1.router_pb2 import Replica


class Fault(ABC):
    """One fault of a mesh.

    Attributes:
        victim: name of the replica that becomes faulty; "" if the fault is of something else.
        address: `host:port` of that replica.
        subject: what is broken, for people.
    """

    name: ClassVar[str]

    def __init__(self, mesh: Mesh, *, duration_s: float) -> None:
        self.mesh = mesh
        self.duration_s = duration_s
        self.victim = ""
        self.address = ""
        self.subject = ""

    @abstractmethod
    async def choose(self, target: str, *, force: bool) -> None:
        """Chooses what to break.

        Args:
            target: a service, a replica, or "".
            force: whether to break what has no peer.

        Raises:
            FailedPrecondition: callers would notice, since there is no peer; says what to do.
            NotFound: there is no such service or replica.
        """

    @abstractmethod
    def says(self) -> str:
        """What it will do, exactly, in one sentence."""

    async def prepare(self) -> None:  # noqa: B027 - most need nothing
        """Makes ready what the fault needs; nothing is broken yet."""

    @abstractmethod
    async def begin(self) -> None:
        """Breaks it."""

    async def end(self) -> None:  # noqa: B027
        """Puts it back."""

    async def clear(self) -> None:  # noqa: B027
        """Removes what `prepare` made."""


class ReplicaFault(Fault):
    """A fault of one replica that has a peer.

    Attributes:
        replica: as it was before.
        peers: how many replicas its service then had, itself among them.
    """

    replica: Replica
    peers: int

    async def choose(self, target: str, *, force: bool) -> None:
        """See Fault."""
        self.replica = await replica_with_peer(self.mesh, target, force=force)
        self.peers = len(await self.mesh.serving(self.replica.service))
        self.victim = self.subject = self.replica.name
        self.address = self.replica.address


async def replica_with_peer(mesh: Mesh, target: str, *, force: bool) -> Replica:
    """The replica `target`, or the first one of the service `target`, or of any service.

    Raises:
        FailedPrecondition, NotFound: see Fault.choose.
    """
    serving = await mesh.serving()
    named = [each for each in serving if target in ("", each.name, each.service)]
    if not named:
        there = ", ".join(sorted({each.service for each in serving} | {each.name for each in serving}))
        raise NotFound(f"no service or replica {target!r} takes traffic; there are: {there or 'none'}")
    for each in named:
        if force or sum(other.service == each.service for other in serving) > 1:
            return each
    service = named[0].service
    raise FailedPrecondition(
        f"{service} has one replica, so its callers would have no other: run `meshwork scale {service}=2` "
        "first, or say --force"
    )


def table() -> dict[str, Callable[..., Fault]]:
    """The faults by name, in the order in which `all` goes through them."""
    from meshwork.chaos import orders, outages, partition, replicas

    kinds: list[type[Fault]] = [
        replicas.Kill,
        replicas.Terminate,
        replicas.Hang,
        replicas.Slow,
        partition.Partition,
        orders.Drain,
        orders.RollingRestart,
        outages.RedisDown,
        outages.RedisEmptied,
        outages.RouterDown,
        outages.GatewayDown,
    ]
    return {kind.name: kind for kind in kinds}
