"""When to read again what is kept in Redis: on each change, on each reconnect, and now and then.

Pub/sub may lose messages (a broken connection, a full buffer), so a change is only a hint to read;
the resync every few seconds bounds how long a lost hint can matter.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import AsyncGenerator

from redis.asyncio import Redis

from meshwork.state.connect import REDIS_AWAY

BACKOFF_S = (0.05, 0.1, 0.2, 0.5, 1.0)


class Reason(enum.Enum):
    """Why to read now."""

    CONNECTED = enum.auto()  # subscribed for the first time, or again after a break
    CHANGED = enum.auto()  # one or more changes were announced
    RESYNC = enum.auto()  # nothing was heard for a while


async def changes(
    redis: Redis, channel: str, *, resync_s: float = 2.0, coalesce_s: float = 0.02
) -> AsyncGenerator[Reason, None]:
    """Yields each time that what `channel` announces should be read again, for ever.

    Args:
        resync_s: the longest time between two reasons while Redis is there.
        coalesce_s: how long to gather further announcements after the first one of a burst.
    """
    clock = asyncio.get_running_loop().time
    failures = 0
    while True:
        try:
            async with redis.pubsub() as subscription:
                await subscription.subscribe(channel)
                while True:
                    heard = await subscription.get_message(timeout=resync_s)
                    if heard is None:
                        yield Reason.RESYNC
                        continue
                    failures = 0
                    # The client reconnects by itself; it shows in the answer to its new SUBSCRIBE.
                    connected = heard["type"] == "subscribe"
                    until = clock() + coalesce_s
                    while (left_s := until - clock()) > 0:
                        more = await subscription.get_message(timeout=left_s)
                        connected = connected or (more is not None and more["type"] == "subscribe")
                    yield Reason.CONNECTED if connected else Reason.CHANGED
        except REDIS_AWAY:
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1
