"""The leader lock and what is written under it, on a real Valkey."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from meshwork.router.v1.router_pb2 import (
    EJECTION_REASON_HUNG,
    EVENT_KIND_LEADER,
    Ejection,
    Event,
    Replica,
    Router,
)
from meshwork.state.ejections import Ejections
from meshwork.state.events import Events
from meshwork.state.keys import Keys
from meshwork.state.leader import Deposed, LeaderLock, Term
from meshwork.state.leases import LeaseBook
from meshwork.state.routers import Routers

KEYS = Keys(mesh="test")
HUNG = Ejection(reason=EJECTION_REASON_HUNG, detail="silent for 3 s")


@pytest.fixture
def lock(redis: Redis) -> LeaderLock:
    return LeaderLock(redis, KEYS)


def _token(grant: str) -> int:
    return int(grant.partition(":")[0])


async def test_of_two_that_ask_at_once_one_leads_and_both_know_which(lock: LeaderLock) -> None:
    answers = await asyncio.gather(lock.campaign("a"), lock.campaign("b"))
    assert [mine for mine, _ in answers].count(True) == 1
    assert len({held for _, held in answers}) == 1


async def test_a_leader_stays_one_while_it_renews_and_a_namesake_is_another_router(
    redis: Redis, lock: LeaderLock
) -> None:
    mine, grant = await lock.campaign("a")
    assert mine
    assert await lock.campaign("a") == (True, grant)
    assert await LeaderLock(redis, KEYS).campaign("a") == (False, grant)


async def test_a_router_finds_a_lock_its_own_that_it_took_without_hearing_so(lock: LeaderLock) -> None:
    late = asyncio.create_task(lock.campaign("a"))
    mine, grant = await lock.campaign("a")
    assert mine
    assert await late == (True, grant)


async def test_a_new_leader_has_a_higher_token(lock: LeaderLock) -> None:
    _, first = await lock.campaign("a")
    await lock.resign(first)
    mine, second = await lock.campaign("b")
    assert mine
    assert _token(second) > _token(first)


async def test_redis_refuses_every_write_of_a_leader_whose_time_is_over(
    redis: Redis, lock: LeaderLock
) -> None:
    _, old = await lock.campaign("a", 0.02)
    ejections, events = Ejections(redis, KEYS), Events(redis, KEYS)
    await asyncio.sleep(0.05)  # nobody leads now
    with pytest.raises(Deposed):
        await ejections.apply({"nlp-1": HUNG}, (), old)
    await lock.campaign("b")
    with pytest.raises(Deposed):
        await ejections.apply({"nlp-1": HUNG}, (), old)
    with pytest.raises(Deposed):
        await events.put(Event(message="I lead"), old)
    await lock.resign(old)
    assert (await lock.campaign("b"))[0]
    assert await ejections.all() == {}
    assert await events.recent(10) == []


async def test_a_token_from_before_redis_forgot_opens_nothing(redis: Redis, lock: LeaderLock) -> None:
    _, old = await lock.campaign("a")
    await redis.flushall()
    _, new = await LeaderLock(redis, KEYS).campaign("b")
    assert _token(new) == _token(old)
    with pytest.raises(Deposed):
        await Ejections(redis, KEYS).apply({"nlp-1": HUNG}, (), old)


async def test_tokens_of_a_router_go_on_where_they_were_after_redis_forgot(redis: Redis) -> None:
    a, b = LeaderLock(redis, KEYS), LeaderLock(redis, KEYS)
    for _ in range(3):
        _, old = await a.campaign("a")
        await a.resign(old)
    _, old = await a.campaign("a")
    await b.campaign("b")  # it knows of the token, though it does not lead
    await redis.flushall()
    _, new = await b.campaign("b")
    assert _token(new) > _token(old)


async def test_ejections_are_written_lifted_and_watched(redis: Redis, lock: LeaderLock) -> None:
    _, grant = await lock.campaign("a")
    ejections = Ejections(redis, KEYS)
    watcher = ejections.watch()
    assert await anext(watcher) == {}
    await ejections.apply({"nlp-1": HUNG, "nlp-2": HUNG}, (), grant)
    assert await anext(watcher) == {"nlp-1": HUNG, "nlp-2": HUNG}
    await redis.hset(KEYS.ejections, "nlp-3", "{")
    await ejections.apply({}, ["nlp-2"], grant)
    assert await anext(watcher) == {"nlp-1": HUNG}
    await watcher.aclose()


def test_a_leader_stops_by_its_own_clock_after_the_time_it_was_given() -> None:
    term = Term(ttl_s=2)
    assert not term.leads(0)
    term.take(mine=True, held="7 a", sent=100)
    assert term.leads(101.9)
    assert not term.leads(102)
    term.take(mine=True, held="7 a", sent=102)
    term.take(mine=False, held="8 b", sent=103)
    assert not term.leads(103)
    assert (term.leader, term.grant) == ("b", "")


async def test_routers_see_each_other_the_leader_and_what_gateways_can_not_reach(
    redis: Redis, lock: LeaderLock
) -> None:
    routers = Routers(redis, KEYS)
    await lock.campaign("b")
    await routers.renew(Router(name="a", gateway="127.0.0.1:8080"), {"nlp-1": HUNG})
    await redis.hset(KEYS.routers, "odd", "[]")
    await redis.hset(KEYS.routers, "odder", '{"router": {"pid": "x"}, "unreachable": {}}')
    view = await routers.renew(Router(name="b", leader=False), {})
    assert {name: router.leader for name, router in view.routers.items()} == {"a": False, "b": True}
    assert view.unreachable == {"127.0.0.1:8080": {"nlp-1": HUNG}}
    await routers.leave("a")
    assert set((await routers.renew(Router(name="b"), {})).routers) == {"b"}


async def test_a_router_that_went_silent_is_told_from_one_that_left(redis: Redis) -> None:
    routers = Routers(redis, KEYS)
    await routers.renew(Router(name="a"), {}, ttl_s=0.01)
    await asyncio.sleep(0.03)
    view = await routers.renew(Router(name="b"), {})
    assert set(view.routers) == {"b"}
    assert view.lapsed == {"a"}


async def test_events_are_read_newest_first_by_page_and_by_what_they_are_about(redis: Redis) -> None:
    events = Events(redis, KEYS)
    for number in range(7):
        service = "nlp" if number % 2 else "vision"
        assert await events.append(Event(kind=EVENT_KIND_LEADER, service=service, subject=str(number)))
    await redis.xadd(KEYS.events, {"event": "{"})
    await redis.xadd(KEYS.events, {"other": ""})
    first, token = await events.page(2, service="vision")
    assert [event.subject for event in first] == ["6", "4"]
    rest, end = await events.page(10, service="vision", before=token)
    assert ([event.subject for event in rest], end) == (["2", "0"], "")
    assert [event.subject for event in (await events.page(9, subject="3"))[0]] == ["3"]
    assert [event.subject for event in await events.recent(3)] == ["6"]  # two of the three are garbage
    assert first[0].time.seconds > 0


async def test_watchers_get_the_events_that_are_written_from_then_on(redis: Redis) -> None:
    events = Events(redis, KEYS)
    await events.append(Event(message="before"))
    watcher = events.watch(await events.newest())
    following = asyncio.ensure_future(anext(watcher))
    await events.append(Event(message="after"))
    assert (await following).message == "after"
    await watcher.aclose()


async def test_only_replicas_that_are_silent_are_late_and_for_how_long(redis: Redis) -> None:
    book = LeaseBook(redis, KEYS)
    await book.renew(Replica(name="nlp-1"), 3600)
    await asyncio.sleep(0.2)
    await book.renew(Replica(name="nlp-2"), 10)
    count, late = await book.late(0.15)
    assert (count, set(late)) == (2, {"nlp-1"})
    assert 0.15 <= late["nlp-1"] < 60
    await book.revoke("nlp-1")
    assert await book.late(0.15) == (1, {})
