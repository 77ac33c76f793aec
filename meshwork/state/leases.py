"""Leases: what each replica says of itself, which lapses unless it is renewed.

The body of a lease is a `meshwork.router.v1.Replica` as JSON. Every operation is one Lua script, so
it is atomic, and expiry is by Redis's own clock, so clocks of hosts need not agree. A renewal that
says nothing new extends the expiry and announces nothing.

Every change has a number, one more than the one before, and the log keeps the number of the last
change of each replica's lease, for the latest LOG changes. Who read at number n reads again what the
log has above n: ten thousand leases of which one changed cost one, and of which none did, nothing.
All are read where that can't do: at first, after each reconnect (a failed over Redis may number
other changes alike), when Redis lost what it knew, and LOG changes behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import uuid
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace

from google.protobuf import json_format
from redis.asyncio import Redis

from meshwork.router.v1.router_pb2 import Replica
from meshwork.state.changes import Reason, changes
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys
from meshwork.state.pulse import GRACE_MS, PULSE

log = logging.getLogger(__name__)

LOG = 4096
_EPOCH = ":epoch"  # entry of the leases by which they say that they were not lost and written anew
_AT_ONCE = 50  # leases that are parsed before others of the process have their turn

# KEYS of every script: leases, lease_expiry, lease_epoch, lease_serial, lease_log, lease_pulse,
# lease_renewed. ARGV[1]: the channel of changes.
_BEGIN = f"""
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local LOG, EPOCH = {LOG}, '{_EPOCH}'
local function changed(name)
  redis.call('ZADD', KEYS[5], redis.call('INCR', KEYS[4]), name)
  redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -LOG - 1)
  redis.call('PUBLISH', ARGV[1], name)
end
"""

# ARGV: channel, name, body, ttl in ms, epoch to set if there is none, or if the leases were lost without it
# (evicted, or deleted key by key). A lease that lapsed may have been read as gone, so its return is a change.
_RENEW = (
    _BEGIN
    + """
redis.call('SET', KEYS[3], ARGV[5], 'NX')
if redis.call('HSETNX', KEYS[1], EPOCH, '') == 1 then redis.call('SET', KEYS[3], ARGV[5]) end
local until_ms = redis.call('ZSCORE', KEYS[2], ARGV[2])
redis.call('ZADD', KEYS[2], now + ARGV[4], ARGV[2])
redis.call('ZADD', KEYS[7], now, ARGV[2])
local lapsed = not until_ms or tonumber(until_ms) <= now
if lapsed or redis.call('HGET', KEYS[1], ARGV[2]) ~= ARGV[3] then
  redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
  changed(ARGV[2])
end
"""
)

# ARGV: channel, name.
_REVOKE = (
    _BEGIN
    + """
redis.call('ZREM', KEYS[2], ARGV[2])
redis.call('ZREM', KEYS[7], ARGV[2])
if redis.call('HDEL', KEYS[1], ARGV[2]) == 1 then changed(ARGV[2]) end
"""
)

# ARGV: channel. A lease whose expiry was lost has time to be renewed, and then lapses as any other.
_REAP = (
    _BEGIN
    + PULSE
    + f"local GRACE_MS = {GRACE_MS}"
    + """
local held = redis.call('HLEN', KEYS[1]) - redis.call('HEXISTS', KEYS[1], EPOCH)
if held > redis.call('ZCARD', KEYS[2]) then
  for _, name in ipairs(redis.call('HKEYS', KEYS[1])) do
    if name ~= EPOCH then redis.call('ZADD', KEYS[2], 'NX', now + GRACE_MS, name) end
  end
end
local lapsed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
for _, name in ipairs(lapsed) do
  redis.call('ZREM', KEYS[2], name)
  redis.call('ZREM', KEYS[7], name)
  redis.call('HDEL', KEYS[1], name)
  changed(name)
end
return lapsed
"""
)

# ARGV: channel, epoch and number of the last change that the reader knows; number -1 to read all.
# Returns the epoch, the number of the last change, whether all was read, the names of those that do not
# hold (of what was read), and names and bodies by turns. A server that took over from another may have
# missed the latest leases, so its identity is part of the epoch; where INFO is forbidden the epoch is
# what was stored.
_READ = (
    _BEGIN
    + PULSE
    + """
local epoch = redis.call('HEXISTS', KEYS[1], EPOCH) == 1 and redis.call('GET', KEYS[3]) or ''
local server = redis.pcall('INFO', 'server')
if epoch ~= '' and type(server) == 'string' then
  epoch = epoch .. '@' .. (string.match(server, 'run_id:(%x+)') or '')
end
local serial = tonumber(redis.call('GET', KEYS[4]) or '0')
local since = tonumber(ARGV[3])
if since < 0 or epoch ~= ARGV[2] or serial < since or serial - since > LOG then
  local lapsed = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now)
  return {epoch, serial, 1, lapsed, redis.call('HGETALL', KEYS[1])}
