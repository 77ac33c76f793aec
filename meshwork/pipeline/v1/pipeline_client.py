"""Typed clients of `meshwork.pipeline.v1`. Generated from meshwork/pipeline/v1/pipeline.proto; do not edit."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import Any

from google.protobuf import struct_pb2

from meshwork import calls
from meshwork.pipeline.v1 import pipeline_pb2 as pb


class PipelineClient(calls.SyncService):
    """Runs pipelines: models whose card says which methods of other services to call, and with what."""

    FULL_NAME = "meshwork.pipeline.v1.PipelineService"

    def run(
        self,
        inputs: Mapping[str, Any] | struct_pb2.Struct,
        *,
        model: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RunResponse:
        """Runs a pipeline's steps, each as soon as it has what it needs.

        The first step that fails ends the call with its error, which names the step. Safe to
        repeat with the same `request_id`, which steps that take one are given.

        Args:
            inputs: What the pipeline's steps refer to as `$inputs.NAME`: all of it, and nothing
                else. Bytes are base64.
            model: The pipeline: empty for the default, `name` for its live version,
                `name@version` for that version.
            request_id: Names this request, so that a retry of it changes nothing twice: a UUID
                for example, at most 64 characters. Empty means that a retry runs every step
                again.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RunRequest(
            inputs=calls.struct(inputs),
            model=model,
            request_id=request_id or calls.new_request_id(),
        )
        return self._unary("Run", request, pb.RunResponse, timeout_s, metadata)


class AsyncPipelineClient(calls.AsyncService):
    """Runs pipelines: models whose card says which methods of other services to call, and with what."""

    FULL_NAME = "meshwork.pipeline.v1.PipelineService"

    async def run(
        self,
        inputs: Mapping[str, Any] | struct_pb2.Struct,
        *,
        model: str = "",
        request_id: str = "",
        timeout_s: float | None = None,
        metadata: calls.Metadata = (),
    ) -> pb.RunResponse:
        """Runs a pipeline's steps, each as soon as it has what it needs.

        The first step that fails ends the call with its error, which names the step. Safe to
        repeat with the same `request_id`, which steps that take one are given.

        Args:
            inputs: What the pipeline's steps refer to as `$inputs.NAME`: all of it, and nothing
                else. Bytes are base64.
            model: The pipeline: empty for the default, `name` for its live version,
                `name@version` for that version.
            request_id: Names this request, so that a retry of it changes nothing twice: a UUID
                for example, at most 64 characters. Empty means that a retry runs every step
                again.
            timeout_s: seconds until the call fails; None for the client's.
            metadata: pairs of a name and a value, to send beside the request.

        Raises:
            MeshworkError: the call failed; its class says how (see meshwork.errors).
        """
        request = pb.RunRequest(
            inputs=calls.struct(inputs),
            model=model,
            request_id=request_id or calls.new_request_id(),
        )
        return await self._unary("Run", request, pb.RunResponse, timeout_s, metadata)
