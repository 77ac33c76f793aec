"""Many requests of one stream at work at once, answered in the order in which they came.

A stream's requests are batched with each other's and with other callers' though each waits for the
one before it to be answered first. At most `most` are at work; then no more are read, so that a fast
caller waits in its own stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def in_order(
    requests: AsyncIterator[T], work: Callable[[T], Awaitable[R]], most: int
) -> AsyncGenerator[R, None]:
    """What `work` gives for each request, in the order of the requests.

    Raises:
        Exception: what `requests` or `work` raised first; work that is still going on is cancelled.
    """
    begun: asyncio.Queue[asyncio.Future[R] | None] = asyncio.Queue()
    room = asyncio.Semaphore(most)

    async def feed() -> None:
        try:
            async for request in requests:
                await room.acquire()
                begun.put_nowait(asyncio.ensure_future(work(request)))
        finally:
            begun.put_nowait(None)

    feeder = asyncio.create_task(feed())
    current: asyncio.Future[R] | None = None
    try:
        while (current := await begun.get()) is not None:
            yield await current
            room.release()
        await feeder
    finally:
        feeder.cancel()
        while current is not None:
            current.cancel()
            current = begun.get_nowait() if not begun.empty() else None
        await asyncio.gather(feeder, return_exceptions=True)
