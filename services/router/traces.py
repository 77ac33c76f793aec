"""The router's window on traces: takes spans by OTLP, keeps some in Redis, shows them.

`opentelemetry.proto.collector.trace.v1.TraceService` is served at the router's own address, as by any
collector; which traces are kept `tail` decides. Their spans are gathered for a moment and written
together, so a call's spans cost no round trip each. What comes faster than it can be taken is dropped
and counted, never queued without bound.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1 import common_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from meshwork.errors import InvalidArgument, NotFound, Unavailable
from meshwork.names import trace_id
from meshwork.serving.fields import page
from meshwork.state.connect import REDIS_AWAY
from meshwork.state.traces import Part, Summary, Traces
from meshwork.trace.v1 import trace_pb2 as pb
from meshwork.trace.v1 import trace_pb2_grpc
from services.router.tail import ERROR, Entry, Tail

log = logging.getLogger(__name__)

WRITE_S = 0.25  # how long spans are gathered
_REQUEST = "guid:x-request-id"

Context = grpc.aio.ServicerContext[Any, Any]


class TraceStore(trace_service_pb2_grpc.TraceServiceServicer):
    """Takes spans in and writes those of traces that are kept.

    Attributes:
        dropped: spans that could not be taken, or not be written, since the start.
    """

    def __init__(self, traces: Traces, tail: Tail) -> None:
        self._traces = traces
        self._tail = tail
        self.dropped = 0

    @property
    def let_go(self) -> int:
        """Ordinary traces that were not kept, since the start."""
        return self._tail.let_go

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Context
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        """Takes spans; says how many it could not."""
        answer = trace_service_pb2.ExportTraceServiceResponse()
        for resource in request.resource_spans:
            if not self._tail.take(resource):
                came = sum(len(scope.spans) for scope in resource.scope_spans)
                self.dropped += came
                answer.partial_success.rejected_spans += came
                answer.partial_success.error_message = "more spans came than could be written"
        return answer

    async def run(self) -> None:
        """Writes what is kept, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_S)
            kept, due = self._tail.kept(), self._tail.due()
            if not kept and not due:
                continue
            try:
                known = await self._traces.known([identity.hex() for identity in due])
                elsewhere = {identity: due.pop(identity).waiting for identity in map(bytes.fromhex, known)}
                self._tail.unknown(due)
                entries = [*kept.items(), *elsewhere.items()]
                await self._traces.add([part(identity, each) for identity, each in entries])
            except REDIS_AWAY as error:
                lost = sum(map(len, kept.values()))
                self.dropped += lost
                log.warning("%d spans are lost, Redis does not take them: %s", lost, error)


def part(identity: bytes, entries: Sequence[Entry]) -> Part:
    """Spans of one trace, and what they say of it."""
    kept = trace_pb2.TracesData()
    own: dict[int, trace_pb2.ScopeSpans] = {}
    for resource, span in entries:
        if id(resource) not in own:
            own[id(resource)] = kept.resource_spans.add(resource=resource.resource).scope_spans.add()
        own[id(resource)].spans.append(span)
    spans = [span for _, span in entries]
    first = min(spans, key=lambda span: (bool(span.parent_span_id), span.start_time_unix_nano))
    resources = [each.resource.attributes for each in kept.resource_spans]
    return Part(
        trace_id=identity.hex(),
        spans=kept.SerializeToString(),
        start_us=min(span.start_time_unix_nano for span in spans) // 1000,
        end_us=max(span.end_time_unix_nano for span in spans) // 1000,
        name=first.name,
        root=not first.parent_span_id,
        failed=any(span.status.code == ERROR for span in spans),
        services=sorted({_text(each, "service.name") for each in resources}),
        instances=sorted({_text(each, "service.instance.id") for each in resources} - {""}),
        count=len(spans),
        request=next((found for span in spans if (found := _text(span.attributes, _REQUEST))), ""),
    )


