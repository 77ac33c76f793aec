"""Spans as OTLP's bytes: as the SDK's own encoder writes them, in a fifth of its time.

A replica's call has six spans, and the SDK makes some fifty protobuf objects in Python of them, which
cost more than all else that tracing does. Here the bytes are put together, and pairs of a key and a
value, of which most come again and again, are encoded once. Sending, batches, retries and the encoding
of rare values (lists and maps) are the SDK's.

Source of the field numbers: opentelemetry-proto, trace/v1/trace.proto and common/v1/common.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from opentelemetry.exporter.otlp.proto.common._internal import _encode_key_value
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext

from meshwork.protobuf import nested, varint

_PLAIN = frozenset((str, bool, int, float))
# SpanFlags: whether the parent is remote is known, and it is.
_KNOWN = trace_pb2.SPAN_FLAGS_CONTEXT_HAS_IS_REMOTE_MASK
_REMOTE = trace_pb2.SPAN_FLAGS_CONTEXT_IS_REMOTE_MASK
_FIXED = struct.Struct("<BQ")
_TIMES = struct.Struct("<BQBQ")
_FLAGS = struct.Struct("<I")


class SpanExporter(OTLPSpanExporter):
    """The SDK's, with this encoder."""

    def _translate_data(self, data: Sequence[ReadableSpan]) -> ExportTraceServiceRequest:
        return ExportTraceServiceRequest.FromString(encoded(data))


def encoded(spans: Iterable[ReadableSpan]) -> bytes:
    """An ExportTraceServiceRequest with these spans, grouped by resource and scope."""
    groups: dict[int, tuple[Any, dict[int, tuple[Any, list[bytes]]]]] = {}
    for span in spans:
        resource, scope = span.resource, span.instrumentation_scope
        _, scopes = groups.setdefault(id(resource), (resource, {}))
        _, bodies = scopes.setdefault(id(scope), (scope, []))
        bodies.append(nested(2, _span(span)))
    whole = []
    for resource, scopes in groups.values():
        parts = [nested(1, _attributes(1, resource.attributes))]
        for scope, bodies in scopes.values():
            head = nested(1, _scope(scope))
            tail = _text(3, scope.schema_url or "") if scope else b""
            parts.append(nested(2, head + b"".join(bodies) + tail))
        parts.append(_text(3, resource.schema_url or ""))
        whole.append(nested(1, b"".join(parts)))
    return b"".join(whole)


def _scope(scope: Any) -> bytes:
    if scope is None:
        return b""
    return _text(1, scope.name) + _text(2, scope.version or "") + _attributes(3, scope.attributes)


def _span(span: ReadableSpan) -> bytes:
    context, parent, status = span.context, span.parent, span.status
    assert context is not None
    parts = [_ids(context)]
    if context.trace_state:
        parts.append(_text(3, _state(context)))
    remote = 0
    if parent is not None:
        parts.append(b'"\x08' + parent.span_id.to_bytes(8, "big"))
        remote = _REMOTE if parent.is_remote else 0
    parts.append(_named(span.name, span.kind.value + 1))
    parts.append(_TIMES.pack(7 << 3 | 1, span.start_time or 0, 8 << 3 | 1, span.end_time or 0))
    parts.append(_attributes(9, span.attributes))
    parts.append(_count(10, span.dropped_attributes))
    parts.extend(nested(11, _event(event)) for event in span.events)
    parts.append(_count(12, span.dropped_events))
    parts.extend(nested(13, _link(link)) for link in span.links)
    parts.append(_count(14, span.dropped_links))
    parts.append(nested(15, _text(2, status.description or "") + _count(3, status.status_code.value)))
    parts.append(b"\x85\x01" + _FLAGS.pack(_KNOWN | remote))
    return b"".join(parts)


@lru_cache(maxsize=1024)
def _named(name: str, kind: int) -> bytes:
    return _text(5, name) + _count(6, kind)


def _event(event: Event) -> bytes:
    when = _FIXED.pack(1 << 3 | 1, event.timestamp)
    attributes = _attributes(3, event.attributes)
    return when + _text(2, event.name) + attributes + _count(4, event.dropped_attributes)


def _link(link: Link) -> bytes:
    remote = _REMOTE if link.context.is_remote else 0
    attributes = _attributes(4, link.attributes) + _count(5, link.dropped_attributes)
    return _ids(link.context) + attributes + b"\x35" + _FLAGS.pack(_KNOWN | remote)


def _ids(context: SpanContext) -> bytes:
    return b"\n\x10" + context.trace_id.to_bytes(16, "big") + b"\x12\x08" + context.span_id.to_bytes(8, "big")


def _state(context: SpanContext) -> str:
    return ",".join(f"{key}={value}" for key, value in context.trace_state.items())


def _attributes(field: int, attributes: Mapping[str, Any] | None) -> bytes:
    if not attributes:
        return b""
    pairs = []
    for key, value in attributes.items():
        try:
            pairs.append((_pair if type(value) in _PLAIN else _rare)(field, key, value))
        except Exception:  # noqa: S112 - as the SDK does: what can't be encoded is left out
            continue
    return b"".join(pairs)


@lru_cache(maxsize=8192, typed=True)
def _pair(field: int, key: str, value: str | float) -> bytes:
    return _rare(field, key, value)


def _rare(field: int, key: str, value: Any) -> bytes:
    return nested(field, _encode_key_value(key, value).SerializeToString())


def _text(field: int, text: str) -> bytes:
    return nested(field, text.encode(errors="replace")) if text else b""


def _count(field: int, number: int) -> bytes:
    return bytes((field << 3,)) + varint(number) if number else b""
