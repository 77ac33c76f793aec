"""What a Redis that served nobody for a while does to leases."""

import pytest
from redis.asyncio import Redis

from meshwork.router.v1.router_pb2 import Replica
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook
from meshwork.state.pulse import GRACE_MS, SILENCE_MS

KEYS = Keys(mesh="test")
SILENT_S = SILENCE_MS / 1000 + 0.1


@pytest.fixture
def book(redis: Redis) -> LeaseBook:
    return LeaseBook(redis, KEYS)


async def silence(redis: Redis) -> None:
    """Makes the last reading as long ago as if Redis had hung."""
    await redis.incrby(KEYS.lease_pulse, -int(SILENT_S * 1000))


async def test_leases_that_lapsed_while_nobody_could_renew_hold_on(book: LeaseBook, redis: Redis) -> None:
    assert await book.all() == {}
    for name in ("a", "b"):
        await book.renew(Replica(name=name), 0)
    await silence(redis)
    assert await book.reap() == []
    assert set(await book.all()) == {"a", "b"}
    read_ms = int(await redis.get(KEYS.lease_pulse) or 0)
    assert 0 < (await redis.zscore(KEYS.lease_expiry, "a") or 0) - read_ms <= GRACE_MS


async def test_a_reader_holds_them_as_well_as_the_one_who_reaps(book: LeaseBook, redis: Redis) -> None:
    assert await book.all() == {}
    await book.renew(Replica(name="a"), 0)
    await silence(redis)
    assert set(await book.all()) == {"a"}
    assert await book.reap() == []


async def test_who_took_a_lapsed_lease_for_gone_hears_that_it_holds(book: LeaseBook, redis: Redis) -> None:
    await book.renew(Replica(name="a"), 0)
    watcher = book.watch(resync_s=30)
    assert (await anext(watcher)).replicas == {}
    await silence(redis)
    assert await book.reap() == []
    assert set((await anext(watcher)).replicas) == {"a"}
    await watcher.aclose()


async def test_a_lease_that_lapses_while_others_are_served_goes_at_once(book: LeaseBook) -> None:
    assert await book.reap() == []
    await book.renew(Replica(name="a"), 0)
    assert await book.reap() == ["a"]


async def test_a_lease_that_holds_longer_anyway_is_left_alone(book: LeaseBook, redis: Redis) -> None:
    assert await book.all() == {}
    await book.renew(Replica(name="a"), 60)
    before = await redis.zscore(KEYS.lease_expiry, "a")
    await silence(redis)
    await book.all()
    assert await redis.zscore(KEYS.lease_expiry, "a") == before


async def test_what_is_no_time_in_the_pulse_is_no_reason_to_stop(book: LeaseBook, redis: Redis) -> None:
    await redis.set(KEYS.lease_pulse, "x")
    await book.renew(Replica(name="a"), 60)
    assert set(await book.all()) == {"a"}