class TraceService(trace_pb2_grpc.TraceServiceServicer):
    """Answers from what is kept."""

    def __init__(self, traces: Traces) -> None:
        self._traces = traces

    async def ListTraces(self, request: pb.ListTracesRequest, context: Context) -> pb.ListTracesResponse:
        """The traces that fit, the newest first."""
        if request.min_duration_ms < 0:
            raise InvalidArgument(
                f"should be 0 or more, not {request.min_duration_ms}", field="min_duration_ms"
            )
        least_us = request.min_duration_ms * 1000
        try:
            fit = [
                summary
                async for summary in self._traces.summaries(kept_only=request.failed)
                if request.service in ("", *summary.services)
                and request.instance in ("", *summary.instances)
                and (summary.failed or not request.failed)
                and summary.end_us - summary.start_us >= least_us
            ]
        except REDIS_AWAY as error:
            raise _away(error) from error
        entries, token = page(fit, request.page_size, request.page_token)
        return pb.ListTracesResponse(traces=map(_line, entries), next_page_token=token)

    async def GetTrace(self, request: pb.GetTraceRequest, context: Context) -> pb.GetTraceResponse:
        """A trace's spans."""
        name = trace_id(request.trace_id.strip().lower())
        try:
            found = await self._traces.get(name)
        except REDIS_AWAY as error:
            raise _away(error) from error
        if found is None:
            raise NotFound(
                f"trace_id: no trace {name!r} is kept here; its spans come within some 2 s of the call, of "
                "many ordinary traces only some are kept, and the oldest make room for new ones",
                kind="trace",
                name=name,
            )
        summary, encoded = found
        return pb.GetTraceResponse(summary=_line(summary), spans=in_order(_spans(encoded)))


def _away(error: Exception) -> Unavailable:
    return Unavailable(f"Redis, which keeps the traces, does not answer: {error}")


def _line(summary: Summary) -> pb.TraceSummary:
    made = pb.TraceSummary(
        trace_id=summary.trace_id,
        name=summary.name,
        services=summary.services,
        instances=summary.instances,
        spans=summary.spans,
        failed=summary.failed,
    )
    made.start_time.FromMicroseconds(summary.start_us)
    made.duration.FromMicroseconds(summary.end_us - summary.start_us)
    return made


def _spans(encoded: Iterable[bytes]) -> Iterable[pb.Span]:
    for part in encoded:
        for resource in trace_pb2.TracesData.FromString(part).resource_spans:
            service = _text(resource.resource.attributes, "service.name")
            instance = _text(resource.resource.attributes, "service.instance.id")
            for scope in resource.scope_spans:
                for span in scope.spans:
                    yield _span(span, service, instance)


def _span(span: trace_pb2.Span, service: str, instance: str) -> pb.Span:
    made = pb.Span(
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex(),
        name=span.name,
        service=service,
        instance=instance,
        attributes=_texts(span.attributes),
        links=[pb.SpanLink(trace_id=link.trace_id.hex(), span_id=link.span_id.hex()) for link in span.links],
        failed=span.status.code == ERROR,
        error=span.status.message,
    )
    made.start_time.FromNanoseconds(span.start_time_unix_nano)
    made.duration.FromNanoseconds(max(0, span.end_time_unix_nano - span.start_time_unix_nano))
    for event in span.events:
        happened = made.events.add(name=event.name, attributes=_texts(event.attributes))
        happened.time.FromNanoseconds(event.time_unix_nano)
    return made


def in_order(spans: Iterable[pb.Span]) -> list[pb.Span]:
    """Spans by their begin, each behind the one that it is a part of and before that one's next."""
    everything = {span.span_id: span for span in spans}
    below: dict[str, list[pb.Span]] = defaultdict(list)
    for span in everything.values():
        known = span.parent_span_id in everything and span.parent_span_id != span.span_id
        below[span.parent_span_id if known else ""].append(span)
    ordered: dict[str, pb.Span] = {}
    waiting = sorted(below[""], key=lambda span: -span.start_time.ToNanoseconds())
    # Spans that are each other's parents, which nobody honest sends, are under no root: they come last.
    while waiting or len(ordered) < len(everything):
        span = waiting.pop() if waiting else next(s for i, s in everything.items() if i not in ordered)
        if span.span_id not in ordered:
            ordered[span.span_id] = span
            waiting += sorted(below[span.span_id], key=lambda each: -each.start_time.ToNanoseconds())
    return list(ordered.values())


def _text(pairs: Iterable[common_pb2.KeyValue], key: str) -> str:
    return next((pair.value.string_value for pair in pairs if pair.key == key), "")


def _texts(pairs: Iterable[common_pb2.KeyValue]) -> dict[str, str]:
    return {pair.key: _plain(pair.value) for pair in pairs}


def _plain(value: common_pb2.AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind is None:
        return ""
    if kind == "array_value":
        return ", ".join(map(_plain, value.array_value.values))
    found = getattr(value, kind)
    if kind == "double_value":
        return f"{found:g}"
    return str(found).lower() if kind == "bool_value" else str(found)
