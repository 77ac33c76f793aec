"""What renewals are to the router, and what they cost Valkey: two things that are measured apart.

A replica renews its lease each second. Ten thousand writers would take more of a small machine than
all that is measured here, so the replicas' renewals are one script, ten times a second, which moves
the time of the last renewal of those whose turn it is, as `LeaseBook.renew` does; the router reads
what it would read of real ones. What real ones cost Valkey is measured with real ones, some at once.
"""

from __future__ import annotations

import asyncio

from redis.asyncio import Redis

from meshwork.router.v1 import router_pb2
from meshwork.state.keys import Keys
from meshwork.state.leases import LeaseBook

ROUNDS_A_SECOND = 10
_AT_ONCE = 50

# KEYS: lease_renewed. ARGV: ms since the last renewal after which a replica renews, the most at once.
_RENEW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[1], 'LIMIT', 0, ARGV[2])) do
  redis.call('ZADD', KEYS[1], now, name)
end
"""


async def keep_renewed(redis: Redis, keys: Keys, leases: int) -> None:
    """Renews all of `leases` each second, until cancelled."""
    script = redis.register_script(_RENEW)
    at_once = 2 * leases // ROUNDS_A_SECOND  # a round that came late is made up for
    while True:
        await script(keys=[keys.lease_renewed], args=[1000 - 1000 // ROUNDS_A_SECOND, at_once])
        await asyncio.sleep(1 / ROUNDS_A_SECOND)


async def valkey_us(redis: Redis, book: LeaseBook, replicas: list[router_pb2.Replica], ttl_s: float) -> float:
    """CPU of Valkey for one real renewal, in us; `replicas` hold their leases and say nothing new."""
    began = await _cpu_s(redis)
    for start in range(0, len(replicas), _AT_ONCE):
        await asyncio.gather(*(book.renew(each, ttl_s) for each in replicas[start : start + _AT_ONCE]))
    return 1e6 * (await _cpu_s(redis) - began) / len(replicas)


async def _cpu_s(redis: Redis) -> float:
    used = await redis.info("cpu")
    return float(used["used_cpu_user"]) + float(used["used_cpu_sys"])
