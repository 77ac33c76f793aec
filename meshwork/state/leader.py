"""The leader lock: at most one router acts for all, and Redis itself refuses one that leads no more.

::

    campaign:  nobody holds the lock  ->  token = last token + 1; lock = "TOKEN NAME" for TTL_S
               I hold it              ->  for TTL_S more
    write:     lock = my "TOKEN NAME" ->  written, in the same script; else nothing is, and `Deposed`

A leader that was paused, or cut off, may wake up believing that it still leads; its write then
carries a token that is not the lock's (M. Kleppmann, "How to do distributed locking", 2016). The
comparison is for equality, not order, so it also holds after a Redis that forgot its last token.
By its own clock a leader stops TTL_S after it *sent* the last renewal that Redis took.
"""

from __future__ import annotations

from redis.asyncio import Redis

from meshwork.state.keys import Keys

TTL_S = 2.0
RENEW_S = 0.5

# The beginning of every script by which a leader writes. KEYS[1]: leader. ARGV[1]: its grant.
FENCE = "if redis.call('GET', KEYS[1]) ~= ARGV[1] then return -1 end\n"
FENCED = -1

# KEYS: leader, leader_token. ARGV: name, ttl in ms, the grant held till now or "".
_CAMPAIGN = """
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[3] then return {0, held} end
held = held or redis.call('INCR', KEYS[2]) .. ' ' .. ARGV[1]
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
        self._campaign = redis.register_script(_CAMPAIGN)
        self._resign = redis.register_script(_RESIGN)

    async def campaign(self, name: str, grant: str, ttl_s: float = TTL_S) -> tuple[bool, str]:
        """Takes the lock if it is free, keeps it if `grant` holds it.

        Returns:
            Whether the caller leads, and the grant of the router that does.
        """
        keys = [self._keys.leader, self._keys.leader_token]
        mine, held = await self._campaign(keys=keys, args=[name, int(ttl_s * 1000), grant])
        return bool(mine), str(held)

    async def resign(self, grant: str) -> None:
        """Gives the lock up, if `grant` holds it, so that another router leads at once."""
        await self._resign(keys=[self._keys.leader], args=[grant])
