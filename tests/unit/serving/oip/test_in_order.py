from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshwork.serving.oip.in_order import in_order


async def numbers(count: int, read: list[int] | None = None) -> AsyncIterator[int]:
    for number in range(count):
        if read is not None:
            read.append(number)
        yield number


async def test_answers_come_in_order_though_the_work_ends_in_another() -> None:
    gates = [asyncio.Event() for _ in range(4)]
    ended: list[int] = []

    async def work(number: int) -> int:
        await gates[number].wait()
        ended.append(number)
        if number:
            gates[number - 1].set()
        return number * 10

    gates[3].set()
    assert [answer async for answer in in_order(numbers(4), work, 8)] == [0, 10, 20, 30]
    assert ended == [3, 2, 1, 0]


async def test_no_more_than_the_bound_are_at_work_and_one_waits_read() -> None:
    read: list[int] = []
    most, at_work = 0, 0
    go_on = asyncio.Event()

    async def work(number: int) -> int:
        nonlocal most, at_work
        at_work += 1
        most = max(most, at_work)
        await go_on.wait()
        at_work -= 1
        return number

    answers = in_order(numbers(10, read), work, 3)
    first = asyncio.ensure_future(anext(answers))
    while len(read) < 4:
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    assert read == [0, 1, 2, 3]
    go_on.set()
    assert [await first, *[answer async for answer in answers]] == list(range(10))
    assert most == 3


async def test_what_the_requests_break_with_comes_after_the_answers_before_it() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise ValueError("as asked")

    async def work(number: int) -> int:
        await asyncio.sleep(0)
        return number

    answers = in_order(broken(), work, 4)
    assert await anext(answers) == 1
    with pytest.raises(ValueError, match="as asked"):
        await anext(answers)


@pytest.mark.parametrize("fails", [True, False])
async def test_work_ends_with_the_stream(fails: bool) -> None:
    cancelled: list[int] = []

    async def work(number: int) -> int:
        if number == 0:
            return number
        if number == 1 and fails:
            raise ValueError("as asked")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(number)
            raise
        return number

    answers = in_order(numbers(5), work, 8)
    assert await anext(answers) == 0
    if fails:
        with pytest.raises(ValueError, match="as asked"):
            await anext(answers)
    else:
        await asyncio.sleep(0)
        await answers.aclose()  # type: ignore[attr-defined]
    for _ in range(3):
        await asyncio.sleep(0)
    assert set(cancelled) == ({2, 3, 4} if fails else {1, 2, 3, 4})
