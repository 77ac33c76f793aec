from __future__ import annotations

import asyncio
from contextlib import aclosing

from redis.asyncio import Redis

from meshwork.follow import Follower, new_wishes
from meshwork.model_config import ModelConfig
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from meshwork.state.keys import Keys
from meshwork.state.wishes import Wish, Wishes

KEYS = Keys(mesh="test")
TASKS = {"echo": "tests.unit.serving.echo_task:Echo"}
ADDED = Wish(
    service="vision",
    name="digits2",
    state="loaded",
    config=ModelConfig(source="starter://digits", name="digits2", parameters={"a": [1, 2]}),
)


async def test_a_wish_is_read_as_it_was_made(redis: Redis) -> None:
    wishes = Wishes(redis, KEYS)
    await wishes.make(ADDED)
    (wish,) = (await wishes.all()).values()
    assert wish.config == ADDED.config
    assert wish.order > 0


async def test_each_model_has_one_wish_the_last(redis: Redis) -> None:
    wishes = Wishes(redis, KEYS)
    await wishes.make(ADDED)
    await wishes.make(Wish(service="vision", name="digits2", state="removed"))
    assert [wish.state for wish in (await wishes.all()).values()] == ["removed"]


async def test_watchers_see_wishes_as_they_are_made(redis: Redis) -> None:
    wishes = Wishes(redis, KEYS)
    async with aclosing(wishes.watch()) as views:
        assert await anext(views) == {}
        await wishes.make(ADDED)
        assert list(await anext(views)) == [ADDED.key]


async def test_what_is_no_wish_in_redis_hurts_no_other(redis: Redis) -> None:
    wishes = Wishes(redis, KEYS)
    await redis.hset(KEYS.wishes, "vision/odd@", "{not json")
    await wishes.make(ADDED)
    assert list(await wishes.all()) == [ADDED.key]


def test_only_new_wishes_for_the_own_service_are_taken_up_oldest_first() -> None:
    old = Wish(service="nlp", name="old", state="loaded", order=1)
    later = Wish(service="nlp", name="later", state="loaded", order=9)
    sooner = Wish(service="nlp", name="sooner", state="loaded", order=5)
    other = Wish(service="vision", name="other", state="loaded", order=2)
    wished = {wish.key: wish for wish in (old, later, sooner, other)}
    assert list(new_wishes({old.key: old}, wished, "nlp")) == [sooner, later]


async def test_a_replica_takes_wishes_up_and_writes_down_again_what_redis_forgot(redis: Redis) -> None:
    wishes = Wishes(redis, KEYS)
    table = ModelTable(
        "vision", "vision-1", {"digits": "services.vision.tasks.digits:Digits"}, "cpu", LoadMeter()
    )
    await wishes.make(ADDED)
    follower = Follower(table, wishes, "vision")
    await follower.catch_up()
    assert [model.name for model in table.describe()] == ["digits2"]
    run = asyncio.create_task(follower.run())
    await wishes.make(Wish(service="vision", name="digits2", model="digits2@1", state="unloaded"))
    async with asyncio.timeout(10):
        while table.entries[0].loaded is not None:
            await asyncio.sleep(0.01)
        await redis.flushall()
        await redis.publish(KEYS.wish_changes, "anything")
        while not await wishes.all():
            await asyncio.sleep(0.01)
        await wishes.make(Wish(service="vision", name="digits2", model="digits2@1", state="removed"))
        while table.describe():
            await asyncio.sleep(0.01)
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
    await table.close()
