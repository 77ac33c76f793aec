"""The mesh's state on Redis servers that fail over: Sentinel and Cluster, real processes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from redis.asyncio import Redis

from meshwork.model_config import ModelConfig
from meshwork.router.v1.router_pb2 import Replica, ReplicaState
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.desired import Desired
from meshwork.state.drains import Drains
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.state.orders import Orders
from meshwork.state.wishes import Wish, Wishes
from services.recommendation.histories import Histories, Taken
from services.router.registry import Registry
from tests.unit.state.servers import Group, started

KEYS = Keys(mesh="a{b}:c")
READY = ReplicaState.REPLICA_STATE_READY
TTL_S = 2.0  # shorter than a failover takes
GRACE_S = 3.0


@pytest.fixture(scope="module", params=["sentinel", "cluster"])
def group(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Group]:
    yield from started(request.param, tmp_path_factory.mktemp(request.param), KEYS.leases)


@pytest.fixture
async def redis(group: Group) -> AsyncIterator[Redis]:
    client = connect(group.url)
    yield client
    await client.aclose()


def replica(name: str) -> Replica:
    return Replica(name=name, service="nlp", address="127.0.0.1:1", state=READY)


async def renewing(client: Redis, name: str) -> None:
    """What a replica does about its lease."""
    book = LeaseBook(client, KEYS)
    while True:
        with contextlib.suppress(*REDIS_AWAY):
            await book.renew(replica(name), TTL_S)
        await asyncio.sleep(0.5)


async def test_leases_desired_numbers_drains_and_wishes_are_kept(redis: Redis) -> None:
    book, desired, drains, wishes = (kind(redis, KEYS) for kind in (LeaseBook, Desired, Drains, Wishes))
    watcher = book.watch(resync_s=30)
    assert (await anext(watcher)).reconnected
    await book.renew(replica("nlp-1"), 10)
    assert set((await anext(watcher)).replicas) == {"nlp-1"}
    await watcher.aclose()
    await book.renew(replica("nlp-2"), 0)
    assert await book.reap() == ["nlp-2"]
    await book.revoke("nlp-1")
    assert await book.all() == {}
    await desired.set("nlp", 2)
    assert await desired.all() == {"nlp": 2}
    await drains.confirm("nlp-1/1", "router")
    assert not await drains.missing("nlp-1/1")
    orders = Orders(redis, KEYS)
    waiting = asyncio.create_task(orders.until_drain("nlp-1/1"))
    await orders.drain("nlp-1/1")
    await asyncio.wait_for(waiting, 20)
    await wishes.make(Wish(service="nlp", name="m", state="loaded", config=ModelConfig(source="starter://m")))
    assert [wish.name for wish in (await wishes.all()).values()] == ["m"]


async def test_histories_of_many_users_are_recorded_in_one_script(redis: Redis) -> None:
    histories = Histories(redis, KEYS)
    events = [Taken(f"user-{at}", item, None) for at in range(20) for item in ("x", "y")]
    await histories.record(events, "request", ["y"])
    await histories.record(events, "request", ["y"])
    assert await histories.of("user-7") == ["x", "y"]
    assert await histories.taken_before("y") == {"x": 20}


async def test_a_dead_primary_costs_no_replica_and_what_it_had_is_on_the_next_one(
    group: Group, redis: Redis
) -> None:
    names = {f"nlp-{at}" for at in range(4)}
    clients = [connect(group.url) for _ in names]
    replicas = [asyncio.create_task(renewing(*pair)) for pair in zip(clients, names, strict=True)]
    book = LeaseBook(redis, KEYS)
    registry = Registry(book, grace_s=GRACE_S)
    router = asyncio.create_task(registry.run())
    async with asyncio.timeout(10):
        while set(registry.replicas) != names:
            await registry.changed.wait()
            registry.changed.clear()
    primary, epoch = group.primary(), (await book.view()).epoch
    await asyncio.to_thread(group.kill_primary)
    # A replica that comes while nobody takes writes is there once somebody does.
    clients.append(connect(group.url))
    replicas.append(asyncio.create_task(renewing(clients[-1], "nlp-new")))
    async with asyncio.timeout(20):
        while "nlp-new" not in registry.replicas:
            assert names <= set(registry.replicas)
            await asyncio.sleep(0.01)
    assert group.primary() is not primary
    assert (await book.view()).epoch not in ("", epoch)
    # Longer than whatever grace there is for those that did not renew their lease on it.
    back = time.monotonic()
    while time.monotonic() < back + GRACE_S + 1:
        assert names <= set(registry.replicas)
        await asyncio.sleep(0.01)
    assert names | {"nlp-new"} == set(await book.all())
    assert await Desired(redis, KEYS).all() == {"nlp": 2}
    assert await Histories(redis, KEYS).of("user-7") == ["x", "y"]
    for task in (router, *replicas):
        task.cancel()
    await asyncio.gather(router, *replicas, return_exceptions=True)
    for client in clients:
        await client.aclose()
