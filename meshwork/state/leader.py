"""The leader lock: at most one router acts for all, and Redis itself refuses one that leads no more.

::

    campaign:  nobody holds the lock  ->  token = last token + 1; lock = "TOKEN:NONCE NAME" for TTL_S
               my NONCE holds it      ->  for TTL_S more
    write:     lock = my grant        ->  written, in the same script; else nothing is, and `Deposed`

The nonce is the process's. A campaign whose sender gave up waiting, since Redis hung, may still take
the lock when Redis goes on; by its nonce the sender finds it to be its own at its next campaign.

A leader that was paused, or cut off, may wake up believing that it still leads; its write then
carries a token that is not the lock's (M. Kleppmann, "How to do distributed locking", 2016). The
comparison is for equality, not order, and no two processes have one nonce, so it also holds after a
Redis that forgot its last token; within a process tokens do not go back, see `campaign`.
By its own clock a leader stops TTL_S after it *sent* the last renewal that Redis took.
"""

from __future__ import annotations

import secrets

from redis.asyncio import Redis

from meshwork.state.keys import Keys

TTL_S = 2.0
RENEW_S = 0.5

# The beginning of every script by which a leader writes. KEYS[1]: leader. ARGV[1]: its grant.
FENCE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end\n"
FENCED = -1

# KEYS: leader, leader_token. ARGV: nonce and name, ttl in ms, the last token that the sender knows.
_CAMPAIGN = """
local held = redis.call('GET', KEYS[1])
if held and string.match(held, '^[^:]*:(.*)$') ~= ARGV[1] then return {0, held} end
if not held then
  local last = tonumber(redis.call('GET', KEYS[2]) or '') or 0
  local token = string.format('%d', math.max(last, tonumber(ARGV[3])) + 1)
  redis.call('SET', KEYS[2], token)
  held = token .. ':' .. ARGV[1]
end
redis.call('SET', KEYS[1], held, 'PX', ARGV[2])
return {1, held}
"""

# KEYS: leader. ARGV: the grant.
_RESIGN = FENCE + "redis.call('DEL', KEYS[1])"


class Deposed(Exception):
    """A write was refused, since the writer leads no more."""


class Term:
    """Whether one router leads, as far as it knows itself; no input or output, the clock is handed in.

    Attributes:
        grant: what proves it to Redis; "" before the first term. See `leads` for whether it holds.
        leader: the name of the router that leads; "" while nobody is known to.
    """

    def __init__(self, ttl_s: float = TTL_S) -> None:
        self.grant = ""
        self.leader = ""
        self._ttl_s = ttl_s
        self._until = float("-inf")

    def leads(self, now: float) -> bool:
        """Whether it may act."""
        return now < self._until

    def take(self, mine: bool, held: str, sent: float) -> None:
        """Takes in what a campaign that was sent at `sent` found."""
        self.leader = held.partition(" ")[2]
        self.grant = held if mine else ""
        self._until = sent + self._ttl_s if mine else float("-inf")

    def end(self) -> None:
        """Leads no more: resigned, or was deposed."""
        self._until, self.grant, self.leader = float("-inf"), "", ""


class LeaderLock:
    """The lock in Redis."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._keys = keys
        self._nonce = secrets.token_hex(8)
        self._last = 0
        self._campaign = redis.register_script(_CAMPAIGN)
        self._resign = redis.register_script(_RESIGN)

    async def campaign(self, name: str, ttl_s: float = TTL_S) -> tuple[bool, str]:
        """Takes the lock if it is free, keeps it if this process holds it.

        A token is higher than any that Redis or this process saw, also after Redis was emptied.

        Returns:
            Whether the caller leads, and the grant of the router that does.
        """
        keys = [self._keys.leader, self._keys.leader_token]
        args: list[str | int] = [f"{self._nonce} {name}", int(ttl_s * 1000), self._last]
        mine, held = await self._campaign(keys=keys, args=args)
        token = str(held).partition(":")[0]
        self._last = max(self._last, int(token) if token.isdecimal() else 0)
        return bool(mine), str(held)

    async def resign(self, grant: str) -> None:
        """Gives the lock up, if `grant` holds it, so that another router leads at once."""
        await self._resign(keys=[self._keys.leader], args=[grant])
