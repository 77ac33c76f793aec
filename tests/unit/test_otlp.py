"""What is sent is what the SDK's encoder makes of the same spans."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from meshwork.otlp import encoded

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=200)
PLAIN = st.one_of(
    TEXT,
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False).filter(lambda value: value != 0.0),  # 0.0 and -0.0 are one key of a cache
)
ATTRIBUTES = st.dictionaries(TEXT, PLAIN | st.lists(TEXT, max_size=3) | st.binary(max_size=3), max_size=5)
STATES = st.just(TraceState()) | st.just(TraceState([("a", "1"), ("b", "2")]))
CONTEXTS = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.just(TraceFlags(1)),
    STATES,
)
TIMES = st.integers(0, 2**63)
RESOURCES = [Resource({"service.name": "a"}), Resource({"service.name": "b"}, "https://schema/1")]
SCOPES = [None, InstrumentationScope("meshwork"), InstrumentationScope("redis", "1", "https://schema/2")]
SPANS = st.builds(
    ReadableSpan,
    name=TEXT,
    context=CONTEXTS,
    parent=st.none() | CONTEXTS,
    resource=st.sampled_from(RESOURCES),
    attributes=ATTRIBUTES,
    events=st.lists(st.builds(Event, TEXT, ATTRIBUTES, TIMES), max_size=2),
    links=st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=2),
    kind=st.sampled_from(SpanKind),
    instrumentation_scope=st.sampled_from(SCOPES),
    status=st.sampled_from([Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "why")]),
    start_time=TIMES,
    end_time=TIMES,
)


def parsed(body: bytes) -> Any:
    return ExportTraceServiceRequest.FromString(body)


@given(st.lists(SPANS, max_size=4))
def test_the_bytes_are_those_of_the_sdk(spans: list[ReadableSpan]) -> None:
    assert parsed(encoded(spans)) == encode_spans(spans)


def test_an_attribute_that_cannot_be_encoded_costs_no_other() -> None:
    context = SpanContext(1, 1, False, TraceFlags(1))
    odd: dict[str, Any] = {"a": 2**70, "b": object(), "c": "fine", "d": "\ud800"}
    span = ReadableSpan("s", context, resource=RESOURCES[0], attributes=odd, start_time=1, end_time=2)
    (sent,) = parsed(encoded([span])).resource_spans[0].scope_spans[0].spans
    assert [pair.key for pair in sent.attributes] == ["c"]
