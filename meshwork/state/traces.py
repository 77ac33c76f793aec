"""The last traces, within a bound of bytes: a window for where no Jaeger runs.

Failed and slow traces are kept longest. Spans of a trace come in parts, from several processes and
through several routers, so one Lua script adds a part, sums the trace up and makes room::

    while plain + kept > bound:  drop the oldest plain trace,
                                 or the oldest kept one once those fill three quarters (or all) of it
"""

from __future__ import annotations

import base64
import heapq
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis

from meshwork.state.keys import Keys

BOUND_BYTES = 64 * 1024 * 1024
SLOW_S = 1.0
_CHUNK = 500  # summaries that are read at a time

# KEYS: plain, kept, summaries, requests, bytes, the trace's list, and what such lists begin with.
# ARGV: id, part, its summary as JSON, slow in us, bound in bytes.
_ADD = """
local id, part, bound = ARGV[1], ARGV[2], tonumber(ARGV[5])
local new = cjson.decode(ARGV[3])
local old = redis.call('HGET', KEYS[3], id)
local sum = old and cjson.decode(old) or
  {start = new.start, finish = new.finish, name = new.name, root = false, failed = false,
   services = {}, instances = {}, spans = 0, bytes = 0, request = '', kept = false}
if (new.root and not sum.root) or (not sum.root and new.start < sum.start) then sum.name = new.name end
sum.root = sum.root or new.root
sum.start, sum.finish = math.min(sum.start, new.start), math.max(sum.finish, new.finish)
sum.failed = sum.failed or new.failed
sum.spans = sum.spans + new.spans
if new.request ~= '' then
  sum.request = new.request
  redis.call('HSET', KEYS[4], new.request, id)
end
for _, list in ipairs({'services', 'instances'}) do
  local seen = {}
  sum[list] = sum[list] or {}
  for _, name in ipairs(sum[list]) do seen[name] = true end
  for _, name in ipairs(new[list]) do
    if not seen[name] then table.insert(sum[list], name); seen[name] = true end
  end
end
local was = sum.kept
sum.kept = was or sum.failed or sum.finish - sum.start >= tonumber(ARGV[4])
if sum.kept and not was and old then
  redis.call('ZREM', KEYS[1], id)
  redis.call('HINCRBY', KEYS[5], 'plain', -sum.bytes)
  redis.call('HINCRBY', KEYS[5], 'kept', sum.bytes)
end
sum.bytes = sum.bytes + #part
redis.call('HINCRBY', KEYS[5], sum.kept and 'kept' or 'plain', #part)
redis.call('ZADD', sum.kept and KEYS[2] or KEYS[1], sum.start, id)
redis.call('RPUSH', KEYS[6], part)
redis.call('HSET', KEYS[3], id, cjson.encode(sum))
while true do
  local plain = tonumber(redis.call('HGET', KEYS[5], 'plain') or 0)
  local kept = tonumber(redis.call('HGET', KEYS[5], 'kept') or 0)
  if plain + kept <= bound then break end
  local from_kept = kept > bound * 0.75 or redis.call('ZCARD', KEYS[1]) == 0
  local oldest = redis.call('ZPOPMIN', from_kept and KEYS[2] or KEYS[1])[1]
  if not oldest then break end
  local gone = cjson.decode(redis.call('HGET', KEYS[3], oldest))
  redis.call('HINCRBY', KEYS[5], from_kept and 'kept' or 'plain', -gone.bytes)
  redis.call('HDEL', KEYS[3], oldest)
  if gone.request ~= '' then redis.call('HDEL', KEYS[4], gone.request) end
  redis.call('DEL', KEYS[7] .. oldest)
end
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    """Spans of one trace that came together.

    Attributes:
        trace_id: 32 hexadecimal digits.
        spans: an encoded OTLP `TracesData` that has these spans only.
        start_us, end_us: of the first and the last of them, in us since 1970.
        name: of the first span, or of the trace's root if that is among them.
        root: whether it is.
        failed: whether one of them failed.
        services: that made them.
        instances: replicas, routers and gateways that made them, as far as they said.
        count: how many they are.
        request: the gateway's `x-request-id`; "" if it did not say.
    """

    trace_id: str
    spans: bytes
    start_us: int
    end_us: int
    name: str
    root: bool
    failed: bool
    services: Sequence[str]
    instances: Sequence[str]
    count: int
    request: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A trace in short; times in us since 1970."""

    trace_id: str
    name: str
    start_us: int
    end_us: int
    services: tuple[str, ...]
    instances: tuple[str, ...]
    spans: int
    failed: bool


