"""Leases: what each replica says of itself, which lapses unless it is renewed.

The body of a lease is a `meshwork.router.v1.Replica` as JSON. Every operation is one Lua script, so
it is atomic, and expiry is by Redis's own clock, so clocks of hosts need not agree. A renewal that
says nothing new extends the expiry and announces nothing.
"""

from __future__ import annotations

import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass

from google.protobuf import json_format
from redis.asyncio import Redis

from meshwork.router.v1.router_pb2 import Replica
from meshwork.state.changes import Reason, changes
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys
from meshwork.state.pulse import PULSE

log = logging.getLogger(__name__)

# KEYS of every script: leases, lease_expiry, lease_epoch, lease_pulse. ARGV[1]: the channel of changes.
_NOW = "local t = redis.call('TIME'); local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"

# ARGV: channel, name, body, ttl in ms, epoch to set if there is none.
_RENEW = (
    _NOW
    + """
redis.call('SET', KEYS[3], ARGV[5], 'NX')
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[2])
if redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[3] then
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
"""
)

# ARGV: channel, name.
_REVOKE = """
redis.call('ZREM', KEYS[2], ARGV[2])
if redis.call('HDEL', KEYS[1], ARGV[2]) == 1 then
  redis.call('PUBLISH', ARGV[1], ARGV[2])
end
"""

# ARGV: channel.
_REAP = (
    _NOW
    + PULSE
    + """
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
for _, name in ipairs(lapsed) do
  redis.call('ZREM', KEYS[2], name)
  redis.call('HDEL', KEYS[1], name)
  redis.call('PUBLISH', ARGV[1], name)
end
return lapsed
"""
)

# ARGV: channel. Returns the epoch, the lapsed names, and the hash with them still in it. A server that
# took over from another may have missed the latest leases, so its identity is part of the epoch; where
# INFO is forbidden the epoch is what was stored.
_READ = (
    _NOW
    + PULSE
    + """
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
local epoch = redis.call('GET', KEYS[3]) or ''
local server = redis.pcall('INFO', 'server')
if epoch ~= '' and type(server) == 'string' then
  epoch = epoch .. '@' .. (string.match(server, 'run_id:(%x+)') or '')
end
return {epoch, lapsed, redis.call('HGETALL', KEYS[1])}
"""
)


@dataclass(frozen=True, kw_only=True, slots=True)
class LeaseView:
    """The leases at one moment.

    Attributes:
        replicas: by name; those whose lease lapsed are not in it.
        epoch: changes when Redis lost what it knew, or when another server took over, which may have
            missed the latest; "" until the first lease.
        reconnected: whether the connection to Redis was (re)made since the view before, so that
            leases may be missing which their replicas could not renew.
    """

    replicas: Mapping[str, Replica]
    epoch: str
    reconnected: bool = False


class LeaseBook:
    """Reads and writes leases."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._renew = redis.register_script(_RENEW)
        self._revoke = redis.register_script(_REVOKE)
        self._reap = redis.register_script(_REAP)
        self._read = redis.register_script(_READ)
        # A lease is parsed once a body, not once a read: most reads find most leases unchanged.
        self._parsed: dict[str, tuple[str, Replica]] = {}

    @property
    def _key_names(self) -> list[str]:
        keys = self._keys
        return [keys.leases, keys.lease_expiry, keys.lease_epoch, keys.lease_pulse]

    async def renew(self, replica: Replica, ttl_s: float) -> None:
        """Says that `replica` lives and what it serves; holds for `ttl_s` seconds."""
        body = json_format.MessageToJson(replica, indent=None, preserving_proto_field_name=True)
        ttl_ms = int(ttl_s * 1000)
        await self._renew(
            keys=self._key_names,
            args=[self._keys.lease_changes, replica.name, body, ttl_ms, uuid.uuid4().hex],
        )

    async def revoke(self, name: str) -> None:
        """Gives up the lease of the replica `name`, if it holds one."""
        await self._revoke(keys=self._key_names, args=[self._keys.lease_changes, name])

    async def reap(self) -> list[str]:
        """Removes the leases that lapsed and returns the names of their replicas."""
        lapsed: list[str] = await self._reap(keys=self._key_names, args=[self._keys.lease_changes])
        return lapsed

    async def view(self) -> LeaseView:
        """The leases that hold now, and the epoch."""
        epoch, lapsed, flat = await self._read(keys=self._key_names, args=[self._keys.lease_changes])
        pairs = iter(flat)
        bodies = dict(zip(pairs, pairs, strict=True))
        parsed: dict[str, tuple[str, Replica]] = {}
        for name in sorted(bodies.keys() - set(lapsed)):
            body = bodies[name]
            known = self._parsed.get(name)
            if known is not None and known[0] == body:
                parsed[name] = known
                continue
            try:
                # A newer release may write fields that this one does not know.
                parsed[name] = body, json_format.Parse(body, Replica(), ignore_unknown_fields=True)
            except json_format.ParseError as error:
                log.error("the lease of %s can't be read and is left out: %s", name, error)
        self._parsed = parsed
        return LeaseView(replicas={name: replica for name, (_, replica) in parsed.items()}, epoch=epoch)

    async def all(self) -> dict[str, Replica]:
        """The replicas that hold a lease, by name."""
        return dict((await self.view()).replicas)

    async def get(self, name: str) -> Replica | None:
        """The replica `name`, or None if it holds no lease."""
        return (await self.view()).replicas.get(name)

    async def watch(self, *, resync_s: float = 2.0) -> AsyncGenerator[LeaseView, None]:
        """Yields the leases as they are, and again each time that they changed, for ever.

        While Redis is away nothing is yielded; when it is back, a view with `reconnected` set is.
        """
        last: LeaseView | None = None
        reconnected = False
        async with contextlib.aclosing(
            changes(self._redis, self._keys.lease_changes, resync_s=resync_s)
        ) as reasons:
            async for reason in reasons:
                reconnected = reconnected or reason is Reason.CONNECTED
                try:
                    view = await self.view()
                except REDIS_AWAY as error:
                    log.warning("leases can't be read: %s", error)
                    reconnected = True
                    continue
                if reconnected or last is None or view != last:
                    last = view
                    yield LeaseView(replicas=view.replicas, epoch=view.epoch, reconnected=reconnected)
                    reconnected = False
