"""Many requests on one stream: worked on together, answered as they are done, many in a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable
from typing import Any


async def as_done(
    messages: AsyncIterator[Any],
    requests: Callable[[Any], Iterable[Any]],
    answer: Callable[[Any], Awaitable[Any]],
    most: int,
) -> AsyncGenerator[list[Any], None]:
    """Gives the answers that are done since the last were taken, until all are given.

    Args:
        requests: what a message holds.
        answer: answers one request.
        most: requests that are worked on at a time; no more are read meanwhile.

    Raises:
        Exception: the first that `answer` or `messages` raised.
    """
    done: list[Any] = []
    room, changed = asyncio.Semaphore(most), asyncio.Event()

    async def work(request: Any) -> None:
        done.append(await answer(request))
        room.release()
        changed.set()

    async def read() -> None:
        async with asyncio.TaskGroup() as group:
            async for message in messages:
                for request in requests(message):
                    await room.acquire()
                    group.create_task(work(request))

    reading = asyncio.create_task(read())
    reading.add_done_callback(lambda _: changed.set())
    try:
        while not reading.done() or done:
            await changed.wait()
            changed.clear()
            if done:
                bundle, done[:] = list(done), []
                yield bundle
        try:
            reading.result()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
    finally:
        reading.cancel()