end
local gone, bodies = {}, {}
for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[5], '(' .. ARGV[3], '+inf')) do
  local body = redis.call('HGET', KEYS[1], name)
  local until_ms = redis.call('ZSCORE', KEYS[2], name)
  if body and not (until_ms and tonumber(until_ms) <= now) then
    bodies[#bodies + 1] = name
    bodies[#bodies + 1] = body
  else
    gone[#gone + 1] = name
  end
end
return {epoch, serial, 0, gone, bodies}
"""
)

# ARGV: channel, ms. Returns the number of leases, and the replicas silent for longer, each with its ms.
_LATE = (
    _BEGIN
    + """
local late = redis.call('ZRANGEBYSCORE', KEYS[7], '-inf', now - ARGV[2], 'WITHSCORES')
for i = 2, #late, 2 do late[i] = now - late[i] end
return {redis.call('ZCARD', KEYS[2]), late}
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
        changed: names of those that are not as in the view before; None if that is not known.
    """

    replicas: Mapping[str, Replica]
    epoch: str
    reconnected: bool = False
    changed: frozenset[str] | None = None


class _Reader:
    """Keeps what was read, and reads what changed since."""

    def __init__(self, book: LeaseBook) -> None:
        self._book = book
        self._bodies: dict[str, str] = {}
        self._replicas: dict[str, Replica] = {}
        self._epoch = ""
        self._serial = -1

    async def view(self, *, whole: bool) -> LeaseView:
        """The leases that hold now; `whole` to read all of them, whatever is known."""
        since = -1 if whole else self._serial
        epoch, serial, all_read, gone, bodies = await self._book.read(self._epoch, since)
        if all_read:
            gone = [*gone, *(self._bodies.keys() - bodies.keys())]
        for name in gone:
            bodies.pop(name, None)
        changed = {name for name, body in bodies.items() if self._bodies.get(name) != body}
        changed |= self._bodies.keys() & set(gone)
        replicas = dict(self._replicas)
        for count, name in enumerate(changed):
            replicas.pop(name, None)
            if name in bodies:
                replica = _parsed(name, bodies[name])
                if replica is not None:
                    replicas[name] = replica
            if count % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
        for name in gone:
            self._bodies.pop(name, None)
        self._bodies.update(bodies)
        self._replicas, self._epoch, self._serial = replicas, epoch, serial
        return LeaseView(replicas=replicas, epoch=epoch, changed=frozenset(changed))


def _parsed(name: str, body: str) -> Replica | None:
    try:
        # A newer release may write fields that this one does not know.
        return json_format.Parse(body, Replica(), ignore_unknown_fields=True)
    except json_format.ParseError as error:
        log.error("the lease of %s can't be read and is left out: %s", name, error)
        return None


class LeaseBook:
    """Reads and writes leases."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys
        self._renew = redis.register_script(_RENEW)
        self._revoke = redis.register_script(_REVOKE)
        self._reap = redis.register_script(_REAP)
        self._read = redis.register_script(_READ)
        self._late = redis.register_script(_LATE)

    @property
    def _key_names(self) -> list[str]:
        keys = self._keys
        return [
            keys.leases,
            keys.lease_expiry,
            keys.lease_epoch,
            keys.lease_serial,
            keys.lease_log,
            keys.lease_pulse,
            keys.lease_renewed,
        ]

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

    async def late(self, silent_s: float) -> tuple[int, dict[str, float]]:
        """The number of leases, and of the replicas silent for over `silent_s`: for how many seconds."""
        channel, silent_ms = self._keys.lease_changes, int(silent_s * 1000)
        count, flat = await self._late(keys=self._key_names, args=[channel, silent_ms])
        pairs = iter(flat)
        return int(count), {name: int(ms) / 1000 for name, ms in zip(pairs, pairs, strict=True)}

    async def read(self, epoch: str, since: int) -> tuple[str, int, bool, list[str], dict[str, str]]:
        """What changed since change `since` of `epoch`; all, if that can't be told or `since` is -1.

        Returns:
            The epoch, the number of the last change, whether all was read, names of leases that do
            not hold any more, and the bodies of the others by name.
        """
        now, serial, all_read, gone, flat = await self._read(
            keys=self._key_names, args=[self._keys.lease_changes, epoch, since]
        )
        pairs = iter(flat)
        bodies = dict(zip(pairs, pairs, strict=True))
        bodies.pop(_EPOCH, None)
        return now, serial, bool(all_read), gone, bodies

    async def view(self) -> LeaseView:
        """The leases that hold now, and the epoch."""
        return replace(await _Reader(self).view(whole=True), changed=None)

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
        reader = _Reader(self)
        reconnected, epoch = True, ""
        async with contextlib.aclosing(
            changes(self._redis, self._keys.lease_changes, resync_s=resync_s)
        ) as reasons:
            async for reason in reasons:
                reconnected = reconnected or reason is Reason.CONNECTED
                try:
                    view = await reader.view(whole=reconnected)
                except REDIS_AWAY as error:
                    log.warning("leases can't be read: %s", error)
                    reconnected = True
                    continue
                if reconnected or view.changed or view.epoch != epoch:
                    yield replace(view, reconnected=reconnected)
                    reconnected, epoch = False, view.epoch
