from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from redis.asyncio import Redis

from meshwork.drain import out_of_snapshots
from meshwork.state.connect import connect
from meshwork.state.drains import ANY, Drains, missing
from meshwork.state.keys import Keys

KEYS = Keys()


async def registered(redis: Redis, *routers: str, for_s: float = 60) -> None:
    expiry_ms = (time.time() + for_s) * 1000
    await redis.zadd(KEYS.router_expiry, dict.fromkeys(routers, expiry_ms))


def test_every_registered_router_is_waited_for_and_where_none_is_any_one() -> None:
    assert missing({"a", "b"}, {"a"}) == {"b"}
    assert missing({"a"}, {"a", "gone since"}) == set()
    assert missing(set(), set()) == {ANY}
    assert missing(set(), {"a"}) == set()


async def test_one_router_of_two_does_not_speak_for_the_clients_of_the_other(redis: Redis) -> None:
    drains = Drains(redis, KEYS)
    await registered(redis, "router-1", "router-2")
    leaving = asyncio.create_task(out_of_snapshots(drains, "nlp-1/1", int, 60))
    await drains.confirm("nlp-1/1", "router-1")
    await drains.confirm("nlp-1/2", "router-2")  # of another process
    assert await drains.missing("nlp-1/1") == {"router-2"}
    assert not leaving.done()
    await drains.confirm("nlp-1/1", "router-2")
    await asyncio.wait_for(leaving, 30)


async def test_a_router_that_died_is_waited_for_until_it_lapses(redis: Redis) -> None:
    drains = Drains(redis, KEYS)
    await registered(redis, "router-1", "router-2")
    leaving = asyncio.create_task(out_of_snapshots(drains, "nlp-1/1", int, 60))
    await drains.confirm("nlp-1/1", "router-1")
    assert await drains.missing("nlp-1/1") == {"router-2"}
    assert not leaving.done()
    await registered(redis, "router-2", for_s=-1)
    await asyncio.wait_for(leaving, 30)


async def test_without_redis_the_wait_is_bounded_and_says_what_is_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    away = connect("redis://127.0.0.1:1")
    await out_of_snapshots(Drains(away, KEYS), "nlp-1/1", int, 0.2)
    assert "Redis did not let go" in caplog.text
    await away.aclose()


async def test_while_new_calls_come_none_is_turned_away(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    drains = Drains(redis, KEYS)
    await drains.confirm("nlp-1/1", "router-1")
    calls = itertools.count()
    await out_of_snapshots(drains, "nlp-1/1", lambda: next(calls), 0.5)
    assert "some caller did not let go" in caplog.text
