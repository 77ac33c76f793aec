"""Spans that cost a call little: what is known of one is gathered, and it is made once, as it is sent.

The SDK's own spans lock, check and copy at each attribute, and a replica's call has six of them, which
cost more than the call itself. Resource, sampler and processor are the SDK's.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode
from opentelemetry.util.types import Attributes, AttributeValue

_SCOPE = InstrumentationScope("meshwork")


@dataclass(frozen=True, slots=True)
class Recorder:
    """Makes spans.

    Attributes:
        resource: the process.
        sampler: decides which calls are traced.
        send: takes a span that is over.
    """

    resource: Resource
    sampler: Sampler
    send: Callable[[ReadableSpan], None]

    def begin(
        self, name: str, context: contexts.Context, kind: SpanKind, attributes: Mapping[str, AttributeValue]
    ) -> trace.Span:
        """A span below the one of `context`; one that records nothing if its trace is not sampled."""
        above = trace.get_current_span(context).get_span_context()
        trace_id = above.trace_id if above.is_valid else _identity(128)
        decided = self.sampler.should_sample(context, trace_id, name, kind, attributes)
        flags = trace.TraceFlags(
            trace.TraceFlags.SAMPLED if decided.decision is Decision.RECORD_AND_SAMPLE else 0
        )
        own = SpanContext(trace_id, _identity(64), False, flags, decided.trace_state)
        if decided.decision is Decision.DROP:
            return trace.NonRecordingSpan(own)
        return Recorded(self, name, own, above if above.is_valid else None, kind, attributes, time.time_ns())


class Recorded(trace.Span):
    """A span that is sent when it ends; see `opentelemetry.trace.Span`."""

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        kind: SpanKind,
        attributes: Mapping[str, AttributeValue] | None,
        begun_ns: int,
        links: Iterable[Link] = (),
    ) -> None:
        self._recorder = recorder
        self._name = name
        self._context = context
        self._parent = parent
        self._kind = kind
        self._attributes = dict(attributes or {})
        self._events: list[Event] = []
        self._links = [*links]
        self._status = Status()
        self._begun_ns = begun_ns
        self._over = False

    def part(
        self, name: str, begun_ns: int, ended_ns: int, attributes: Attributes, links: Iterable[SpanContext]
    ) -> SpanContext:
        """Sends a span of something that is over, as a part of this one."""
        context = self._context
        own = SpanContext(context.trace_id, _identity(64), False, context.trace_flags, context.trace_state)
        linked = [Link(each) for each in links]
        kind = SpanKind.INTERNAL
        Recorded(self._recorder, name, own, context, kind, attributes, begun_ns, linked).end(ended_ns)
        return own

    def end(self, end_time: int | None = None) -> None:
        """Sends it; a second end does nothing."""
        if self._over:
            return
        self._over = True
        self._recorder.send(
            ReadableSpan(
                name=self._name,
                context=self._context,
                parent=self._parent,
                resource=self._recorder.resource,
                attributes=self._attributes,
                events=self._events,
                links=self._links,
                kind=self._kind,
                instrumentation_scope=_SCOPE,
                status=self._status,
                start_time=self._begun_ns,
                end_time=end_time or time.time_ns(),
            )
        )

    def get_span_context(self) -> SpanContext:
        """Its identity."""
        return self._context

    def set_attributes(self, attributes: Mapping[str, AttributeValue]) -> None:
        """Adds facts."""
        self._attributes.update(attributes)

    def set_attribute(self, key: str, value: AttributeValue) -> None:
        """Adds a fact."""
        self._attributes[key] = value

    def add_event(self, name: str, attributes: Attributes = None, timestamp: int | None = None) -> None:
        """Says that something happened, now unless `timestamp` (ns since 1970) says when."""
        self._events.append(Event(name, attributes, timestamp))

    def add_link(self, context: SpanContext, attributes: Attributes = None) -> None:
        """Says that another span belongs to it."""
        self._links.append(Link(context, attributes))

    def update_name(self, name: str) -> None:
        """Gives it another name."""
        self._name = name

    def is_recording(self) -> bool:
        """Whether anything can still be added."""
        return not self._over

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        """Says whether it failed."""
        self._status = status if isinstance(status, Status) else Status(status, description)

    def record_exception(
        self,
        exception: BaseException,
        attributes: Attributes = None,
        timestamp: int | None = None,
        escaped: bool = False,
    ) -> None:
        """Adds an event of the exception's type; its text may be a caller's data."""
        self.add_event("exception", {"exception.type": type(exception).__name__}, timestamp)


def _identity(bits: int) -> int:
    """A random one; 0 would be none."""
    return random.getrandbits(bits) or 1
