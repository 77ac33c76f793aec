"""The connection to Redis, with the waits that every process uses."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from meshwork.errors import ConfigError

CONNECT_TIMEOUT_S = 2.0
REPLY_TIMEOUT_S = 5.0
RETRIES = 2

# What a call raises while Redis is away, or there but read-only, full, or unable to save; callers on
# a loop catch these and go on.
REDIS_AWAY = (RedisError, OSError)


class _HeedsCancellation:
    """A connection on which a task can be cancelled at any moment.

    redis-py sends within `asyncio.wait_for`, which on Python 3.11 loses a cancellation that comes as
    the sending is done (python/cpython#86296); a loop around commands would then never stop.
    """

    async def send_packed_command(self, *args: Any, **kwargs: Any) -> None:
        task = asyncio.current_task()
        before = task.cancelling() if task else 0
        await super().send_packed_command(*args, **kwargs)  # type: ignore[misc]
        if task and task.cancelling() > before:
            # The answer will be read by nobody.
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]
            raise asyncio.CancelledError


def connect(url: str) -> Redis:
    """A client for the Redis or Valkey at `url` (`redis://`, `rediss://` or `unix://`).

    It connects when first used and again whenever the connection broke; a call on a dead server
    fails within seconds with one of `REDIS_AWAY`. Replies are text (`str`), not bytes.

    Raises:
        ConfigError: `url` is not one.
    """
    # A Unix socket has no keepalive, and redis-py's refuses the setting.
    keepalive = {} if url.startswith("unix://") else {"socket_keepalive": True}
    try:
        client: Redis = Redis.from_url(
            url,
            decode_responses=True,
            socket_connect_timeout=CONNECT_TIMEOUT_S,
            socket_timeout=REPLY_TIMEOUT_S,
            health_check_interval=10,
            retry=Retry(ExponentialWithJitterBackoff(cap=0.5, base=0.05), RETRIES),
            retry_on_error=[RedisConnectionError, RedisTimeoutError],
            **keepalive,
        )
    except ValueError as error:
        raise ConfigError(f"{url!r} is not the URL of a Redis: {error}") from error
    pool = client.connection_pool
    pool.connection_class = type("Connection", (_HeedsCancellation, pool.connection_class), {})
    return client
