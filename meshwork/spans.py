"""The spans of calls: of one that a server answers, and of one that a client makes.

It bears the names of OpenTelemetry's semantic conventions for RPC. While nothing configured the SDK,
the caller's context is carried on all the same, so that errors and logs can name the trace.

opentelemetry-instrumentation-grpc makes such spans by interceptors, which replicas have no place for
(they take calls from grpc's C core, see `meshwork.front`) and which clients would pay for with each call; it
also records the text of exceptions, which may be a caller's data.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import grpc
from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from meshwork import telemetry
from meshwork.errors import MeshworkError

_PROPAGATOR = TraceContextTextMapPropagator()
_CARRIED = ("traceparent", "tracestate")
tracer = trace.get_tracer("meshwork")


@contextmanager
def served(full_name: str, method: str, metadata: Iterable[tuple[str, str | bytes]] | None) -> Iterator[Span]:
    """The span of a call that is being answered; current while it is.

    Args:
        full_name: of the proto service.
        method: the rpc's name.
        metadata: what the caller sent; its `traceparent` makes the caller's span the parent.
    """
    carrier = {key: value for key, value in metadata or () if key in _CARRIED and isinstance(value, str)}
    parent = _PROPAGATOR.extract(carrier) if carrier else contexts.Context()
    attributes = {"rpc.system": "grpc", "rpc.service": full_name, "rpc.method": method}
    begin = tracer.start_span if telemetry.recorder is None else telemetry.recorder.begin
    span = begin(f"{full_name}/{method}", parent, SpanKind.SERVER, attributes)
    token = contexts.attach(trace.set_span_in_context(span, parent))
    try:
        yield span
    finally:
        contexts.detach(token)
        span.end()


@contextmanager
def calling(
    full_name: str, method: str, more: Mapping[str, str] | None = None
) -> Iterator[tuple[tuple[str, str], ...]]:
    """The span of a call that is being made, as a part of the current one; gives the metadata to send.

    It is not made current: a stream's caller goes on with work of its own between two answers. An
    error that does not name its trace is told it.

    Args:
        more: further attributes.
    """
    attributes = {"rpc.system": "grpc", "rpc.service": full_name, "rpc.method": method, **(more or {})}
    span = tracer.start_span(f"{full_name}/{method}", kind=SpanKind.CLIENT, attributes=attributes)
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier, trace.set_span_in_context(span))
    try:
        yield tuple(carrier.items())
    except MeshworkError as error:
        if not error.trace_id and span.get_span_context().is_valid:
            error.trace_id = f"{span.get_span_context().trace_id:032x}"
        ended(span, error.code, str(error), blame=True)
        raise
    else:
        ended(span, grpc.StatusCode.OK)
    finally:
        span.end()


def ended(span: Span, code: grpc.StatusCode, text: str = "", *, blame: bool = False) -> None:
    """Says how the call ended: a server's span is an error by what the server is to blame for.

    Args:
        blame: whether anything but OK makes it an error, as in a caller's span.
    """
    if not span.is_recording():
        return
    span.set_attribute("rpc.grpc.status_code", code.value[0])
    if code in _SERVER_ERRORS or (blame and code is not grpc.StatusCode.OK):
        span.set_status(Status(StatusCode.ERROR, text))
    elif text:
        span.set_attribute("error.message", text)


# OpenTelemetry, "Semantic conventions for gRPC": the codes that make a server's span an error.
_SERVER_ERRORS = {
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


def trace_id() -> str:
    """The id of the trace that is being served, as 32 hexadecimal digits; "" if there is none."""
    context = trace.get_current_span().get_span_context()
    return f"{context.trace_id:032x}" if context.is_valid else ""


class Moments:
    """Turns times of the monotonic clock into the nanoseconds since 1970 that spans have."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def ns(self, monotonic: float) -> int:
        """That moment."""
        return int((monotonic + self._offset) * 1e9)
