"""The routers: what each says of itself, which counts for a few seconds unless it is said again.

One script both registers a router and reads the others, so that each costs one exchange a second. A
router that went silent stays in Redis for a minute, marked as lapsed: whoever tells what happened
can tell it from one that was stopped.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from google.protobuf import json_format
from redis.asyncio import Redis

from meshwork.router.v1.router_pb2 import Ejection, Router
from meshwork.state.keys import Keys

log = logging.getLogger(__name__)

TTL_S = 3.0
RENEW_S = 1.0
LAPSED_KEPT_S = 60.0

_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

# KEYS: routers, router_expiry, leader, lease_epoch. ARGV: name, body, ttl in ms, ms to keep lapsed ones.
_RENEW = (
    _NOW
    + """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now - ARGV[4])) do
  redis.call('ZREM', KEYS[2], name)
  redis.call('HDEL', KEYS[1], name)
end
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
local leader, epoch = redis.call('GET', KEYS[3]) or '', redis.call('GET', KEYS[4]) or ''
return {leader, epoch, lapsed, redis.call('HGETALL', KEYS[1])}
"""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RoutersView:
    """The routers at one moment.

    Attributes:
        routers: those that are there, by name; `leader` is set in the one that holds the lock.
        unreachable: by gateway, the replicas that it can't reach now and why.
        lapsed: names of those that went silent in the last minute.
        epoch: that of the leases; "" while Redis knows none.
    """

    routers: Mapping[str, Router] = field(default_factory=dict)
    unreachable: Mapping[str, Mapping[str, Ejection]] = field(default_factory=dict)
    lapsed: frozenset[str] = frozenset()
    epoch: str = ""


class Routers:
    """Reads and writes them."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._renew = redis.register_script(_RENEW)

    async def renew(
        self, router: Router, unreachable: Mapping[str, Ejection], ttl_s: float = TTL_S
    ) -> RoutersView:
        """Says that `router` is there, and what its gateway can't reach; gives all that are."""
        keys = self._keys
        leader, epoch, lapsed, flat = await self._renew(
            keys=[keys.routers, keys.router_expiry, keys.leader, keys.lease_epoch],
            args=[router.name, _encode(router, unreachable), int(ttl_s * 1000), int(LAPSED_KEPT_S * 1000)],
        )
        pairs = iter(flat)
        routers: dict[str, Router] = {}
        sights: dict[str, Mapping[str, Ejection]] = {}
        for name, body in sorted(zip(pairs, pairs, strict=True)):
            if name in lapsed:
                continue
            try:
                routers[name], seen = _decode(body)
            except (ValueError, TypeError, AttributeError, json_format.ParseError) as error:
                log.error("what router %s says of itself can't be read and is left out: %s", name, error)
                continue
            routers[name].leader = name == leader.partition(" ")[2]
            if routers[name].gateway:
                sights[routers[name].gateway] = seen
        return RoutersView(routers=routers, unreachable=sights, lapsed=frozenset(lapsed), epoch=epoch)

    async def leave(self, name: str) -> None:
        """Takes the router `name` out: it stops."""
        async with self._redis.pipeline(transaction=True) as batch:
            batch.hdel(self._keys.routers, name)
            batch.zrem(self._keys.router_expiry, name)
            await batch.execute()


def _encode(router: Router, unreachable: Mapping[str, Ejection]) -> str:
    return json.dumps(
        {
            "router": json_format.MessageToDict(router, preserving_proto_field_name=True),
            "unreachable": {name: json_format.MessageToDict(each) for name, each in unreachable.items()},
        }
    )


def _decode(body: str) -> tuple[Router, dict[str, Ejection]]:
    content = json.loads(body)
    seen = {
        str(name): json_format.ParseDict(each, Ejection(), ignore_unknown_fields=True)
        for name, each in content["unreachable"].items()
    }
    return json_format.ParseDict(content["router"], Router(), ignore_unknown_fields=True), seen
