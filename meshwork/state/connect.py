"""The connection to Redis, with the waits that every process uses."""

from __future__ import annotations

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

CONNECT_TIMEOUT_S = 2.0
REPLY_TIMEOUT_S = 5.0
RETRIES = 2

# What a call raises while Redis is away; callers on a loop catch these and go on.
REDIS_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)


def connect(url: str) -> Redis:
    """A client for the Redis or Valkey at `url` (`redis://`, `rediss://` or `unix://`).

    It connects when first used and again whenever the connection broke; a call on a dead server
    fails within seconds with one of `REDIS_AWAY`. Replies are text (`str`), not bytes.
    """
    # A Unix socket has no keepalive, and redis-py's refuses the setting.
    keepalive = {} if url.startswith("unix://") else {"socket_keepalive": True}
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
    return client
