from __future__ import annotations

from typing import Any

import pytest
from redis.asyncio import Redis

from meshwork.admin.v1 import admin_pb2
from meshwork.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from meshwork.router.v1 import router_pb2
from meshwork.state.connect import connect
from meshwork.state.events import Events
from meshwork.state.keys import Keys
from meshwork.state.orders import Orders, Step
from services.router.operations import Operations
from tests.unit.contexts import FakeContext

KEYS = Keys(mesh="test")
CONTEXT: Any = FakeContext()
REPLICAS = [
    router_pb2.Replica(name="nlp-1", service="nlp", state=router_pb2.REPLICA_STATE_READY),
    router_pb2.Replica(name="nlp-2", service="nlp", state=router_pb2.REPLICA_STATE_DRAINING),
]


@pytest.fixture
def operations(redis: Redis) -> Operations:
    return Operations(redis, KEYS, ["nlp", "vision"], lambda: REPLICAS)  # type: ignore[abstract]


async def test_a_drain_is_ordered_of_the_process_that_holds_the_lease(
    operations: Operations, redis: Redis
) -> None:
    answer = await operations.DrainReplica(admin_pb2.DrainReplicaRequest(replica="nlp-1"), CONTEXT)
    assert answer.service == "nlp"
    assert await redis.exists(KEYS.drain_order("nlp-1/0"))
    with pytest.raises(NotFound, match="nlp-1, nlp-2"):
        await operations.DrainReplica(admin_pb2.DrainReplicaRequest(replica="nlp-9"), CONTEXT)


async def test_a_restart_names_who_is_replaced_and_shows_how_far_it_is(
    operations: Operations, redis: Redis
) -> None:
    asked = await operations.RestartService(admin_pb2.RestartServiceRequest(service="nlp"), CONTEXT)
    assert list(asked.replicas) == ["nlp-1"]
    shown = await operations.GetRestart(admin_pb2.GetRestartRequest(service="nlp"), CONTEXT)
    assert [each.state for each in shown.replicas] == [admin_pb2.RESTART_STATE_UNSPECIFIED]
    await Orders(redis, KEYS).step(shown.restart, "nlp-1", Step(state="starting", successor="nlp-3"))
    shown = await operations.GetRestart(admin_pb2.GetRestartRequest(service="nlp"), CONTEXT)
    assert shown.replicas[0].state == admin_pb2.RESTART_STATE_STARTING
    assert shown.replicas[0].successor == "nlp-3"


async def test_what_an_operator_orders_is_an_event_and_what_is_refused_is_none(
    operations: Operations, redis: Redis
) -> None:
    await operations.DrainReplica(admin_pb2.DrainReplicaRequest(replica="nlp-1"), CONTEXT)
    await operations.RestartService(admin_pb2.RestartServiceRequest(service="nlp"), CONTEXT)
    with pytest.raises(NotFound):
        await operations.DrainReplica(admin_pb2.DrainReplicaRequest(replica="nlp-9"), CONTEXT)
    restart, drain = await Events(redis, KEYS).recent(10)
    assert {restart.kind, drain.kind} == {router_pb2.EVENT_KIND_OPERATOR}
    assert (drain.service, drain.subject, drain.message) == ("nlp", "nlp-1", "ordered to drain")
    assert (restart.service, restart.subject) == ("nlp", "")


async def test_a_restart_of_nothing_is_refused(operations: Operations) -> None:
    with pytest.raises(FailedPrecondition, match="meshwork scale"):
        await operations.RestartService(admin_pb2.RestartServiceRequest(service="vision"), CONTEXT)
    with pytest.raises(InvalidArgument, match="zebra"):
        await operations.RestartService(admin_pb2.RestartServiceRequest(service="zebra"), CONTEXT)


async def test_without_redis_nothing_is_promised() -> None:
    away = connect("redis://127.0.0.1:1")
    operations = Operations(away, KEYS, ["nlp"], lambda: REPLICAS)  # type: ignore[abstract]
    with pytest.raises(Unavailable, match="Redis"):
        await operations.DrainReplica(admin_pb2.DrainReplicaRequest(replica="nlp-1"), CONTEXT)
    await away.aclose()
