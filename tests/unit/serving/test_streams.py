from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from meshwork.errors import DeadlineExceeded, InvalidArgument, Overloaded, Unavailable
from meshwork.model_config import ModelConfig
from meshwork.serving.load import LoadMeter
from meshwork.serving.models import ModelTable
from tests.unit.contexts import FakeContext
from tests.unit.serving.echo_task import Echo
from tests.unit.serving.heavy_task import Counter
from tests.unit.serving.test_models import write_card

TASKS = {"counter": "tests.unit.serving.heavy_task:Counter", "echo": "tests.unit.serving.echo_task:Echo"}
ANYONE = FakeContext()


@pytest.fixture
async def table(tmp_path: Path) -> AsyncIterator[ModelTable]:
    table = ModelTable("nlp", "nlp-1", TASKS, "cpu", LoadMeter())
    await table.add(ModelConfig(source=write_card(tmp_path, "counter", "1", "[Count]", task="counter")))
    await table.add(ModelConfig(source=write_card(tmp_path, "echo", "1")))
    yield table
    await table.close()


@pytest.fixture
async def counter(table: ModelTable) -> Counter:
    return (await table.acquire(Counter, "Count", "", ANYONE)).task


async def count(table: ModelTable, to: int, context: FakeContext = ANYONE) -> list[int]:
    return [piece.out async for piece in table.stream(Counter, "Count", "", to, context)]


async def test_each_caller_gets_its_own_pieces_in_order(table: ModelTable) -> None:
    answers = await asyncio.gather(*(count(table, to) for to in (1, 5, 3, 8, 2, 7, 4)))
    assert answers == [list(range(1, to + 1)) for to in (1, 5, 3, 8, 2, 7, 4)]


async def test_callers_share_steps_and_wait_for_room(table: ModelTable, counter: Counter) -> None:
    await asyncio.gather(*(count(table, 10) for _ in range(7)))
    assert max(len(keys) for keys in counter.steps) == Counter.most
    async with asyncio.timeout(10):
        while counter.left:
            await asyncio.sleep(0.005)


async def test_the_last_piece_says_who_served_it(table: ModelTable) -> None:
    pieces = [piece async for piece in table.stream(Counter, "Count", "", 3, ANYONE)]
    assert [piece.served_by is None for piece in pieces] == [True, True, False]
    last: Any = pieces[-1].served_by
    assert (last.model, last.replica) == ("counter", "nlp-1")


async def test_a_caller_that_leaves_costs_one_step_at_most(table: ModelTable, counter: Counter) -> None:
    counter.free = False
    async with aclosing(table.stream(Counter, "Count", "", 1000, ANYONE)) as pieces:  # type: ignore[type-var]
        counter.turn.release()
        assert (await anext(pieces)).out == 1
    steps = len(counter.steps)
    counter.turn.release()  # the step that may be under way
    counter.free = True
    while counter.left:
        await asyncio.sleep(0.005)
    assert len(counter.steps) <= steps + 1


async def test_an_answer_that_outlasts_its_deadline_ends_with_deadline_exceeded(
    table: ModelTable, counter: Counter
) -> None:
    counter.free = False
    call = asyncio.create_task(count(table, 1000, FakeContext(remaining_s=0.2)))
    await asyncio.sleep(0.3)
    counter.free = True
    counter.turn.release()
    with pytest.raises(DeadlineExceeded):
        await call


async def test_a_caller_who_cannot_join_fails_alone(table: ModelTable) -> None:
    answers = await asyncio.gather(count(table, 3), count(table, 13), count(table, 2), return_exceptions=True)
    assert [answers[0], answers[2]] == [[1, 2, 3], [1, 2]]
    assert isinstance(answers[1], InvalidArgument)


async def test_who_would_never_fit_is_refused_rather_than_kept_waiting(table: ModelTable) -> None:
    with pytest.raises(Overloaded):
        await count(table, 2_000_000)


async def test_a_bad_request_is_refused_before_it_reaches_the_device(
    table: ModelTable, counter: Counter
) -> None:
    with pytest.raises(InvalidArgument):
        await count(table, 0)
    assert counter.steps == []


async def test_a_step_that_breaks_ends_who_was_in_it_and_the_next_callers_are_served(
    table: ModelTable,
) -> None:
    with pytest.raises(RuntimeError):
        await count(table, 666)
    assert await count(table, 2) == [1, 2]


async def test_other_models_of_the_device_take_their_turns_between_steps(table: ModelTable) -> None:
    long = asyncio.create_task(count(table, 2000))
    answers = [await table.run(Echo, "Say", "", [str(n)], ANYONE) for n in range(20)]
    assert len(answers) == 20
    assert await long == list(range(1, 2001))


async def test_unloading_ends_streams_that_do_not_end_by_themselves(
    table: ModelTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshwork.serving.lifecycle.UNLOAD_S", 0.1)
    call = asyncio.create_task(count(table, 900_000))
    await asyncio.sleep(0.05)
    await table.unload("counter")
    with pytest.raises(Unavailable):
        await call


async def test_a_stream_costs_the_device_as_many_steps_as_it_took(table: ModelTable) -> None:
    await count(table, 5)
    (worker,) = (await table.acquire(Counter, "Count", "", ANYONE)).workers
    assert worker.source.item_cost == 5
    assert worker.item_s > 0
