"""An OTLP endpoint that keeps the spans it receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1 import trace_pb2

WAIT_S = 30


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Spans in the order of their coming, each with its process's `service.name`.

    Attributes:
        endpoint: for OTEL_EXPORTER_OTLP_ENDPOINT.
    """

    def __init__(self) -> None:
        self.endpoint = ""
        self.spans: list[tuple[str, trace_pb2.Span]] = []
        self._came = asyncio.Condition()

    async def Export(
        self, request: trace_service_pb2.ExportTraceServiceRequest, context: Any
    ) -> trace_service_pb2.ExportTraceServiceResponse:
        for resource in request.resource_spans:
            service = attributes(resource.resource.attributes)["service.name"]
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        async with self._came:
            self._came.notify_all()
        return trace_service_pb2.ExportTraceServiceResponse()

    async def until(self, fits: Callable[[list[tuple[str, trace_pb2.Span]]], bool]) -> None:
        """Waits until the spans that came fit."""
        async with asyncio.timeout(WAIT_S), self._came:
            await self._came.wait_for(lambda: fits(self.spans))


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """One that listens on a free port of the loopback."""
    server = grpc.aio.server()
    kept = Collector()
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(kept, server)
    kept.endpoint = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        yield kept
    finally:
        await server.stop(None)


def attributes(pairs: Any) -> dict[str, Any]:
    """OTLP attributes as plain values."""
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        found[pair.key] = getattr(pair.value, kind) if kind else None
    return found
