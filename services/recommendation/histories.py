"""What users took, in Redis, shared by every replica.

::

    history:USER          sorted set   TOKEN:INDEX:ITEM by the event's time in us; the latest `kept` of them
    history_request:ID    string       fingerprint of the events that request ID recorded
    taken_before:ITEM     sorted set   other item -> how often it was among the few taken before ITEM

One script records a request: all of it or nothing, and, since it also leaves the request's
fingerprint, a retry (even one that races with its first try) records nothing twice. TOKEN belongs to
the request and INDEX to the event in it, so that equal events stay apart and events of equal time
keep the request's order. Times that callers leave out come from Redis's clock, the same for all replicas.

`taken_before` is kept for items that no model knows yet; it says where among the known ones they stand.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import uuid
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from redis.asyncio import Redis

from meshwork.errors import ConfigError, InvalidArgument, Unavailable
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.keys import Keys

DAY_S = 86_400
PATIENCE_S = 2.0  # the longest that a caller waits for a Redis that hangs
TTL_VARIABLE = "MESHWORK_HISTORY_TTL_DAYS"

# KEYS: the request, then the users' histories, then the taken_before of unknown items.
# ARGV: fingerprint, request's TTL in s, kept, TTL in s, neighbours, reach, and for each event: index of
# the history's key, index of the taken_before's key (0 for none), time in us ("" for now), member, item.
_RECORD = """
local earlier = redis.call('GET', KEYS[1])
if earlier then return earlier == ARGV[1] and 1 or 0 end
local clock = redis.call('TIME')
local now = string.format('%.0f', clock[1] * 1000000 + clock[2])
local kept, ttl, neighbours, reach = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
for at = 7, #ARGV, 5 do
  local history = KEYS[tonumber(ARGV[at])]
  local time, member, item = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4]
  if time == '' then time = now end
  redis.call('ZADD', history, time, member)
  redis.call('ZREMRANGEBYRANK', history, 0, -kept - 1)
  redis.call('EXPIRE', history, ttl)
  local before = KEYS[tonumber(ARGV[at + 1])]
  local rank = before and redis.call('ZRANK', history, member)
  if rank and rank > 0 then
    for _, other in ipairs(redis.call('ZRANGE', history, math.max(0, rank - reach), rank - 1)) do
      other = string.match(other, '^[^:]*:[^:]*:(.*)$')
      if other ~= item then redis.call('ZINCRBY', before, 1, other) end
    end
    redis.call('ZREMRANGEBYRANK', before, 0, -neighbours - 1)
    redis.call('EXPIRE', before, ttl)
  end
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How much is kept, and for how long."""

    kept: int = 200  # events a user, the latest ones
    ttl_s: int = 180 * DAY_S  # after a user's last event; MESHWORK_HISTORY_TTL_DAYS
    request_ttl_s: int = DAY_S  # how long a request_id is remembered
    once_ttl_s: int = 60  # how long a request without one is, for the connection's own retries
    neighbours: int = 64  # items kept as taken before an unknown one
    reach: int = 10  # items of a history that count as taken before one

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """The defaults, with the TTL that the environment gives.

        Raises:
            ConfigError: it is no number of days above 0.
        """
        text = environment.get(TTL_VARIABLE)
        if text is None:
            return cls()
        try:
            days = float(text)
        except ValueError:
            days = math.nan
        if not 1 / DAY_S <= days <= 36_500:
            raise ConfigError(f"{TTL_VARIABLE}: should be a number of days, at most 36500, not {text!r}")
        return cls(ttl_s=int(days * DAY_S))


@dataclass(frozen=True, slots=True)
class Taken:
    """A user took an item."""

    user: str
    item: str
    time_us: int | None  # since 1970, below 2**53; None for now


class Histories:
    """Reads and writes them.

    Every method raises Unavailable when Redis can't be reached, within `PATIENCE_S`.
    """

    def __init__(self, redis: Redis, keys: Keys, limits: Limits | None = None) -> None:
        self._redis = redis
        self._keys = keys
        self._limits = limits or Limits()
        self._record = redis.register_script(_RECORD)

    async def record(self, events: Sequence[Taken], request_id: str, unknown: Collection[str] = ()) -> None:
        """Adds events to their users' histories: all of them, once.

        Args:
            request_id: names the request for a retry; "" if the caller will not know of an earlier try.
            unknown: items for which to remember what was taken before them.

        Raises:
            InvalidArgument: another request with other events had this `request_id`.
        """
        limits = self._limits
        fingerprint = hashlib.sha256(
            json.dumps([(event.user, event.item, event.time_us) for event in events]).encode()
        ).hexdigest()
        # The connection repeats a command whose answer was lost, so even a nameless request needs a name.
        token = uuid.uuid4().hex[:16]
        request = (
            ("history_request", "named", request_id) if request_id else ("history_request", "once", token)
        )
        keys = [self._keys.name(*request)]
        places: dict[tuple[str, str], int] = {}

        def place(kind: str, name: str) -> int:
            if (kind, name) not in places:
                keys.append(self._keys.name(kind, name))
                places[kind, name] = len(keys)  # Lua counts from 1
            return places[kind, name]

        arguments: list[str | int] = [
            fingerprint,
            limits.request_ttl_s if request_id else limits.once_ttl_s,
            limits.kept,
            limits.ttl_s,
            limits.neighbours,
            limits.reach,
        ]
        for index, event in enumerate(events):
            arguments += [
                place("history", event.user),
                place("taken_before", event.item) if event.item in unknown else 0,
                "" if event.time_us is None else event.time_us,
                f"{token}:{index:04}:{event.item}",
                event.item,
            ]
        async with _reaching():
            recorded = await self._record(keys=keys, args=arguments)
        if not recorded:
            raise InvalidArgument(
                "names an earlier request with other events; give each request its own", field="request_id"
            )

    async def of(self, user: str) -> list[str]:
        """The items of a user's history, oldest first; empty for one without."""
        async with _reaching():
            members: Any = await self._redis.zrange(self._keys.name("history", user), 0, -1)
        return [member.split(":", 2)[2] for member in members]

    async def taken_before(self, item: str) -> dict[str, float]:
        """Items that users took shortly before an unknown `item` -> how often, most often first."""
        async with _reaching():
            pairs: Any = await self._redis.zrevrange(
                self._keys.name("taken_before", item), 0, -1, withscores=True
            )
        return {other: float(count) for other, count in pairs}


@asynccontextmanager
async def _reaching() -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield
    except REDIS_AWAY as error:  # TimeoutError is one of them
        raise Unavailable(
            "the histories can't be reached: Redis does not answer or takes no writes; try again soon, "
            "or give Recommend a list of items in place of a user",
            metadata={"dependency": "redis"},
            retry_after_s=1.0,
        ) from error
