"""Typed clients of `meshwork.trace.v1`. Generated from meshwork/trace/v1/trace.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from meshwork import calls
from meshwork.trace.v1 import trace_pb2 as pb


class TraceClient(calls.SyncService):
    """Finds and shows the traces that the mesh keeps: those of failed and slow calls longest."""

    FULL_NAME = "meshwork.trace.v1.TraceService"

    def list_traces(
        self,
        *,
        service: str = "",
        failed: bool = False,
        min_duration_ms: int = 0,
        instance: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.TraceSummary]:
        """Lists the traces that are kept, the newest first.

        All pages are fetched.

        Args:
            service: Only traces that this service took part in. Empty for all.
            failed: Only traces with a span that failed.
            min_duration_ms: Only traces that took at least as many milliseconds.
            instance: Only traces that this replica (or router) took part in, by its name. Empty
                for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListTracesRequest(
            service=service,
            failed=failed,
            min_duration_ms=min_duration_ms,
            instance=instance,
        )
        pages = self._pages("ListTraces", request, pb.ListTracesResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.traces]

    def get_trace(
        self,
        trace_id: str,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.GetTraceResponse:
        """Gives all spans of a trace.

        Args:
            trace_id: The trace: its identifier, a `traceparent`, or the gateway's `x-request-
                id`.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GetTraceRequest(
            trace_id=trace_id,
        )
        return self._unary("GetTrace", request, pb.GetTraceResponse, timeout_s, metadata)


class AsyncTraceClient(calls.AsyncService):
    """Finds and shows the traces that the mesh keeps: those of failed and slow calls longest."""

    FULL_NAME = "meshwork.trace.v1.TraceService"

    async def list_traces(
        self,
        *,
        service: str = "",
        failed: bool = False,
        min_duration_ms: int = 0,
        instance: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> list[pb.TraceSummary]:
        """Lists the traces that are kept, the newest first.

        All pages are fetched.

        Args:
            service: Only traces that this service took part in. Empty for all.
            failed: Only traces with a span that failed.
            min_duration_ms: Only traces that took at least as many milliseconds.
            instance: Only traces that this replica (or router) took part in, by its name. Empty
                for all.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.ListTracesRequest(
            service=service,
            failed=failed,
            min_duration_ms=min_duration_ms,
            instance=instance,
        )
        pages = await self._pages("ListTraces", request, pb.ListTracesResponse, timeout_s, metadata)
        return [entry for page in pages for entry in page.traces]

    async def get_trace(
        self,
        trace_id: str,
        *,
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.GetTraceResponse:
        """Gives all spans of a trace.

        Args:
            trace_id: The trace: its identifier, a `traceparent`, or the gateway's `x-request-
                id`.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.GetTraceRequest(
            trace_id=trace_id,
        )
        return await self._unary("GetTrace", request, pb.GetTraceResponse, timeout_s, metadata)
