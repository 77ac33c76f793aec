"""Which traces are kept, decided when their spans are there: tail sampling.

Every trace with a span that failed, every slow one, and of the others so many a second; those wait
`HOLD_S` in memory for a span that speaks for them, and on while what they are part of still runs in its
process. What takes part in many calls is looked at span by span, so a span costs some microseconds here,
and what is not kept costs Redis nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from opentelemetry.proto.trace.v1 import trace_pb2

HOLD_S = 6.0  # for spans of a call's other processes, which send theirs each second, and for slow callers
LONGEST_S = 900.0  # for the end of what runs; a process that was killed never tells it
MOST_HELD = 100_000  # spans in memory
BURST_S = 10.0  # the ordinary traces of so long may come at once
ERROR = trace_pb2.Status.STATUS_CODE_ERROR  # of a span that failed
# Of a span's flags: whether its parent is in another process is known, and it is.
_KNOWN = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK

Entry = tuple[trace_pb2.ResourceSpans, trace_pb2.Span]  # a span, and who made it


@dataclass(slots=True)
class Held:
    """A trace that spans came of lately.

    Attributes:
        since: when its first spans came.
        looked_at: when it was last decided that it waits; at first `since`.
        waiting: its spans that were not handed over.
    """

    since: float
    looked_at: float
    kept: bool
    start_ns: int
    end_ns: int
    waiting: list[Entry] = field(default_factory=list)

    def lasted(self, start_ns: int, end_ns: int) -> None:
        """Takes in that a part of it lasted from then until then."""
        self.start_ns = min(self.start_ns, start_ns)
        self.end_ns = max(self.end_ns, end_ns)

    @property
    def runs(self) -> bool:
        """Whether a span is part of one, in its own process, that has not ended."""
        ended = {span.span_id for _, span in self.waiting}
        return any(
            span.parent_span_id and span.parent_span_id not in ended
            for _, span in self.waiting
            if span.flags & (_KNOWN | _REMOTE) == _KNOWN
        )


class Tail:
    """Holds spans until it is clear whether their traces are kept.

    Args:
        slow_s: a trace of at least this duration is kept.
        per_s: ordinary traces a second that are kept, on average.
        clock: in seconds, monotonic.

    Attributes:
        let_go: traces that were not kept, since the start.
    """

    def __init__(self, *, slow_s: float, per_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._slow_ns = int(slow_s * 1e9)
        self._per_s = per_s
        self._clock = clock
        self._traces: dict[bytes, Held] = {}  # by when they were looked at
        self._ready: dict[bytes, Held] = {}
        self._held = 0
        self._allowed, self._allowed_at = per_s * BURST_S, clock()
        self.let_go = 0

    def take(self, resource: trace_pb2.ResourceSpans) -> bool:
        """Takes spans; False, and none of them, if too many wait already."""
        count = sum(len(scope.spans) for scope in resource.scope_spans)
        self._make_room(count)
        if self._held + count > MOST_HELD:
            return False
        self._held += count
        now = self._clock()
        for scope in resource.scope_spans:
            for span in scope.spans:
                identity = span.trace_id
                start_ns, end_ns = span.start_time_unix_nano, span.end_time_unix_nano
                trace = self._traces.get(identity)
                if trace is None:
                    if len(identity) != 16:  # no trace has such an id
                        self._held -= 1
                        continue
                    trace = self._traces[identity] = Held(now, now, self._ordinary(now), start_ns, end_ns)
                else:
                    trace.lasted(start_ns, end_ns)
                trace.waiting.append((resource, span))
                self._decide(identity, trace, failed=span.status.code == ERROR)
        return True

    def _decide(self, identity: bytes, trace: Held, *, failed: bool = False) -> None:
        if trace.kept or trace.end_ns - trace.start_ns >= self._slow_ns or failed:
            trace.kept = True
            self._ready[identity] = trace

    def kept(self) -> dict[bytes, list[Entry]]:
        """Hands over what came of traces that are kept."""
        ready, self._ready = self._ready, {}
        return {identity: self._handed(trace) for identity, trace in ready.items()}

    def due(self) -> dict[bytes, Held]:
        """Hands over, and forgets, the traces that nothing spoke for in time.

        Another router may keep one: then these are spans of it. Tell `unknown` of the others.
        """
        return self._forgotten(self._clock() - HOLD_S)

    def unknown(self, traces: Mapping[bytes, Held]) -> None:
        """Takes back those that are part of what still runs, and counts the others: nobody keeps them."""
        now = self._clock()
        for identity, trace in traces.items():
            if now - trace.since >= LONGEST_S or not trace.runs:
                self.let_go += 1
                continue
            self._held += len(trace.waiting)
            if newer := self._traces.get(identity):  # more came while Redis was asked
                newer.since = trace.since
                newer.lasted(trace.start_ns, trace.end_ns)
                newer.waiting[:0] = trace.waiting
                self._decide(identity, newer)
            else:
                trace.looked_at = now
                self._traces[identity] = trace

    def _make_room(self, count: int) -> None:
        """Lets the oldest traces go while there are too many spans."""
        while self._held + count > MOST_HELD and self._traces:
            oldest = next(iter(self._traces.values()))
            self.let_go += len(self._forgotten(oldest.looked_at))

    def _forgotten(self, before: float) -> dict[bytes, Held]:
        """Forgets what was looked at until then; gives the traces that are not kept."""
        old: list[bytes] = []
        for identity, trace in self._traces.items():
            if trace.looked_at > before:
                break
            old.append(identity)
        gone = {identity: self._traces.pop(identity) for identity in old}
        unkept = {identity: trace for identity, trace in gone.items() if not trace.kept}
        self._held -= sum(len(trace.waiting) for trace in unkept.values())
        return unkept

    def _handed(self, trace: Held) -> list[Entry]:
        entries, trace.waiting = trace.waiting, []
        self._held -= len(entries)
        return entries

    def _ordinary(self, now: float) -> bool:
        """Whether one more ordinary trace is kept: a bucket that fills by `per_s`."""
        full = self._per_s * BURST_S
        self._allowed = min(full, self._allowed + (now - self._allowed_at) * self._per_s)
        self._allowed_at = now
        if self._allowed < 1:
            return False
        self._allowed -= 1
        return True
