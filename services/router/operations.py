"""The part of AdminService that takes replicas away: drains, and rolling restarts, written as orders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import grpc
from redis.asyncio import Redis

from meshwork.admin.v1 import admin_pb2, admin_pb2_grpc
from meshwork.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from meshwork.router.v1 import router_pb2
from meshwork.serving.fields import text
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.events import Events, event
from meshwork.state.keys import Keys
from meshwork.state.orders import Orders, Restart, Step, process_of

Context = grpc.aio.ServicerContext[Any, Any]
T = TypeVar("T")

DRAINING = router_pb2.REPLICA_STATE_DRAINING


class Operations(admin_pb2_grpc.AdminServiceServicer):
    """Writes orders.

    Args:
        domains: the services whose replicas there may be.
        replicas: gives the replicas that hold a lease.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        domains: Iterable[str],
        replicas: Callable[[], Iterable[router_pb2.Replica]],
    ) -> None:
        self._orders = Orders(redis, keys)
        self._events = Events(redis, keys)
        self._domains = tuple(domains)
        self._replicas = replicas

    async def DrainReplica(
        self, request: admin_pb2.DrainReplicaRequest, context: Context
    ) -> admin_pb2.DrainReplicaResponse:
        """Orders a replica to drain and end; asking again while it does changes nothing."""
        name = text("replica", request.replica, longest=200)
        held = {replica.name: replica for replica in self._replicas()}
        if name not in held:
            there = ", ".join(sorted(held)) or "none"
            raise NotFound(
                f"no replica {name!r} holds a lease; there are: {there}", kind="replica", name=name
            )
        await _written(self._orders.drain(process_of(held[name])))
        await self._say("ordered to drain", held[name].service, name)
        return admin_pb2.DrainReplicaResponse(service=held[name].service)

    async def RestartService(
        self, request: admin_pb2.RestartServiceRequest, context: Context
    ) -> admin_pb2.RestartServiceResponse:
        """Orders that every replica of a service be replaced, one after another."""
        service = self._domain(request.service)
        own = [each for each in self._replicas() if each.service == service and each.state != DRAINING]
        if not own:
            raise FailedPrecondition(f"{service} has no replica to restart: start some with `meshwork scale`")
        order = Restart(service=service, replicas=tuple(sorted(each.name for each in own)))
        await _written(self._orders.restart(order))
        await self._say(f"a rolling restart of {len(own)} was ordered", service)
        return admin_pb2.RestartServiceResponse(replicas=order.replicas)

    async def GetRestart(
        self, request: admin_pb2.GetRestartRequest, context: Context
    ) -> admin_pb2.GetRestartResponse:
        """How far the last restart of a service is, as the supervisors wrote it down."""
        order = await _written(self._orders.last_restart(self._domain(request.service)))
        if order is None:
            return admin_pb2.GetRestartResponse()
        steps = await _written(self._orders.steps(order.id))
        replicas = [_restarted(name, steps.get(name)) for name in order.replicas]
        return admin_pb2.GetRestartResponse(restart=order.id, replicas=replicas)

    async def _say(self, message: str, service: str, subject: str = "") -> None:
        """Writes down what an operator asked for."""
        happened = event(router_pb2.EVENT_KIND_OPERATOR, message, service=service, subject=subject)
        await self._events.append(happened)

    def _domain(self, service: str) -> str:
        if service not in self._domains:
            raise InvalidArgument(
                f"should be one of {', '.join(self._domains)}, not {service!r}", field="service"
            )
        return service


def _restarted(name: str, step: Step | None) -> admin_pb2.RestartedReplica:
    if step is None:
        return admin_pb2.RestartedReplica(replica=name)
    return admin_pb2.RestartedReplica(
        replica=name,
        state=admin_pb2.RestartState.Value(f"RESTART_STATE_{step.state.upper()}"),
        successor=step.successor,
        detail=step.detail,
        host=step.host,
    )


async def _written(doing: Awaitable[T]) -> T:
    try:
        return await doing
    except REDIS_AWAY as error:
        raise Unavailable("Redis, which carries orders to replicas, does not answer; try again") from error
