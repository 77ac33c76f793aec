from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable

import pytest

from meshwork.errors import DeadlineExceeded
from meshwork.serving.call import Call, Priority
from meshwork.serving.lane import MOST_WASTE, Lane, padding_waste
from tests.unit.serving.echo_task import Echo


class Sized(Echo):
    """An Echo whose items cost, and are padded to, their length; equal first letters share batches."""

    def cost(self, prepared: str) -> float:
        return float(len(prepared))

    def padded_length(self, prepared: str) -> int:
        return len(prepared)

    def group(self, prepared: str) -> Hashable:
        return prepared[0]


def up_to(budget: float) -> Callable[[float], float]:
    return lambda _: budget


@pytest.fixture
def lane() -> Lane:
    return Lane(256)


def put(lane: Lane, *items: str, caller: str = "", call: Call | None = None) -> None:
    for item in items:
        lane.put(Sized(), item, call or Call(caller=caller), now=0.0)


def taken(lane: Lane, budget: float = 1e9, now: float = 0.0) -> list[str]:
    return [work.prepared for work in lane.take(now, up_to(budget))]


async def test_a_batch_fills_the_budget_and_no_more(lane: Lane) -> None:
    put(lane, *["aaaa"] * 10)
    assert len(taken(lane, 18)) == 4
    assert lane.queued == 6
    assert lane.queued_cost == 24


async def test_an_item_above_the_budget_runs_alone(lane: Lane) -> None:
    put(lane, "a" * 100, "a" * 100)
    assert len(taken(lane, 10)) == 1


async def test_only_items_of_one_group_share_a_batch(lane: Lane) -> None:
    put(lane, "aaa", "bbb", "aaa", "bbb")
    assert taken(lane) == ["aaa", "aaa"]
    assert taken(lane) == ["bbb", "bbb"]
    assert taken(lane) == []


async def test_padding_stays_within_its_share_and_long_items_are_not_lost(lane: Lane) -> None:
    lengths = [3, 50, 4, 60, 3, 55, 40, 4]
    put(lane, *["a" * length for length in lengths])
    seen = []
    while batch := lane.take(0.0, up_to(1e9)):
        assert padding_waste(batch) <= MOST_WASTE
        seen += [len(work.prepared) for work in batch]
    assert sorted(seen) == sorted(lengths)


async def test_callers_share_the_device_however_much_one_sends(lane: Lane) -> None:
    put(lane, *["aaaa"] * 100, caller="greedy")
    put(lane, *["abbb"] * 4, caller="modest")
    first_two = taken(lane, 32) + taken(lane, 32)
    assert first_two.count("abbb") == 4


async def test_a_caller_who_comes_back_has_saved_nothing_up(lane: Lane) -> None:
    put(lane, *["aaaa"] * 50, caller="steady")
    for _ in range(5):
        taken(lane, 40)
    put(lane, *["abbb"] * 50, caller="newcomer")
    put(lane, *["aaaa"] * 50, caller="steady")
    batches = [taken(lane, 40) for _ in range(6)]
    newcomers = sum(batch.count("abbb") for batch in batches)
    assert 20 <= newcomers <= 40


async def test_among_callers_within_their_share_the_most_urgent_goes_first(lane: Lane) -> None:
    put(lane, "aslow", call=Call(caller="one"))
    put(lane, "aquick", call=Call(caller="two", priority=Priority.INTERACTIVE))
    assert taken(lane) == ["aquick", "aslow"]


async def test_batch_work_does_not_starve(lane: Lane) -> None:
    lane.put(Sized(), "aold", Call(priority=Priority.BATCH), now=0.0)
    lane.put(Sized(), "anew", Call(priority=Priority.INTERACTIVE), now=60.0)
    assert [work.prepared for work in lane.take(60.0, up_to(1e9))] == ["aold", "anew"]


async def test_what_is_late_or_left_is_dropped_and_uncounted(lane: Lane) -> None:
    late = lane.put(Sized(), "alate", Call(deadline=5.0), now=0.0)
    left = lane.put(Sized(), "aleft", Call(), now=0.0)
    left.done.cancel()
    await asyncio.sleep(0)
    put(lane, "astays")
    assert taken(lane, now=6.0) == ["astays"]
    with pytest.raises(DeadlineExceeded):
        late.done.result()
    assert (lane.queued, lane.queued_bytes, lane.queued_cost) == (0, 0, 0.0)


async def test_what_is_put_back_is_next_again(lane: Lane) -> None:
    put(lane, "aone", "atwo")
    (work,) = lane.take(0.0, up_to(4))
    lane.put_back(work)
    assert lane.queued == 2
    assert taken(lane) == ["aone", "atwo"]


async def test_many_callers_are_all_served(lane: Lane) -> None:
    for number in range(1000):
        put(lane, f"a{number}", caller=str(number))
    served = []
    while batch := taken(lane, 64):
        served += batch
    assert len(set(served)) == 1000