class Traces:
    """Keeps traces.

    Args:
        bound_bytes: what all of them may take.
        slow_s: a trace of at least this duration is kept as failed ones are.
    """

    def __init__(
        self, redis: Redis, keys: Keys, *, bound_bytes: int = BOUND_BYTES, slow_s: float = SLOW_S
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._bound = bound_bytes
        self._slow_us = int(slow_s * 1e6)
        self._add = redis.register_script(_ADD)

    async def known(self, trace_ids: Sequence[str]) -> list[str]:
        """Those of the traces that are kept."""
        if not trace_ids:
            return []
        texts = await self._redis.hmget(self._keys.trace_summaries, list(trace_ids))
        return [name for name, text in zip(trace_ids, texts, strict=True) if text is not None]

    async def add(self, parts: Sequence[Part]) -> None:
        """Takes parts of traces in, and drops what is over the bound."""
        if not parts:
            return
        keys = self._keys
        shared = [keys.traces, keys.traces_kept, keys.trace_summaries, keys.trace_requests, keys.trace_bytes]
        # In batches of scripts, each atomic by itself: a trace's parts need no more.
        async with self._redis.pipeline(transaction=False) as batch:
            for part in parts:
                summary = {
                    "start": part.start_us,
                    "finish": part.end_us,
                    "name": part.name,
                    "root": part.root,
                    "failed": part.failed,
                    "services": list(part.services),
                    "instances": list(part.instances),
                    "spans": part.count,
                    "request": part.request,
                }
                await self._add(
                    keys=[*shared, keys.trace(part.trace_id), keys.trace("")],
                    args=[
                        part.trace_id,
                        base64.b64encode(part.spans).decode(),
                        json.dumps(summary),
                        self._slow_us,
                        self._bound,
                    ],
                    client=batch,
                )
            await batch.execute()

    async def summaries(self, *, kept_only: bool = False) -> AsyncIterator[Summary]:
        """The traces, the newest first; failed and slow ones only if `kept_only`."""
        sets = [self._keys.traces_kept] if kept_only else [self._keys.traces_kept, self._keys.traces]
        newest: list[Any] = [await self._redis.zrevrange(each, 0, -1, withscores=True) for each in sets]
        order = [str(name) for name, _ in heapq.merge(*newest, key=lambda entry: -float(entry[1]))]
        for begin in range(0, len(order), _CHUNK):
            names = order[begin : begin + _CHUNK]
            texts = await self._redis.hmget(self._keys.trace_summaries, names)
            for name, text in zip(names, texts, strict=True):
                if text is not None:  # dropped meanwhile
                    yield _summary(name, json.loads(text))

    async def get(self, name: str) -> tuple[Summary, list[bytes]] | None:
        """A trace and its encoded parts, by its id or its request's; None if it is not kept."""
        found = await self._redis.hget(self._keys.trace_requests, name)
        trace_id = str(found or name)
        text = await self._redis.hget(self._keys.trace_summaries, trace_id)
        if text is None:
            return None
        parts = await self._redis.lrange(self._keys.trace(trace_id), 0, -1)
        return _summary(trace_id, json.loads(text)), [base64.b64decode(part) for part in parts]


def _summary(trace_id: str, known: dict[str, Any]) -> Summary:
    return Summary(
        trace_id=trace_id,
        name=known["name"],
        start_us=int(known["start"]),
        end_us=int(known["finish"]),
        services=tuple(sorted(known["services"] or ())),
        instances=tuple(sorted(known.get("instances") or ())),
        spans=int(known["spans"]),
        failed=bool(known["failed"]),
    )
